package consumer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

// Pull receives messages when its user asks for them, in the order of each queue.
// There are no retries: a message that was not dealt with comes again after a Seek
// or when it was not committed, and nowhere else.
//
// What Poll has returned counts as done when the next Poll begins, what All has
// yielded when the loop asks for the next message, and both when Commit is called.
// What counts as done is committed every 5 seconds (WithCommitInterval), at the
// beginning of a Poll, before a queue goes to another member, and by Close. Under
// WithManualCommit nothing is committed but by Commit.
//
// A queue that is revoked goes to its next member as soon as what was handed out
// of it is done, at the latest with the next Poll: what is not committed then is
// delivered to that member.
//
// Poll and All take messages one at a time: a second call waits for the first. All
// other methods may be called at any moment by any goroutine, also from within a
// loop over All.
type Pull struct {
	*feed
	local *localOffsets // of a broadcasting group

	// committing is held while something is settled or placed.
	committing chan struct{}
	lastCommit time.Time   // guarded by the turn
	moved      int64       // guarded by mu
	handled    []*Delivery // what the deduper has not been told yet; guarded by mu
}

// NewPull returns a consumer that joins its group with the first Poll, Assign, Seek
// or All. If an option is not valid, every call fails with the reason.
func NewPull(e Engine, groupName string, opts ...Option) *Pull {
	o := newOptions(usePull, opts)
	p := &Pull{feed: newFeed(e, groupName, o, o.push.mode), committing: make(chan struct{}, 1)}
	o.start.settle(o.push.mode == group.Broadcasting, o.clock.Now())
	p.feed.revoked = p.giveBack
	p.lastCommit = o.clock.Now()
	return p
}

// Subscribe asks for a topic's messages that f chooses (nil: all of them), from
// the queues that the group's strategy gives to this consumer. It replaces an
// earlier subscription to the topic, and may be called again while the consumer
// works; in a group of several members it then takes effect when all have asked
// for the same. A topic that does not exist yet is waited for. The error is
// ErrSubscriptionConflict if another member of the group subscribes to something
// else, and ErrUnsupported after Assign.
func (c *Pull) Subscribe(topic string, f message.Filter) error { return c.subscribe(topic, f) }

// Unsubscribe ends a subscription.
func (c *Pull) Unsubscribe(topic string) error { return c.unsubscribe(topic) }

// Assign makes the consumer read just these queues, of which f chooses the
// messages (nil: all of them), whatever other members of the group do. It replaces
// what was assigned before; a queue that stays goes on where it is. The error is
// ErrUnsupported after Subscribe.
func (c *Pull) Assign(f message.Filter, qs ...message.Queue) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.usableLocked(); err != nil {
		return err
	}
	if len(c.filters) > 0 {
		return fmt.Errorf("consumer: assign: topics were subscribed: %w", message.ErrUnsupported)
	}
	for _, q := range qs {
		if err := message.CheckTopic(q.Topic); err != nil {
			return fmt.Errorf("consumer: assign: %w", err)
		}
	}
	c.assigned = true
	if err := c.openLocked(); err != nil {
		return err
	}
	for q, s := range c.sources {
		if !slices.Contains(qs, q) {
			c.dropLocked(s)
		}
	}
	for _, q := range qs {
		if s := c.sources[q]; s == nil {
			c.addLocked(&source{queue: q, filter: f})
		} else if !sameFilter(s.filter, f) {
			s.filter = f
			c.watch.Add(f, q)
		}
	}
	c.kickLocked()
	return nil
}

// openLocked joins, and opens the local offsets of a broadcasting group.
func (c *Pull) openLocked() error {
	if err := c.usableLocked(); err != nil {
		return err
	}
	if c.mode == group.Broadcasting && c.local == nil {
		local, err := openLocal(c.o.local, c.group)
		if err != nil {
			return err
		}
		c.local = local
	}
	return c.joinLocked()
}

func (c *Pull) open() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.openLocked()
}

// Assignment returns the queues that the consumer has now, sorted.
func (c *Pull) Assignment() []message.Queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	qs := make([]message.Queue, 0, len(c.sources))
	for q := range c.sources {
		qs = append(qs, q)
	}
	slices.SortFunc(qs, compareQueues)
	return qs
}

// Poll returns messages as soon as there are any, at most limit of them
// (DefaultPoll if not positive); it waits until there is one. If ctx ends first,
// its error is returned and nothing is lost.
//
// Messages of one queue come in order and are fetched from one queue after
// another. An expired message is not returned but becomes a dead letter. An offset
// that is not kept any more moves to the nearest that is. A record that cannot be
// read is a *CorruptError, once: its queue then stops until Seek or Resume, while
// the others go on.
func (c *Pull) Poll(ctx context.Context, limit int) ([]*Delivery, error) {
	fs, err := c.fetch(ctx, limit)
	if err != nil {
		return nil, err
	}
	defer c.exit()
	ds := make([]*Delivery, 0, len(fs))
	for i := range fs {
		if c.hand(&fs[i]) {
			ds = append(ds, fs[i].d)
		}
	}
	return ds, nil
}

