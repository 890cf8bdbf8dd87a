package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/embermq/embermq/message"
)

// Commit settles, for the group, what has been handed out, or only what lies below
// the given offsets. It takes effect at once; when it is on disk is the engine's to
// say. An offset beyond what was read is a *RangeError; one below what is committed
// does nothing. A queue that went to another member meanwhile is ErrFenced, and the
// others are committed.
func (c *Pull) Commit(ctx context.Context, offsets map[message.Queue]int64) error {
	if err := c.open(); err != nil {
		return err
	}
	if offsets == nil {
		c.finishAll()
	} else if err := c.finishBelow(offsets); err != nil {
		return err
	}
	err := c.commit(ctx, nil)
	c.releaseIdle()
	return err
}

// Committed is the offset that the group reads next in a queue, whoever has it; ok
// is false when it has committed none. In a broadcasting group it is the place that
// this instance has stored.
func (c *Pull) Committed(ctx context.Context, q message.Queue) (offset int64, ok bool, err error) {
	if err := c.open(); err != nil {
		return 0, false, err
	}
	if c.local != nil {
		offset, ok = c.local.get(q)
		return offset, ok, nil
	}
	st, err := c.e.Standing(ctx, c.seat.Claim(), q)
	if err != nil {
		return 0, false, fmt.Errorf("consumer: committed in %v: %w", q, err)
	}
	return st.Committed, st.Known, nil
}

// finishAll counts everything that was handed out as done, unless only Commit
// does that.
func (c *Pull) finishAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sources {
		c.finishLocked(s, s.next)
	}
}

// finishLocked counts what lies below an offset as done.
func (c *Pull) finishLocked(s *source, below int64) {
	if !s.placed || below <= s.done {
		return
	}
	s.done = below
	s.handed = max(s.handed, below)
	n := 0
	for n < len(s.hands) && s.hands[n].Offset() < below {
		n++
	}
	c.handled = append(c.handled, s.hands[:n]...)
	s.hands = s.hands[n:]
}

// finish counts one message of All as done.
func (c *Pull) finish(f *fetched) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.s.version == f.version && !f.s.gone {
		c.finishLocked(f.s, f.next)
	}
}

// finishBelow counts what lies below the given offsets as done.
func (c *Pull) finishBelow(offsets map[message.Queue]int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for q, offset := range offsets {
		s := c.sources[q]
		if s == nil || !s.placed {
			return c.errForeign(q)
		}
		if offset > s.next {
			return fmt.Errorf("consumer: commit: %w", &message.RangeError{Queue: q, Offset: offset, Start: s.stored, End: s.next})
		}
	}
	for q, offset := range offsets {
		c.finishLocked(c.sources[q], offset)
	}
	return nil
}

