package store

import (
	"context"
	"errors"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// checkpoint saves every view up to what is applied now, so that the next Open
// replays only what comes later. It may run beside puts and reads.
//
// The order is the second law: freeze, sync the log behind what was frozen, and
// only then let derived bytes reach a file. What was frozen is saved whatever
// happens to ctx: it counts as clean for the views.
func (s *Store) checkpoint(ctx context.Context) (err error) {
	s.saving.Lock()
	defer s.saving.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	s.dirty.Store(false)
	defer func() {
		if err != nil {
			s.dirty.Store(true)
		}
	}()
	mark, saves := s.freeze()
	if saves == nil {
		return nil
	}
	if !(plant.Enabled && plant.Is(plant.StoreMarkAhead)) {
		if err := s.log.Sync(ctx); err != nil {
			return err
		}
	}
	// A mark must not pass the deletion of a topic while meta still has the offsets
	// that it dropped.
	if err := s.progress.Flush(ctx); err != nil && !errors.Is(err, ErrClosed) {
		return err
	}
	// Entries that waited for the sync may go to their files.
	s.queues.Kick()
	if s.index != nil {
		s.index.Kick()
	}
	// Topics come first. Invariant: no saved queues lie behind the deletion of a
	// topic that meta has alive: the replay of the deletion would find the queues
	// gone, and the next life would not know where to go on.
	errs := []error{saves[0]()}
	if errs[0] == nil {
		errs = append(errs, saves[1]()) // of the queues; a later freeze replaces one that was not saved
	}
	for _, save := range saves[2:] {
		errs = append(errs, save())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := s.log.SaveDurably(); err != nil {
		return err
	}
	if err := s.writeTimestamps(); err != nil {
		return err
	}
	s.checkpointed.Store(mark.Offset)
	s.stats.checkpoints.Add(1)
	return nil
}

// freeze takes one consistent picture of all views; nil when nothing changed
// since the last one that was saved.
func (s *Store) freeze() (mark message.Mark, saves []func() error) {
	s.log.AtMark(func(m message.Mark) {
		mark = m
		if m.Offset == s.checkpointed.Load() && !s.expiredFiles.Swap(false) {
			return
		}
		s.expiredFiles.Store(false)
		d := &s.dispatch
		s.storeMS.Store(d.storeMS)
		d.records = 0
		s.many.Store(false)
		saves = append(saves, d.topics.Freeze(m), d.queues.Freeze(m)) // checkpoint knows the order
		for _, v := range d.views {
			saves = append(saves, v.Freeze(m))
		}
	})
	return mark, saves
}

// manyRecords are worth a checkpoint however small they are: a replay takes about
// half a microsecond for each.
const manyRecords = 100_000

// grown nudges the background when a checkpoint is due by volume or number, and when the
// first record after a checkpoint arrives, so that it is saved in time.
func (s *Store) grown(offset int64) {
	many := s.dispatch.records >= manyRecords && !s.many.Load()
	if many {
		s.many.Store(true)
	}
	if !s.dirty.Load() {
		s.dirty.Store(true)
	} else if offset-s.checkpointed.Load() < s.cfg.checkpointLog && !many && !s.timers.NeedsSave() {
		return
	}
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}
