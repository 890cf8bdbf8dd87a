package store

import (
	"context"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/internal/kv"
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
func (s *Store) Abandon() error {
	s.closeOnce.Do(func() {
		s.closed.Store(true)
		close(s.closing)
		s.cancel()
		s.background.Wait()
		s.closeErr = s.abandon()
	})
	return s.closeErr
}
