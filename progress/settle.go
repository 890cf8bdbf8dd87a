package progress

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/message"
)

// Ensure creates a group with default settings unless it exists, as a first
// Commit would, and counts as a sign of life.
func (p *Progress) Ensure(ctx context.Context, group string) error {
	if err := p.ensure(ctx, group); err != nil {
		return err
	}
	p.Touch(group)
	return nil
}

// Standing is how far the group has come in the queue. It waits for records under
// way that settle something there: whoever asks afterwards knows of them.
//
// Under another epoch than the group's the error is message.ErrFenced.
func (p *Progress) Standing(ctx context.Context, group string, epoch uint64, q message.Queue) (message.Standing, error) {
	now := p.o.Clock.Now()
	for {
		s, landed, err := p.standing(group, epoch, q, now)
		if err != nil || landed == nil {
			return s, err
		}
		select {
		case <-landed:
		case <-ctx.Done():
			return message.Standing{}, ctx.Err()
		}
	}
}

// Place is Standing for whoever only looks: it waits for nothing and is no sign of
// life.
func (p *Progress) Place(group string, q message.Queue) (s message.Standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.mu.groups[group]; g != nil {
		if r := g.findRow(q); r != nil {
			pl := r.placeNow()
			s = message.Standing{Known: true, Committed: pl.offset, Settled: pl.settled}
		}
	}
	return s
}

func (p *Progress) standing(group string, epoch uint64, q message.Queue, now time.Time) (s message.Standing, landed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, err := p.underLocked(group, epoch)
	if err != nil {
		return s, nil, err
	}
	p.seenLocked(g, now)
	r := g.findRow(q)
	if r == nil {
		return s, nil, nil
	}
	if r.flights > 0 {
		if r.landed == nil {
			r.landed = make(chan struct{})
		}
		return s, r.landed, nil
	}
	pl := r.placeNow()
	s = message.Standing{Known: true, Committed: pl.offset, Settled: pl.settled}
	for _, h := range pl.holds {
		if h.lease != 0 || h.attempts == 0 {
			continue
		}
		if s.Attempts == nil {
			s.Attempts = make(map[int64]int)
		}
		s.Attempts[h.offset] = h.attempts
	}
	return s, nil, nil
}

// underLocked finds a group that still has the epoch.
func (p *Progress) underLocked(group string, epoch uint64) (*group, error) {
	if p.mu.closed {
		return nil, message.ErrClosed
	}
	g := p.mu.groups[group]
	if g == nil {
		return nil, unknownGroup(group)
	}
	if g.epoch != epoch {
		return nil, fmt.Errorf("progress: group %q: epoch %d is over: %w", group, epoch, message.ErrFenced)
	}
	return g, nil
}

// CheckOffsets makes sure that the verdicts name records that exist. It comes
// before Settle, because it asks Options.Bounds.
func (p *Progress) CheckOffsets(vs []message.Verdict) error {
	var last message.Queue
	var start, end int64
	for i := range vs {
		v := &vs[i]
		if i == 0 || v.Queue != last {
			var err error
			if start, end, err = p.o.Bounds(v.Queue); err != nil {
				return fmt.Errorf("progress: bounds of %s: %w", v.Queue, err)
			}
			last = v.Queue
		}
		if v.Kind == message.Begin && v.Offset == end {
			continue
		}
		if v.Offset >= end || v.Offset < 0 && !(v.Kind == message.DoneThrough && v.Offset == -1) {
			return &message.RangeError{Queue: v.Queue, Offset: v.Offset, Start: start, End: end}
		}
	}
	return nil
}

// Settle carries verdicts out in memory, in their order; they are on disk as
// after Commit. CheckOffsets has passed them. It stops at the first that cannot
// be carried out and says how many were. begun is true when the group got its
// first place in some queue: until a Flush a crash may take that back, and the
// group would begin elsewhere.
//
// It takes Begin, Done, DoneThrough, Failed, Extend and, of leased records, Retry with
// any After: zero is Options.RetryAfter, less is at once. The error is message.ErrFenced for another epoch and for a lease that is over,
// message.ErrBusy when more is settled out of order than fits into memory, and one
// that IsSpent knows for a Retry of a leased record that had its last.
func (p *Progress) Settle(group string, epoch uint64, vs []message.Verdict) (done int, begun bool, err error) {
	now := p.o.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	g, err := p.underLocked(group, epoch)
	if err != nil {
		return 0, false, err
	}
	p.seenLocked(g, now)
	var r *row
	for i := range vs {
		v := &vs[i]
		if r == nil || r.id != v.Queue.ID || r.t.name != v.Queue.Topic {
			r = p.rowLocked(g, v.Queue)
		}
		if r.offset < 0 {
			begun = true
			switch v.Kind {
			case message.DoneThrough:
			case message.Begin:
				r.offset = v.Offset
			default:
				r.offset = 0 // nobody said where to begin: what lies lower is delivered, not skipped
			}
		}
		if err := p.obey(r, v, now); err != nil {
			return i, begun, fmt.Errorf("progress: group %q: %v of %s at %d: %w", group, v.Kind, v.Queue, v.Offset, err)
		}
		p.rowDirtyLocked(r)
	}
	return len(vs), begun, nil
}

