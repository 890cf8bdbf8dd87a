package consumer

import (
	"github.com/google/btree"

	"github.com/embermq/embermq/message"
)

// unit is messages of one queue that are settled together: what one handler call
// gets where order does not matter, else a single message.
type unit struct {
	from, to int64 // the offsets [from, to)
	topic    string
	ds       []*Delivery // nil once finished
	bytes    int64
	line     *line // nil where there is no order to keep
	finished bool
	told     bool // finished, and the engine knows although lower ones are not
}

// flight is everything of one queue that has been read and not been settled
// below a gap, ordered by offset, so that the lowest unsettled message is at hand.
// It is guarded by Push.mu.
//
// Invariant: offsets below committed are settled in the engine, those between
// committed and lowest here; the tree's lowest unit is not finished.
type flight struct {
	tree      *btree.BTreeG[*unit]
	next      int64 // the offset to read next
	committed int64
	untold    int // units that are finished, not below lowest, and not told

	count int   // messages that are not finished
	bytes int64 // and theirs
}

func newFlight(next int64) flight {
	return flight{
		tree:      btree.NewG(16, func(a, b *unit) bool { return a.from < b.from }),
		next:      next,
		committed: next,
	}
}

// lowest is the lowest unsettled offset.
func (f *flight) lowest() int64 {
	if u, ok := f.tree.Min(); ok {
		return u.from
	}
	return f.next
}

func (f *flight) add(u *unit) {
	f.tree.ReplaceOrInsert(u)
	f.count += len(u.ds)
	f.bytes += u.bytes
}

// finish takes a unit that is settled here. It lets go of its messages.
func (f *flight) finish(u *unit) {
	f.unload(u)
	u.finished = true
	f.untold++
	for {
		low, ok := f.tree.Min()
		if !ok || !low.finished {
			return
		}
		f.tree.DeleteMin()
		if !low.told {
			f.untold--
		}
	}
}

// unload lets go of a unit's messages, whether it is finished or not.
func (f *flight) unload(u *unit) {
	f.count -= len(u.ds)
	f.bytes -= u.bytes
	u.ds, u.bytes = nil, 0
}

// rewind forgets everything from an offset on, to be read again. It returns what
// of it is finished.
func (f *flight) rewind(to int64) (finished []*unit) {
	f.next = to
	for {
		u, ok := f.tree.Max()
		if !ok || u.from < to {
			return finished
		}
		f.tree.DeleteMax()
		if u.finished {
			finished = append(finished, u)
			if !u.told {
				f.untold--
			}
		}
		f.unload(u)
	}
}

// due appends verdicts for what is settled here and not in the engine: everything
// below lowest, and with all also what is finished above it. They are sorted by
// offset, so that a crash between two of them keeps the order of each key.
func (f *flight) due(q message.Queue, all bool, vs []message.Verdict) []message.Verdict {
	if low := f.lowest(); low > f.committed {
		vs = append(vs, message.Verdict{Queue: q, Offset: low - 1, Kind: message.DoneThrough})
	}
	if !all || f.untold == 0 {
		return vs
	}
	f.tree.Ascend(func(u *unit) bool {
		if u.finished && !u.told {
			for at := u.from; at < u.to; at++ {
				vs = append(vs, message.Verdict{Queue: q, Offset: at, Kind: message.Done})
			}
		}
		return true
	})
	return vs
}

// knows notes that the engine has carried out verdicts of due.
func (f *flight) knows(vs []message.Verdict) {
	for _, v := range vs {
		if v.Kind == message.DoneThrough {
			f.committed = max(f.committed, v.Offset+1)
			continue
		}
		if u, ok := f.tree.Get(&unit{from: v.Offset}); ok && u.finished && !u.told {
			u.told = true
			f.untold--
		}
	}
}
