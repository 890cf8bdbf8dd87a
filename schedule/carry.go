package schedule

import (
	"context"
	"errors"
	"fmt"

	"github.com/embermq/embermq/message"
)

const carryBatch = 256

// Lowest is a position that no pending timer's record lies below; false when
// nothing is pending. It is exact to 64 MiB.
func (s *Schedule) Lowest() (position int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, b := range s.mu.buckets {
		if p := n << bucketShift; b.count > 0 && (!ok || p < position) {
			position, ok = p, true
		}
	}
	return position, ok
}

// Carry appends the pending timers whose records lie below before once more, so
// that those records may be removed. Every timer keeps its time and its id.
// When it returns nil, none is left below and the copies are on disk.
//
// It reads through all pending timers unless none lies so low: call it for many
// segments at once. After an error those that were carried stay carried. A
// timer whose record cannot be read any more is an error that matches
// message.ErrCorrupt; the others are carried all the same.
func (s *Schedule) Carry(ctx context.Context, before int64) (carried int, err error) {
	for {
		if p, ok := s.Lowest(); !ok || p >= before {
			return carried, nil
		}
		n, busy, err := s.carryPass(ctx, before)
		carried += n
		if err != nil {
			return carried, err
		}
		if len(busy) == 0 {
			s.carriedAll(before)
			return carried, nil
		}
		for _, done := range busy {
			select {
			case <-done:
			case <-ctx.Done():
				return carried, fmt.Errorf("schedule: carry: %w", ctx.Err())
			}
		}
	}
}

// carryPass goes over all timers once. It returns what to wait for before the
// next pass.
func (s *Schedule) carryPass(ctx context.Context, before int64) (carried int, busy []<-chan struct{}, err error) {
	var damaged error
	for low := (key{}); low.less(maxKey); {
		page, next, gen, err := s.page(low, maxKey)
		if err != nil {
			return carried, nil, err
		}
		for from := 0; from < len(page); from += carryBatch {
			if err := ctx.Err(); err != nil {
				return carried, nil, fmt.Errorf("schedule: carry: %w", err)
			}
			n, waits, err := s.carrySome(page[from:min(from+carryBatch, len(page))], gen, before)
			carried += n
			busy = append(busy, waits...)
			if err != nil && !errors.Is(err, message.ErrCorrupt) {
				return carried, nil, err
			}
			damaged = errors.Join(damaged, err)
		}
		low = next
	}
	return carried, busy, damaged
}

// carrySome carries those of a page that lie too low.
func (s *Schedule) carrySome(page []row, gen uint64, before int64) (carried int, busy []<-chan struct{}, err error) {
	o := newOp(opCarry)
	defer close(o.done)
	var ts []*timer
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return 0, nil, fmt.Errorf("schedule: carry: %w", message.ErrClosed)
	}
	s.work.Add(1)
	defer s.work.Done()
	for i := range page {
		r := &page[i]
		if r.pos >= before || s.isDeadLocked(r.key) {
			continue
		}
		t := s.findLocked(r.key)
		if t == nil {
			// A row that came from disk still counts if no save was carried out
			// since: else its end would be known here. One that came from memory
			// may have ended without a trace.
			tp := s.topicLocked(r.topic)
			if r.pos < tp.floor {
				continue
			}
			if !r.disk || s.mu.gen != gen {
				busy = append(busy, closed)
				continue
			}
			t = s.timerOf(r, tp)
			s.knowLocked(t)
		}
		if b, ok := s.mu.busy[t.key]; ok && b.op.kind != opPark {
			busy = append(busy, b.op.done)
			continue
		}
		s.claimLocked(t, o)
		ts = append(ts, t)
	}
	s.mu.Unlock()
	defer func() {
		if !fatal(err) {
			s.mu.Lock()
			s.returnLocked(ts, o)
			s.mu.Unlock()
		}
	}()
	var damaged error
	for rest := ts; len(rest) > 0; {
		n, done, skipped, err := s.carryGroup(rest)
		carried += done
		damaged = errors.Join(append(skipped, damaged)...)
		if err != nil {
			return carried, busy, err
		}
		rest = rest[n:]
	}
	return carried, busy, damaged
}

// closed makes Carry go over all timers again at once.
var closed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// carryGroup appends the first of ts that fit one group. n of them were dealt
// with, carried were written; skipped says which of the others cannot be.
func (s *Schedule) carryGroup(ts []*timer) (n, carried int, skipped []error, err error) {
	g := Group{OnDisk: true, Reserve: true}
	records, bufs := make([]message.Record, len(ts)), make([][]byte, len(ts))
	bytes := 0
	for i, t := range ts {
		if bytes += int(t.size); bytes > groupBytes && i > 0 {
			break
		}
		n++
		w, err := s.read(t, &bufs[i], &records[i])
		if err != nil {
			if lasting(err) {
				skipped = append(skipped, err)
				continue
			}
			return 0, 0, nil, err
		}
		w.due = t.due
		g.Copies = append(g.Copies, again(t, &records[i], &w,
			message.Property{Name: message.PropCarries, Value: message.Hex16(t.pos), Own: true}))
	}
	for len(g.Copies) > 0 {
		err := s.o.Appender.Append(context.Background(), &g)
		c := (*CopyError)(nil)
		if errors.As(err, &c) && c.Index >= 0 && c.Index < len(g.Copies) {
			if !errors.Is(c, message.ErrNotFound) { // else its topic is gone, and it too
				skipped = append(skipped, &message.CorruptError{Offset: g.Copies[c.Index].Of, Reason: "waiting record cannot be carried", Err: c})
			}
			g.Copies = append(g.Copies[:c.Index], g.Copies[c.Index+1:]...)
			continue
		}
		if err != nil {
			return 0, 0, nil, fmt.Errorf("schedule: carry: %w", err)
		}
		return n, len(g.Copies), skipped, nil
	}
	return n, 0, skipped, nil
}

// carriedAll follows a pass that left nothing pending below before. What the
// buckets still count there are rows of topics that were deleted.
func (s *Schedule) carriedAll(before int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, b := range s.mu.buckets {
		if (n+1)<<bucketShift <= before && b.count > 0 {
			b.count = 0
			s.dirtyBucketLocked(b)
		}
	}
}
