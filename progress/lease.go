package progress

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/embermq/embermq/message"
)

// Taken is a lease on the record at an offset.
type Taken struct {
	Offset  int64
	Lease   uint64
	Attempt int
	Until   time.Time
}

// Leasing is one caller's work on a queue that is leased from. It reads the log
// between the calls, so they hold no lock; Release ends it.
type Leasing struct {
	p       *Progress
	group   string
	epoch   uint64
	q       message.Queue
	until   time.Time
	scanned *leases // whose scan token it has
}

// Lease begins to take leases that end at until.
func (p *Progress) Lease(group string, epoch uint64, q message.Queue, until time.Time) *Leasing {
	return &Leasing{p: p, group: group, epoch: epoch, q: q, until: until}
}

// Release gives back the right to read on.
func (l *Leasing) Release() {
	if l.scanned != nil {
		<-l.scanned.scan
		l.scanned = nil
	}
}

// rowLocked finds the queue's row, which begins at start when there is none.
func (l *Leasing) rowLocked(start int64) (r *row, begun bool, err error) {
	g, err := l.p.underLocked(l.group, l.epoch)
	if err != nil {
		return nil, false, err
	}
	r = l.p.rowLocked(g, l.q)
	if r.offset < 0 {
		r.offset, begun = max(start, 0), true
		l.p.rowDirtyLocked(r)
	}
	return r, begun, nil
}

// Again takes up to n records whose invisibility is over, lowest time first. Those
// that were delivered as often as most allows are in spent: nobody gets them, and
// they stay as they are. Records below start are gone and become settled.
func (l *Leasing) Again(start int64, n, most int) (taken, spent []Taken, begun bool, err error) {
	p := l.p
	now := p.o.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	r, begun, err := l.rowLocked(start)
	if err != nil {
		return nil, nil, false, err
	}
	p.seenLocked(r.t.g, now)
	if start > r.offset {
		r.settleRange(r.offset, start)
		p.rowDirtyLocked(r)
	}
	ms := now.UnixMilli()
	var due []*hold
	r.leased().byTime.Ascend(func(h *hold) bool {
		if h.until > ms || len(due) == n {
			return false
		}
		due = append(due, h)
		return true
	})
	for _, h := range due {
		if most > 0 && h.attempts >= most {
			spent = append(spent, Taken{Offset: h.offset, Lease: h.lease, Attempt: h.attempts})
			continue
		}
		taken = append(taken, l.giveLocked(r, h))
	}
	if len(taken) > 0 {
		p.rowDirtyLocked(r)
	}
	slices.SortFunc(taken, func(a, b Taken) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	return taken, spent, begun, nil
}

func (l *Leasing) giveLocked(r *row, h *hold) Taken {
	l.p.mu.lease++
	r.change(h, func() {
		h.lease = l.p.mu.lease
		h.attempts++
		h.until = ceilMilli(l.until)
	})
	return Taken{Offset: h.offset, Lease: h.lease, Attempt: h.attempts, Until: time.UnixMilli(h.until)}
}

// Back returns leases that were taken and not handed on: they count as never
// given.
func (l *Leasing) Back(ts []Taken) {
	p := l.p
	p.mu.Lock()
	defer p.mu.Unlock()
	r, _, err := l.rowLocked(0)
	if err != nil {
		return
	}
	for _, t := range ts {
		if h := r.holds[t.Offset]; h != nil && h.lease == t.Lease {
			r.change(h, func() { h.lease, h.until = 0, 0; h.attempts-- })
			p.rowDirtyLocked(r)
		}
	}
}

// Cursor waits for the right to read on and returns the offset to read from.
// room is how many leases may be taken; with none of it left, others have to be
// settled first.
func (l *Leasing) Cursor(ctx context.Context) (from int64, room int, err error) {
	p := l.p
	p.mu.Lock()
	r, _, err := l.rowLocked(0)
	if err != nil {
		p.mu.Unlock()
		return 0, 0, err
	}
	ls := r.leased()
	p.mu.Unlock()
	select {
	case ls.scan <- struct{}{}:
		l.scanned = ls
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, _, err = l.rowLocked(0); err != nil {
		return 0, 0, err
	}
	if r.leased() != ls {
		return 0, 0, fmt.Errorf("progress: group %q: %s was reset: %w", l.group, l.q, message.ErrFenced)
	}
	room = maxHolds - len(r.holds)
	if len(r.settled) >= maxRanges {
		room = 0
	}
	return r.skip(max(ls.cursor, r.offset)), room, nil
}

// skip is the first offset from o on that is not settled.
func (r *row) skip(o int64) int64 {
	if o < r.offset {
		o = r.offset
	}
	if i := r.rangeAt(o); i < len(r.settled) && r.settled[i].From <= o {
		return r.settled[i].To
	}
	return o
}

// Take leases those of offsets, which are sorted, that nobody has settled or
// holds. All else from the cursor's offset to next did not match and is settled.
// The result has the leases of a part of offsets, in order. It needs Cursor.
func (l *Leasing) Take(from, next int64, offsets []int64) ([]Taken, error) {
	p := l.p
	p.mu.Lock()
	defer p.mu.Unlock()
	r, _, err := l.rowLocked(0)
	if err != nil {
		return nil, err
	}
	if r.leases == nil || r.leases != l.scanned {
		return nil, fmt.Errorf("progress: group %q: %s was reset: %w", l.group, l.q, message.ErrFenced)
	}
	taken := make([]Taken, 0, len(offsets))
	at := from
	for _, o := range offsets {
		r.passLocked(at, o)
		at = o + 1
		if r.isSettled(o) || r.holds[o] != nil {
			continue
		}
		h := r.holdAt(o)
		if h == nil {
			next = o
			break
		}
		taken = append(taken, l.giveLocked(r, h))
	}
	r.passLocked(at, next)
	r.leases.cursor = max(r.leases.cursor, next)
	p.rowDirtyLocked(r)
	return taken, nil
}

// passLocked settles what lies in [from, to) and is not held.
func (r *row) passLocked(from, to int64) {
	if from >= to {
		return
	}
	if len(r.holds) == 0 {
		r.settleRange(from, to)
		return
	}
	for o := from; o < to; o++ {
		if r.holds[o] == nil {
			r.settle(o)
		}
	}
}

// Wait is when the next record that nobody sees now becomes visible; zero when
// there is none.
func (l *Leasing) Wait() time.Time {
	p := l.p
	p.mu.Lock()
	defer p.mu.Unlock()
	r, _, err := l.rowLocked(0)
	if err != nil {
		return time.Time{}
	}
	if h, ok := r.leased().byTime.Min(); ok {
		return time.UnixMilli(h.until)
	}
	return time.Time{}
}