// obey carries one verdict out. It needs mu.
func (p *Progress) obey(r *row, v *message.Verdict, now time.Time) error {
	switch v.Kind {
	case message.DoneThrough:
		r.raise(v.Offset + 1)
		return nil
	case message.Begin:
		return nil // Settle has placed a row that had no place
	}
	if v.Lease == 0 && r.isSettled(v.Offset) {
		return nil
	}
	if err := r.checkLease(v.Offset, v.Lease); err != nil {
		return err
	}
	switch v.Kind {
	case message.Done:
		if len(r.settled) >= maxRanges && r.opens(v.Offset) {
			return fmt.Errorf("too many settled out of order: %w", message.ErrBusy)
		}
		r.settle(v.Offset)
	case message.Failed:
		h := r.holdAt(v.Offset)
		if h == nil {
			return fmt.Errorf("too many failed records: %w", message.ErrBusy)
		}
		h.attempts++
	case message.Extend, message.Retry:
		if v.Lease == 0 {
			return fmt.Errorf("without a lease: %w", message.ErrUnsupported)
		}
		h := r.holds[v.Offset]
		after := v.After
		if v.Kind == message.Retry {
			if h.attempts > max(r.t.g.settings.RetryMax, 0) {
				return errSpent
			}
			if after == 0 {
				after = p.o.RetryAfter(h.attempts)
			}
		}
		r.change(h, func() {
			h.until = ceilMilli(now.Add(max(after, 0)))
			if v.Kind == message.Retry {
				h.lease = 0
			}
		})
	default:
		return message.ErrUnsupported
	}
	return nil
}

// errSpent says that a record was retried as often as its group allows.
var errSpent = errors.New("retried as often as the group allows")

// IsSpent reports whether Settle refused to retry a leased record because its
// group allows no more; it becomes a dead letter.
func IsSpent(err error) bool { return errors.Is(err, errSpent) }

// ceilMilli is the first millisecond that is not before t: nothing is visible
// early.
func ceilMilli(t time.Time) int64 { return t.Add(time.Millisecond - 1).UnixMilli() }

// Flight is a record under way that settles another one.
type Flight struct {
	Settlement message.Settlement
	// Attempts is how often the record was delivered in vain, as far as progress
	// counts that.
	Attempts int
	// Begun: the group's place in the queue is not on disk. It has to be flushed
	// before the record is written, or a replay would not know what to settle.
	Begun bool

	p *Progress
	r *row
	h *hold
}

// errSettled says that there is nothing left to settle.
var errSettled = errors.New("progress: settled already")

// IsSettled reports whether TakeOff found its record settled.
func IsSettled(err error) bool { return errors.Is(err, errSettled) }

// TakeOff announces a record that will settle an offset, once at a time. Until
// Land nobody is given the offset, and Standing waits. The error is
// message.ErrFenced for another epoch or for a lease that is over,
// message.ErrBusy while another record for it is under way, and one that
// IsSettled knows when nothing is left to settle.
func (p *Progress) TakeOff(group string, epoch uint64, q message.Queue, offset int64, lease uint64) (*Flight, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, err := p.underLocked(group, epoch)
	if err != nil {
		return nil, err
	}
	r := p.rowLocked(g, q)
	if r.offset < 0 {
		r.offset = 0 // see Settle
		p.rowDirtyLocked(r)
	}
	if r.isSettled(offset) {
		if lease != 0 {
			return nil, message.ErrFenced
		}
		return nil, errSettled
	}
	if err := r.checkLease(offset, lease); err != nil {
		return nil, err
	}
	h := r.holdAt(offset)
	if h == nil || h.flying {
		return nil, message.ErrBusy
	}
	r.fly(h, true)
	r.flights++
	return &Flight{p: p, r: r, h: h, Attempts: h.attempts, Begun: !r.stored,
		Settlement: message.Settlement{Group: g.name, Epoch: epoch, Queue: message.Queue{Topic: r.t.name, ID: r.id}, Offset: offset}}, nil
}

// Land ends a flight: the record was appended and applied, or was not written.
func (f *Flight) Land() {
	p, r := f.p, f.r
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.holds[f.h.offset] == f.h { // it was not written
		r.fly(f.h, false)
		if f.h.attempts == 0 && f.h.lease == 0 {
			r.dropHold(f.h)
		}
	}
	if r.flights--; r.flights == 0 && r.landed != nil {
		close(r.landed)
		r.landed = nil
	}
}
