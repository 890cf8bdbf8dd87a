package txn

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/google/btree"

	"github.com/embermq/embermq/message"
)

// ident stands for a half's id: the 16 bytes that its 32 hex digits spell, or
// the start of a hash of any other text. The zero ident is no id.
type ident [16]byte

// identOf also says whether the text is lost in the ident.
func identOf(id string) (i ident, hashed bool) {
	if id == "" {
		return ident{}, false
	}
	if i.decode(id) && i != (ident{}) {
		return i, false
	}
	sum := sha256.Sum256([]byte(id))
	copy(i[:], sum[:])
	return i, true
}

// decode reads 32 upper-case hex digits.
func (i *ident) decode(s string) bool {
	if len(s) != 2*len(i) {
		return false
	}
	for n := range i {
		a, b := upperHex[s[2*n]], upperHex[s[2*n+1]]
		if a|b > 15 {
			return false
		}
		i[n] = a<<4 | b
	}
	return true
}

// upperHex is the value of a digit; 255 for what is none.
var upperHex = func() (t [256]byte) {
	for c := range t {
		t[c] = 255
	}
	for v, c := range "0123456789ABCDEF" {
		t[c] = byte(v)
	}
	return t
}()

// state says in which of the two topics a half lies.
type state uint8

const (
	pending state = iota // On disk. Do not renumber.
	givenUp
)

// row is what is saved of a half.
type row struct {
	pos    int64
	offset int64 // in the half topic: the verdict names it
	born   int64 // milliseconds
	shield int64 // immunity in milliseconds; -1 is the usual time
	size   int32
	checks int32
	state  state
	real   message.Queue
	group  string // the producer group
	id     ident
	text   string // the id, if the ident does not spell it
}

// half is one half that has no final verdict. The fields of row but checks never
// change. The rest is guarded by Coordinator.mu.
type half struct {
	row
	of    *group
	next  int64 // when it is asked about, in milliseconds
	busy  *op   // an append decides about it
	asked *ask  // somebody is being asked about it
	due   bool  // it is in its group's tree
	// stored says that a save has, or may have, written its row.
	stored bool
	fresh  int32 // index in Coordinator.mu.fresh; -1 is not there
}

func (h *half) handle() string {
	if h.text != "" {
		return h.text
	}
	return strings.ToUpper(hex.EncodeToString(h.id[:]))
}

// op is one append. Guarded by Coordinator.mu.
type op struct {
	done chan struct{} // closed when the append has returned; nil if nobody waits
}

// waitLocked returns what to wait for.
func (o *op) waitLocked() <-chan struct{} {
	if o.done == nil {
		o.done = make(chan struct{})
	}
	return o.done
}

// doneLocked wakes who waits. No half is busy with o any more.
func (o *op) doneLocked() {
	if o.done != nil {
		close(o.done)
		o.done = nil
	}
}

// item orders the halves of a group by when they are asked about.
type item struct {
	next, pos int64
	h         *half
}

type tree = btree.BTreeG[item]

func newTree() *tree {
	return btree.NewG(32, func(a, b item) bool { return a.next < b.next || a.next == b.next && a.pos < b.pos })
}

// group is a producer group: its halves, and who is asked about them.
type group struct {
	name     string
	due      *tree // halves that wait to be asked about
	deciders []*decider
	turn     int
	halves   int // in due or not
}

// hex16 is a number as the EMBER_ properties write it. On disk.
func hex16(v int64) string {
	var b [16]byte
	putHex16(b[:], v)
	return string(b[:])
}

func putHex16(b []byte, v int64) {
	const digits = "0123456789abcdef"
	for i, u := 15, uint64(v); i >= 0; i, u = i-1, u>>4 {
		b[i] = digits[u&15]
	}
}

// parseHex16 reads a number that hex16 wrote.
func parseHex16(s string) (v int64, ok bool) {
	if len(s) != 16 {
		return 0, false
	}
	var u uint64
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			u = u<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			u = u<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return int64(u), int64(u) >= 0
}
