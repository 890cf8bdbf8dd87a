package store

import (
	"context"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

// Hooks for the tests of this package.

// Checkpoint saves all views now.
func (s *Store) Checkpoint(ctx context.Context) error { return s.checkpoint(ctx) }

// Retain runs one round of retention now.
func (s *Store) Retain() error { return s.retain() }

// Step does what the goroutines of a store that is not manual would do.
func (s *Store) Step(ctx context.Context) error {
	for s.log.Step() || s.queues.Step() {
	}
	for {
		worked, err := s.timers.Step(ctx)
		if err != nil {
			return err
		}
		if !worked {
			break
		}
	}
	for {
		worked, err := s.halves.Step(ctx)
		if err != nil {
			return err
		}
		if !worked {
			break
		}
	}
	if _, err := s.progress.Step(ctx); err != nil {
		return err
	}
	return nil
}

// Log, Queues and Meta are the rooms.
func (s *Store) Log() *commitlog.Log          { return s.log }
func (s *Store) Queues() *consumequeue.Queues { return s.queues }
func (s *Store) Meta() *kv.DB                 { return s.db }

// Abandon drops the store without closing it, as a killed process does. Files
// that are open stay open until the process ends.
func (s *Store) Abandon() (err error) {
	s.closeOnce.Do(func() {
		s.closed.Store(true)
		close(s.closing)
		s.cancel()
		s.background.Wait()
		err = s.abandon()
	})
	return err
}

// WithoutYield makes leaders of a group commit wait for nobody.
func WithoutYield() Option { return func(c *config) { c.env.NoYield = true } }

// Root is the folder that the store works in.
func (s *Store) Root() fs.FS { return s.root }

// QueuesOf are the queues of a topic that have handles.
func (s *Store) QueuesOf(topic string) (names []message.Queue) {
	if tp, ok := s.topics.get(topic); ok {
		for _, q := range *tp.queues.Load() {
			names = append(names, q.name)
		}
	}
	return names
}

// BoundsOf is Bounds whatever the topic's settings are.
func (s *Store) BoundsOf(q message.Queue) (start, end int64) {
	start, end, _ = s.queueBounds(q)
	return start, end
}

// Waiting reports whether somebody sleeps in Next.
func (w *watch) Waiting() bool { return w.waiting.Load() }

// WithReserve sets the room that only the store's own records may use; -1 is none.
func WithReserve(n int64) Option { return func(c *config) { c.reserve = n } }

// NewLinger returns the wait of a watch that has found nothing.
func NewLinger(c clock.Clock) func(come func() bool) { return (&linger{clock: c}).wait }
