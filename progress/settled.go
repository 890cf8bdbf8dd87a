package progress

import (
	"sort"

	"github.com/embermq/embermq/message"
)

// maxRanges bounds what a group may settle out of order in one queue, and
// maxHolds how many unsettled records may have attempts or a lease: memory and
// the row on disk stay within a few megabytes.
const (
	maxRanges = 1 << 16
	maxHolds  = 1 << 16
)

// isSettled reports whether o needs no delivery any more.
func (r *row) isSettled(o int64) bool {
	if o < r.offset {
		return true
	}
	i := r.rangeAt(o)
	return i < len(r.settled) && r.settled[i].From <= o
}

// rangeAt is the index of the first range that ends behind o.
func (r *row) rangeAt(o int64) int {
	if n := len(r.settled); n == 0 || r.settled[n-1].To <= o {
		return n // work goes upwards mostly
	}
	return sort.Search(len(r.settled), func(i int) bool { return r.settled[i].To > o })
}

// opens reports whether settling o would begin one more range.
func (r *row) opens(o int64) bool {
	if o <= r.offset {
		return false
	}
	i := r.rangeAt(o)
	if i < len(r.settled) && r.settled[i].From <= o+1 {
		return false
	}
	return i == 0 || r.settled[i-1].To < o
}

// settle marks one offset and reports whether it was unsettled.
func (r *row) settle(o int64) bool {
	if r.isSettled(o) {
		return false
	}
	r.settleRange(o, o+1)
	return true
}

// settleRange marks [from, to), of which parts may be settled already.
func (r *row) settleRange(from, to int64) {
	from = max(from, r.offset)
	if from >= to {
		return
	}
	r.dropHolds(from, to)
	if from == r.offset {
		r.raise(to)
		return
	}
	// Ranges i to j-1 touch the new one and become part of it.
	i := r.rangeAt(from - 1)
	j := i
	for j < len(r.settled) && r.settled[j].From <= to {
		j++
	}
	if i == j {
		r.settled = append(r.settled, message.Range{})
		copy(r.settled[i+1:], r.settled[i:])
		r.settled[i] = message.Range{From: from, To: to}
		return
	}
	r.settled[i] = message.Range{From: min(from, r.settled[i].From), To: max(to, r.settled[j-1].To)}
	r.settled = append(r.settled[:i+1], r.settled[j:]...)
}

// raise moves the committed offset up, over all that is settled right behind it.
func (r *row) raise(to int64) {
	if to <= r.offset {
		return
	}
	r.dropHolds(r.offset, to)
	r.offset = to
	n := 0
	for ; n < len(r.settled) && r.settled[n].From <= r.offset; n++ {
		r.offset = max(r.offset, r.settled[n].To)
	}
	if n == len(r.settled) {
		r.settled = r.settled[:0]
		if cap(r.settled) > 64 {
			r.settled = nil
		}
	} else if n > 0 {
		r.settled = append(r.settled[:0], r.settled[n:]...)
	}
}

// place sets the committed offset anywhere and forgets all that lies above.
func (r *row) place(offset int64) {
	r.offset, r.settled, r.holds, r.leases = offset, nil, nil, nil
}

// cut forgets all from end on.
func (r *row) cut(end int64) (changed bool) {
	if r.offset > end {
		r.place(end)
		return true
	}
	for n := len(r.settled); n > 0 && r.settled[n-1].To > end; n = len(r.settled) {
		changed = true
		if last := &r.settled[n-1]; last.From < end {
			last.To = end
			break
		}
		r.settled = r.settled[:n-1]
	}
	for o := range r.holds {
		if o >= end {
			r.dropHold(r.holds[o])
			changed = true
		}
	}
	return changed
}
