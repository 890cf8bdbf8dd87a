package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/embermq/embermq/message"
)

// fetched is a message that was read and not handed out yet.
type fetched struct {
	d       *Delivery
	s       *source
	version int
	next    int64 // where reading goes on behind it
}

// fetch takes the turn and returns messages, at least one. The caller ends the
// turn, unless there is an error.
func (c *Pull) fetch(ctx context.Context, limit int) ([]fetched, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	fs, err := c.fetchNow(ctx, limit)
	if err != nil {
		c.exit()
	}
	return fs, err
}

func (c *Pull) fetchNow(ctx context.Context, limit int) ([]fetched, error) {
	if limit <= 0 {
		limit = DefaultPoll
	}
	if !c.o.push.manual {
		c.finishAll()
	}
	if err := c.turnOver(ctx); err != nil {
		return nil, err
	}
	for {
		if err := c.look(); err != nil {
			return nil, err
		}
		fs, err := c.readRound(ctx, limit)
		if len(fs) > 0 || err != nil {
			return fs, err
		}
		if err := c.turnOver(ctx); err != nil {
			return nil, err
		}
		if err := c.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// turnOver commits if it is time to and lets go of revoked queues, of which
// nothing counts any more that is not committed.
func (c *Pull) turnOver(ctx context.Context) error {
	if now := c.o.clock.Now(); !c.o.push.manual && now.Sub(c.lastCommit) >= c.o.pull.every {
		if err := c.commit(ctx, nil); err != nil {
			return err
		}
		c.lastCommit = now
	}
	c.mu.Lock()
	var revoked []*source
	for _, s := range c.sources {
		if s.revoked {
			revoked = append(revoked, s)
		}
	}
	c.mu.Unlock()
	if len(revoked) == 0 {
		return nil
	}
	var err error
	if !c.o.push.manual {
		err = c.commit(ctx, nil)
	}
	c.release(revoked...)
	return err
}

// readRound reads ready sources, each at most once, until there are enough
// messages. An error ends it only if there are none.
func (c *Pull) readRound(ctx context.Context, limit int) (fs []fetched, err error) {
	var again []*source
	for len(fs) < limit {
		s := c.take()
		if s == nil {
			break
		}
		got, more, e := c.read(ctx, s, limit-len(fs))
		fs = append(fs, got...)
		if more || e != nil {
			again = append(again, s)
		}
		if e != nil {
			err = e
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range again {
		c.readyLocked(s)
	}
	if len(fs) > 0 {
		return fs, nil // the source that failed is ready, and fails again
	}
	if len(again) > 0 {
		c.changed = true
		if errors.Is(err, message.ErrCorrupt) {
			again[len(again)-1].stopped = err
		}
	}
	return nil, err
}

// read gets the next messages of a source; more says that there may be others
// behind them.
func (c *Pull) read(ctx context.Context, s *source, n int) (fs []fetched, more bool, err error) {
	if err := c.placeAlone(ctx, s); err != nil {
		return nil, false, c.sourceError(s, err)
	}
	c.mu.Lock()
	from, version, filter := s.next, s.version, s.filter
	c.mu.Unlock()
	b, err := c.e.Read(ctx, s.queue, from, message.Limit{Count: n}, filter)
	if err != nil {
		return nil, c.moveTo(s, version, err), c.sourceError(s, err)
	}
	for i := range b.Records {
		f := fetched{d: newDelivery(&b.Records[i], s.queue.Topic), s: s, version: version, next: b.Records[i].Offset() + 1}
		wanted, err := c.wanted(ctx, s, f.d)
		if err != nil {
			return fs, true, err
		}
		if wanted {
			fs = append(fs, f)
		}
	}
	switch {
	case len(fs) > 0:
		fs[len(fs)-1].next = b.Next
	case b.Next > from:
		c.pass(s, version, b.Next)
	}
	return fs, b.Next > from, nil
}

func newDelivery(r *message.Record, topic string) *Delivery {
	d := new(Delivery)
	d.fill(r, topic, 0)
	return d
}

// wanted says whether a message is to be handed out: it is not if the group has
// settled it, if it has expired, or if it was handled before.
func (c *Pull) wanted(ctx context.Context, s *source, d *Delivery) (bool, error) {
	c.mu.Lock()
	settled := s.settled
	k := c.claimLocked(s)
	c.mu.Unlock()
	for _, r := range settled {
		if d.Offset() >= r.From && d.Offset() < r.To {
			return false, nil
		}
	}
	if d.expired(c.o.clock.Now()) {
		if c.local != nil {
			return false, nil
		}
		err := c.e.Settle(ctx, k, message.Verdict{Queue: s.queue, Offset: d.Offset(), Kind: message.DeadLetter, Reason: ErrExpired.Error()})
		if err == nil {
			c.settledAt(s, d.Offset())
		}
		return false, c.sourceError(s, err)
	}
	if c.o.dedupe == nil {
		return true, nil
	}
	known, err := c.o.dedupe.Begin(ctx, c.group, d)
	if err != nil {
		return false, fmt.Errorf("consumer: dedupe: %w", err)
	}
	return known == Fresh, nil
}

// settledAt notes that one offset is settled ahead of the others, so that it is not
// settled again when it is read again.
func (c *Pull) settledAt(s *source, offset int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := make([]message.Range, 0, len(s.settled)+1)
	for _, r := range s.settled {
		if r.To > s.next {
			kept = append(kept, r)
		}
	}
	s.settled = append(kept, message.Range{From: offset, To: offset + 1})
}

// sourceError is nil for an error that other news will explain: the claim is over,
// the topic is gone, or the source has moved.
func (c *Pull) sourceError(s *source, err error) error {
	switch {
	case err == nil, errors.Is(err, message.ErrFenced), errors.Is(err, message.ErrOutOfRange):
		return nil
	case errors.Is(err, message.ErrNotFound) && !c.isAssigned():
		return nil
	}
	return fmt.Errorf("consumer: pull from %v: %w", s.queue, err)
}

// moveTo follows a *RangeError and reports whether there was one.
func (c *Pull) moveTo(s *source, version int, err error) bool {
	var out *message.RangeError
	if !errors.As(err, &out) {
		return false
	}
	c.pass(s, version, min(max(out.Offset, out.Start), out.End))
	c.mu.Lock()
	c.moved++
	c.mu.Unlock()
	return true
}

// pass moves reading on without handing anything out.
func (c *Pull) pass(s *source, version int, next int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.version == version {
		s.next = next
		if s.handed <= s.done { // nothing is in the user's hands
			s.handed, s.done = next, next
		}
	}
}

// hand gives one message to the user, unless its source has moved or gone.
func (c *Pull) hand(f *fetched) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := f.s
	if s.version != f.version || s.gone || s.revoked {
		c.readyLocked(s)
		c.forget(f)
		return false
	}
	s.next, s.handed = f.next, f.next
	if c.o.dedupe != nil {
		s.hands = append(s.hands, f.d)
	}
	return true
}

// unread puts back what was fetched and not handed out.
func (c *Pull) unread(fs []fetched) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range fs {
		c.readyLocked(fs[i].s)
		c.forget(&fs[i])
	}
}

// forget tells the deduper that a message was not handled.
func (c *Pull) forget(f *fetched) {
	if c.o.dedupe != nil {
		c.o.dedupe.Fail(c.group, f.d)
	}
}
