package txn

import (
	"github.com/google/btree"

	ids "github.com/embermq/embermq/internal/ident"
	"github.com/embermq/embermq/message"
)

// ident stands for an id in memory and on disk.
type ident = ids.ID

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
	return h.id.Text()
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
