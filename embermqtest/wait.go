package embermqtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// Patience is how long an assertion waits, in real time, for what never comes.
const Patience = 30 * time.Second

// changes tells waiters that the store may look different now.
type changes struct {
	mu      sync.Mutex
	c       chan struct{}
	current **store.Store // what the test's end closes
}

func newChanges() *changes { return &changes{c: make(chan struct{})} }

func (c *changes) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.c)
	c.c = make(chan struct{})
}

func (c *changes) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.c
}

// Put is store.Store's; whoever waits in Eventually looks again.
func (s *Store) Put(ctx context.Context, m *message.Message) (message.Receipt, error) {
	defer s.changes.tell()
	return s.Store.Put(ctx, m)
}

// PutBatch is store.Store's; whoever waits in Eventually looks again.
func (s *Store) PutBatch(ctx context.Context, ms []*message.Message) ([]message.Receipt, error) {
	defer s.changes.tell()
	return s.Store.PutBatch(ctx, ms)
}

// Settle is store.Store's; whoever waits in Eventually looks again.
func (s *Store) Settle(ctx context.Context, c group.Claim, vs ...message.Verdict) error {
	defer s.changes.tell()
	return s.Store.Settle(ctx, c, vs...)
}

// Commit is store.Store's; whoever waits in Eventually looks again.
func (s *Store) Commit(ctx context.Context, group string, offsets map[message.Queue]int64) error {
	defer s.changes.tell()
	return s.Store.Commit(ctx, group, offsets)
}

// Eventually waits until holds returns true. It asks at once and then whenever a
// message becomes visible, something is settled, or the clock is moved. The test
// fails when that has not happened within Patience.
func (s *Store) Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	arrivals, stop := s.arrivals(ctx)
	defer stop()
	for {
		changed := s.changes.next()
		if holds() {
			return
		}
		select {
		case <-changed:
		case <-arrivals:
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, Patience)
		}
	}
}

// arrivals signals when a message becomes visible in a queue that exists now, or
// in a topic that is made later and heard of by an arrival in another.
func (s *Store) arrivals(ctx context.Context) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	w := s.Watch(nil)
	watched := map[message.Queue]bool{} // adding a queue again would make it due again
	watchNew := func() {
		for _, t := range s.Topics() {
			for i := range t.ReadQueues {
				if q := (message.Queue{Topic: t.Name, ID: int32(i)}); !watched[q] {
					watched[q] = true
					w.Add(nil, q)
				}
			}
		}
	}
	watchNew()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if _, err := w.Next(ctx); err != nil {
				return
			}
			watchNew()
			select {
			case c <- struct{}{}:
			default:
			}
		}
	})
	return c, func() {
		_ = w.Close()
		wg.Wait()
	}
}

// Delivered waits until a group has settled at least n messages of a topic.
func (s *Store) Delivered(t testing.TB, group, topic string, n int) {
	t.Helper()
	settled := 0
	s.Eventually(t, fmt.Sprintf("group %s has settled %d messages of %s", group, n, topic), func() bool {
		var err error
		if settled, err = s.settled(t.Context(), group, topic); err != nil {
			t.Fatalf("ask for the offsets of %s: %v", group, err)
		}
		return settled >= n
	})
}

// settled counts from each queue's first kept message.
func (s *Store) settled(ctx context.Context, group, topic string) (n int, err error) {
	queues, err := s.QueueCount(topic)
	if err != nil {
		return 0, err
	}
	for i := range queues {
		q := message.Queue{Topic: topic, ID: int32(i)}
		offset, ok, err := s.Committed(ctx, group, q)
		if errors.Is(err, message.ErrNotFound) || err == nil && !ok {
			continue
		}
		if err != nil {
			return n, err
		}
		start, _, err := s.Bounds(q)
		if err != nil {
			return n, err
		}
		n += int(max(0, offset-start))
	}
	return n, nil
}

// Bodies returns what a topic holds, queue by queue.
func (s *Store) Bodies(t testing.TB, topic string) (out []string) {
	t.Helper()
	queues, err := s.QueueCount(topic)
	if err != nil {
		t.Fatalf("topic %s: %v", topic, err)
	}
	for i := range queues {
		q := message.Queue{Topic: topic, ID: int32(i)}
		at, end, err := s.Bounds(q)
		for err == nil && at < end {
			var b message.Batch
			if b, err = s.Read(t.Context(), q, at, message.Limit{}, nil); err == nil {
				for _, r := range b.Records {
					out = append(out, string(r.Body()))
				}
				at = b.Next
			}
		}
		if err != nil {
			t.Fatalf("read %s: %v", q, err)
		}
	}
	return out
}
