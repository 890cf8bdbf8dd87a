package store

import (
	"context"
	"errors"

	"github.com/embermq/embermq/internal/plant"
)

// Close ends the store: it waits for puts under way, syncs the log, saves all
// views and offsets, and marks the directory as closed cleanly. Every later call
// returns ErrClosed; a second Close returns nil. Watches and Follows end with
// ErrClosed. A failed Close leaves a directory that the next Open recovers; without
// room its error matches ErrDiskFull.
func (s *Store) Close() (err error) {
	s.closeOnce.Do(func() {
		s.closed.Store(true)
		close(s.closing)
		s.cancel()
		s.background.Wait()
		err = typedFull(s.shutdown())
	})
	return err
}

func (s *Store) shutdown() error {
	if s.cfg.readOnly {
		return errors.Join(s.log.Close(), s.queues.Close(), s.closeIndex(), s.releaseFolders())
	}
	ctx := context.Background()
	var errs []error
	errs = append(errs, s.groups.Close()) // nobody settles any more
	s.closeHalves()
	errs = append(errs, s.timers.Close())
	// Appends end first, so that what is saved afterwards is final.
	errs = append(errs, s.log.Stop(ctx))
	errs = append(errs, s.progress.Close())
	errs = append(errs, s.queues.Flush())
	if !(plant.Enabled && plant.Is(plant.StoreCloseUnsaved)) {
		errs = append(errs, s.checkpoint(ctx))
	}
	errs = append(errs, s.queues.Close(), s.closeIndex())
	errs = append(errs, s.db.Close())
	err := errors.Join(errs...)
	if err == nil {
		err = s.log.Close()
	} else {
		// Not clean: the watermark must not say so.
		err = errors.Join(err, s.log.Abandon())
	}
	if err == nil {
		err = removeAbort(s.root)
	}
	return errors.Join(err, s.releaseFolders())
}

// Sync returns when every put that had returned before the call is on disk, and
// all committed offsets too. It is the barrier for InCache messages. ctx bounds the
// wait only.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.log.Sync(ctx); err != nil {
		return err
	}
	return s.progress.Flush(ctx)
}

// usable is the first question of every call.
func (s *Store) usable() error {
	if s.closed.Load() {
		return ErrClosed
	}
	return nil
}

func (s *Store) writable() error {
	if s.closed.Load() {
		return ErrClosed
	}
	if s.cfg.readOnly {
		return ErrReadOnly
	}
	return nil
}

func (s *Store) closeIndex() error {
	if s.index == nil {
		return nil
	}
	return s.index.Close()
}
