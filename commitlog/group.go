package commitlog

import (
	"fmt"
	"sync/atomic"

	"github.com/embermq/embermq/message"
)

// Sequence gives out the offsets of one queue. Only the log's write leader moves
// it, and takes back what it gave to records that could not be written.
type Sequence struct {
	next   atomic.Int64
	closed bool // owned by the write leader
}

// ErrSequenceClosed is the error of an append whose sequence was closed by a
// group in front of it in the log (Group.Closes). It matches ErrNotFound.
var ErrSequenceClosed = fmt.Errorf("commitlog: append: queue closed: %w", message.ErrNotFound)

// NewSequence returns a sequence whose next offset is next.
func NewSequence(next int64) *Sequence {
	s := &Sequence{}
	s.next.Store(next)
	return s
}

// Next is the offset that the next record gets. While appends are under way it
// may include records that are not written yet.
func (s *Sequence) Next() int64 { return s.next.Load() }

// Set moves the sequence. Only for recovery, before the first append.
func (s *Sequence) Set(next int64) { s.next.Store(next) }

// Entry is one record of a group. The caller fills Draft, Seq and Home; the log
// fills in where the record went.
type Entry struct {
	Draft message.Draft
	// Seq gives the queue offset. If nil, the record gets Offset as it is.
	Seq *Sequence
	// Home is the caller's own and comes back in Apply.
	Home any

	Position int64 // where the record lies in the log
	Offset   int64 // its offset in the queue
	StoredAt int64 // store time in milliseconds
}

// Mark ties derived state to the log as it is behind this entry.
func (e *Entry) Mark() message.Mark {
	return message.Mark{Offset: e.Position + int64(e.Draft.Size()), Fingerprint: e.Draft.Sum()}
}

// Group is what one Append writes: all of its records or, after a crash, none.
// Of a group of more than one record the caller has put EMBER_GROUP into the
// first.
//
// Ownership. Append and AppendAsync give the log a hold on the group beside the
// caller's. Whatever they return, the caller calls Release once when it has read
// what it wants, and does not touch the group afterwards. When both holds are
// gone the group goes to Options.Release, where a pool takes it. An append that
// gave up waiting leaves the group with the log: the caller must then not read or
// change it, only Release it.
type Group struct {
	Entries []Entry
	// OnDisk waits for the sync.
	OnDisk bool
	// Reserve lets the group use the last room on the disk.
	Reserve bool
	// Closes are sequences that end here: groups behind this one that use them are
	// refused with ErrSequenceClosed.
	Closes []*Sequence
	// Done is called once for a group given to AppendAsync, on a goroutine of
	// the log, which must not be blocked. It may read the group and owes the
	// Release.
	Done func(g *Group, err error)
	// Owner is the caller's own.
	Owner any

	log     *Log
	barrier bool      // the log's own, of nothing
	ready   chan role // holds at most one
	size    int64     // bytes of the records
	// arena is what records are encoded in, one behind the other; used is where
	// the next one begins. joined says that all of them lie there.
	arena  []byte
	used   int
	joined bool
	end    int64 // position behind the last record, once placed
	err    error
	holds  atomic.Int32

	// The rest is guarded by Log.mu.
	next       *Group // in the gathering list, a batch, the pending list, or a list to finish
	nextAnswer *Group // in a chain of groups to answer before they are finished
	role       role   // what it was chosen for and has not begun, or roleDone
	async      bool
	abandoned  bool // its Append gave up waiting; never set once role is roleDone
	answered   bool // its caller was told while its entries still wait to be applied
}

// Add appends an entry to the group and returns it. Its draft is empty. Records
// that are encoded in the order of Add follow each other in memory, as far as the
// group has any from earlier uses, and are written from there.
func (g *Group) Add() *Entry {
	n := len(g.Entries)
	if n < cap(g.Entries) {
		g.Entries = g.Entries[:n+1]
	} else {
		g.Entries = append(g.Entries, Entry{})
	}
	if n > 0 {
		g.used += g.Entries[n-1].Draft.Size()
	}
	e := &g.Entries[n]
	e.Draft.Lend(g.arena[min(g.used, len(g.arena)):])
	e.Seq, e.Home, e.Position, e.Offset, e.StoredAt = nil, nil, 0, 0, 0
	return e
}

// keptArena is the most memory that a group keeps for records.
const keptArena = 2 << 20

// Reset empties a group that nobody holds. It keeps memory for as much as it had.
func (g *Group) Reset() {
	need := 0
	for i := range g.Entries {
		e := &g.Entries[i]
		need += e.Draft.Size()
		e.Draft.Lend(nil)
		e.Seq, e.Home = nil, nil
	}
	g.Entries, g.used = g.Entries[:0], 0
	if need > len(g.arena) && need <= keptArena {
		g.arena = make([]byte, need+min(need, paveStep))
	}
	g.OnDisk, g.Reserve = false, false
	g.Closes, g.Done, g.Owner, g.err = nil, nil, nil, nil
}

// Size is how many bytes of log the group takes, once it has been appended.
func (g *Group) Size() int64 { return g.size }

// bytes returns the records with pad zeros behind them where they lie, or nil if
// that is not in one piece.
func (g *Group) bytes(pad int64) []byte {
	if !g.joined || g.size+pad > int64(len(g.arena)) {
		return nil
	}
	clear(g.arena[g.size : g.size+pad])
	return g.arena[:g.size+pad]
}

// usesClosed reports whether one of the group's sequences is closed.
func (g *Group) usesClosed() bool {
	for i := range g.Entries {
		if s := g.Entries[i].Seq; s != nil && s.closed {
			return true
		}
	}
	return false
}

// Release gives up the caller's hold.
func (g *Group) Release() { g.drop() }

// drop gives up one hold; the last one hands the group back.
func (g *Group) drop() {
	if g.holds.Add(-1) != 0 || g.log == nil {
		return
	}
	if f := g.log.o.Release; f != nil && !g.barrier {
		f(g)
	}
}

// prepare makes the group ready for one append and counts its bytes.
func (g *Group) prepare(l *Log, async bool) {
	g.log, g.async = l, async
	g.abandoned, g.answered = false, false
	g.next, g.nextAnswer, g.role, g.err = nil, nil, roleNone, nil
	g.end, g.size, g.joined = 0, 0, true
	for i := range g.Entries {
		b := g.Entries[i].Draft.Bytes()
		g.joined = g.joined && len(b) > 0 && g.size < int64(len(g.arena)) && &b[0] == &g.arena[g.size]
		g.size += int64(len(b))
	}
	if g.ready == nil && !async {
		g.ready = make(chan role, 1)
	}
	g.holds.Store(1)
}

// groupList is a queue of groups, linked by next.
type groupList struct{ head, tail *Group }

func (q *groupList) push(g *Group) {
	g.next = nil
	if q.tail == nil {
		q.head = g
	} else {
		q.tail.next = g
	}
	q.tail = g
}

// join puts all groups of p behind those of q.
func (q *groupList) join(p groupList) {
	switch {
	case p.head == nil:
	case q.tail == nil:
		*q = p
	default:
		q.tail.next = p.head
		q.tail = p.tail
	}
}

func (q *groupList) pop() *Group {
	g := q.head
	if g == nil {
		return nil
	}
	q.head = g.next
	if q.head == nil {
		q.tail = nil
	}
	g.next = nil
	return g
}
