package progress

import (
	"github.com/google/btree"

	"github.com/embermq/embermq/message"
)

// hold is what is known of an unsettled record that was delivered: how often,
// and who may see it.
type hold struct {
	offset   int64
	attempts int
	lease    uint64 // zero: nobody has it
	until    int64  // ms; nobody else sees it before
	// flying: a record under way will settle it, so nobody is given it.
	flying bool
}

// leases is what a queue that is leased from has besides its holds.
type leases struct {
	// byTime has every hold that is not flying, by the end of its invisibility.
	byTime *btree.BTreeG[*hold]
	// cursor is the first offset that no lease has looked at. What lies below is
	// settled or held.
	cursor int64
	scan   chan struct{} // one token: who has it reads on from the cursor
}

func earlier(a, b *hold) bool {
	return a.until < b.until || a.until == b.until && a.offset < b.offset
}

// leased returns the queue's leases. After Open the cursor begins at the committed
// offset: a kill may have forgotten leases anywhere behind it.
func (r *row) leased() *leases {
	if r.leases == nil {
		r.leases = &leases{byTime: btree.NewG(16, earlier), cursor: r.offset, scan: make(chan struct{}, 1)}
		for _, h := range r.holds {
			if !h.flying {
				r.leases.byTime.ReplaceOrInsert(h)
			}
		}
	}
	return r.leases
}

// holdAt finds or makes a hold; nil when there is no room for one more.
func (r *row) holdAt(o int64) *hold {
	h := r.holds[o]
	if h == nil && len(r.holds) < maxHolds {
		h = &hold{offset: o}
		if r.holds == nil {
			r.holds = make(map[int64]*hold)
		}
		r.holds[o] = h
		r.listed(h)
	}
	return h
}

// change takes h out of the order of time while f changes it.
func (r *row) change(h *hold, f func()) {
	if r.leases != nil {
		r.leases.byTime.Delete(h)
	}
	f()
	r.listed(h)
}

func (r *row) listed(h *hold) {
	if r.leases != nil && !h.flying {
		r.leases.byTime.ReplaceOrInsert(h)
	}
}

func (r *row) dropHold(h *hold) {
	if r.leases != nil {
		r.leases.byTime.Delete(h)
	}
	delete(r.holds, h.offset)
}

// dropHolds forgets the holds in [from, to).
func (r *row) dropHolds(from, to int64) {
	if len(r.holds) == 0 {
		return
	}
	if to-from <= int64(len(r.holds)) {
		for o := from; o < to; o++ {
			if h := r.holds[o]; h != nil {
				r.dropHold(h)
			}
		}
		return
	}
	for o, h := range r.holds {
		if from <= o && o < to {
			r.dropHold(h)
		}
	}
}

// fly keeps a hold from being given to anybody while a record that settles it is
// under way.
func (r *row) fly(h *hold, flying bool) {
	r.change(h, func() { h.flying = flying })
}

// checkLease says whether a verdict under this lease counts: zero is for records
// that nobody has leased.
func (r *row) checkLease(o int64, lease uint64) error {
	var has uint64
	if h := r.holds[o]; h != nil {
		has = h.lease
	}
	if has != lease {
		return message.ErrFenced
	}
	return nil
}