func (c *Pull) lockCommits(ctx context.Context) error {
	select {
	case c.committing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Pull) unlockCommits() { <-c.committing }

// commit settles what counts as done and is not committed yet, in all queues or
// just in some.
func (c *Pull) commit(ctx context.Context, only []*source) error {
	if err := c.lockCommits(ctx); err != nil {
		return err
	}
	defer c.unlockCommits()
	if err := c.confirm(ctx); err != nil {
		return err
	}
	if only == nil {
		c.mu.Lock()
		for _, s := range c.sources {
			only = append(only, s)
		}
		c.mu.Unlock()
	}
	var errs []error
	for _, s := range only {
		if err := c.commitOne(ctx, s); err != nil {
			errs = append(errs, fmt.Errorf("consumer: commit %v: %w", s.queue, err))
		}
	}
	if c.local != nil {
		errs = append(errs, c.local.save())
	}
	return errors.Join(errs...)
}

// confirm tells the deduper what was handled. A crash behind it settles nothing,
// and what is delivered again is recognised.
func (c *Pull) confirm(ctx context.Context) error {
	c.mu.Lock()
	ds := c.handled
	c.handled = nil
	c.mu.Unlock()
	for i, d := range ds {
		if err := c.o.dedupe.Done(ctx, c.group, d); err != nil {
			c.mu.Lock()
			c.handled = append(ds[i:], c.handled...)
			c.mu.Unlock()
			return fmt.Errorf("consumer: dedupe: %w", err)
		}
	}
	return nil
}

func (c *Pull) commitOne(ctx context.Context, s *source) error {
	c.mu.Lock()
	if !s.placed || s.gone || s.done <= s.stored {
		c.mu.Unlock()
		return nil
	}
	k, done := c.claimLocked(s), s.done
	if k.Epoch != s.epoch {
		// The group was reset: what was read before means nothing now.
		c.displaceLocked(s)
		c.mu.Unlock()
		return message.ErrFenced
	}
	c.mu.Unlock()
	if c.local != nil {
		c.local.set(s.queue, done)
	} else if err := c.e.Settle(ctx, k, message.Verdict{Queue: s.queue, Offset: done - 1, Kind: message.DoneThrough}); err != nil {
		return err
	}
	c.mu.Lock()
	s.stored = max(s.stored, done)
	c.mu.Unlock()
	return nil
}

// displaceLocked makes a source begin where its group is now.
func (c *Pull) displaceLocked(s *source) {
	s.placed = false
	s.version++
	c.dropHands(s)
	c.readyLocked(s)
}

// dropHands forgets what was handed out of a source and will never count as done.
func (c *Pull) dropHands(s *source) {
	for _, d := range s.hands {
		c.o.dedupe.Fail(c.group, d)
	}
	s.hands = nil
}

// placeAlone finds out where a source begins, unless that is known.
func (c *Pull) placeAlone(ctx context.Context, s *source) error {
	c.mu.Lock()
	placed := s.placed && (s.claim.Epoch == s.epoch || c.claimLocked(s).Epoch == s.epoch)
	if s.placed && !placed {
		c.displaceLocked(s)
	}
	c.mu.Unlock()
	if placed {
		return nil
	}
	if err := c.lockCommits(ctx); err != nil {
		return err
	}
	defer c.unlockCommits()
	return c.place(ctx, s)
}

// place is placeAlone for whoever commits.
func (c *Pull) place(ctx context.Context, s *source) error {
	c.mu.Lock()
	placed, k, version := s.placed, c.claimLocked(s), s.version
	c.mu.Unlock()
	if placed {
		return nil
	}
	var st message.Standing
	var err error
	if c.local != nil {
		st.Committed, st.Known = c.local.get(s.queue)
	} else if st, err = c.e.Standing(ctx, k, s.queue); err != nil {
		return err
	}
	at, err := c.o.start.resolve(ctx, c.e, s.queue, st.Committed, st.Known, c.o.clock.Now())
	if err != nil {
		return err
	}
	// The beginning is committed: what arrives before the first commit is not
	// passed over by a consumer that starts again at the end.
	if !st.Known && !c.o.push.manual {
		if c.local != nil {
			c.local.set(s.queue, at)
		} else if err := c.e.Settle(ctx, k, message.Verdict{Queue: s.queue, Offset: at, Kind: message.Begin}); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.version == version {
		s.placed, s.epoch, s.settled = true, k.Epoch, st.Settled
		s.next, s.handed, s.done, s.stored = at, at, at, st.Committed
		if !st.Known {
			s.stored = at
		}
	}
	return nil
}

// giveBack is called when queues are revoked: what is not in the user's hands goes
// at once, the rest with the next Poll or Commit.
func (c *Pull) giveBack([]*source) { c.releaseIdle() }

func (c *Pull) releaseIdle() {
	c.mu.Lock()
	var idle []*source
	for _, s := range c.sources {
		if s.revoked && s.handed <= s.done {
			idle = append(idle, s)
		}
	}
	c.mu.Unlock()
	if len(idle) == 0 {
		return
	}
	if !c.o.push.manual {
		// Whoever gets the queue begins where the group is; an error costs
		// repetitions only.
		_ = c.commit(context.Background(), idle)
	}
	c.release(idle...)
}