// All yields messages until the loop ends or something fails; the error, also
// ctx's, is the last thing it yields. The messages that the loop has not seen when
// it ends are yielded by the next All or Poll. A Poll within the loop would wait
// for its end.
func (c *Pull) All(ctx context.Context) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		for {
			fs, err := c.fetch(ctx, 0)
			if err != nil {
				yield(nil, err)
				return
			}
			if !c.yieldAll(fs, yield) {
				return
			}
		}
	}
}

// yieldAll hands out one at a time. The turn is held and ends with it, also if the
// loop's body panics.
func (c *Pull) yieldAll(fs []fetched, yield func(*Delivery, error) bool) bool {
	defer c.exit()
	for i := range fs {
		if !c.hand(&fs[i]) {
			continue
		}
		if !yield(fs[i].d, nil) {
			c.unread(fs[i+1:])
			return false
		}
		if !c.o.push.manual {
			c.finish(&fs[i])
		}
	}
	return true
}

// Seek makes the consumer go on elsewhere in a queue that it has. The place must
// be kept: otherwise the error is a *RangeError. It changes nothing for the group
// until a commit, and a commit never moves the group back.
func (c *Pull) Seek(ctx context.Context, q message.Queue, to message.Start) error {
	if err := c.open(); err != nil {
		return err
	}
	at, err := c.resolveSeek(q, to)
	if err != nil {
		return err
	}
	if err := c.lockCommits(ctx); err != nil {
		return err
	}
	defer c.unlockCommits()
	c.mu.Lock()
	s := c.sources[q]
	c.mu.Unlock()
	if s == nil {
		return c.errForeign(q)
	}
	if err := c.place(ctx, s); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.version++
	s.next, s.handed, s.done, s.stopped = at, at, at, nil
	c.dropHands(s)
	c.readyLocked(s)
	c.kickLocked()
	return nil
}

func (c *Pull) errForeign(q message.Queue) error {
	return fmt.Errorf("consumer: group %s: %v is not assigned to this member: %w", c.group, q, message.ErrNotFound)
}

func (c *Pull) resolveSeek(q message.Queue, to message.Start) (int64, error) {
	first, end, err := c.e.Bounds(q)
	if err != nil {
		return 0, fmt.Errorf("consumer: seek in %v: %w", q, err)
	}
	switch to.Kind {
	case message.StartFirst:
		return first, nil
	case message.StartLast:
		return end, nil
	case message.StartOffset:
		if to.Offset < first || to.Offset > end {
			return 0, fmt.Errorf("consumer: seek: %w", &message.RangeError{Queue: q, Offset: to.Offset, Start: first, End: end})
		}
		return to.Offset, nil
	case message.StartTime:
		at, err := c.e.OffsetAt(q, to.Time, message.Lower)
		if err != nil {
			return 0, fmt.Errorf("consumer: seek in %v: %w", q, err)
		}
		return min(max(at, first), end), nil
	}
	return 0, fmt.Errorf("consumer: seek: %v: %w", to, message.ErrUnsupported)
}

// Pause makes Poll and All pass over queues. Those that the consumer does not have
// are ignored, and a queue that comes back to it is not paused.
func (c *Pull) Pause(qs ...message.Queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range qs {
		if s := c.sources[q]; s != nil {
			s.paused = true
			s.version++
		}
	}
}

// Resume ends a Pause, and reads on in a queue that a bad record has stopped,
// beginning with that record.
func (c *Pull) Resume(qs ...message.Queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range qs {
		if s := c.sources[q]; s != nil {
			s.paused, s.stopped = false, nil
			c.readyLocked(s)
		}
	}
	c.kickLocked()
}

// PullStats are a Pull's figures.
type PullStats struct {
	Queues int   // assigned to it now
	Moved  int64 // offsets that were not kept any more
}

// Stats returns a snapshot.
func (c *Pull) Stats() PullStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return PullStats{Queues: len(c.sources), Moved: c.moved}
}

// Close commits what counts as done, which is not what the last Poll has returned:
// call Commit for that. It gives the queues back and leaves the group. Poll and All
// end with ErrClosed, and Close waits for their end: a loop over All must end before
// ctx does. After ctx has ended the queues are lost instead. Close may be called
// again.
func (c *Pull) Close(ctx context.Context) error {
	first, err := c.close(ctx, func(ctx context.Context) error {
		if c.o.push.manual {
			return nil
		}
		return c.commit(ctx, nil)
	})
	if first && c.local != nil {
		err = errors.Join(err, c.local.close())
	}
	return err
}
