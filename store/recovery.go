package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// Recovery tells what Open found and did.
type Recovery struct {
	New      bool          // the directory was made, or became a store by an import
	Clean    bool          // the last opener closed it
	Took     time.Duration // the whole Open
	CutBytes int64         // torn tail that was cut; its bytes are in Aside
	Aside    string        // file that holds them
	// Rewritten is how many bytes behind the last known sync were written and
	// synced again before anything was served.
	Rewritten int64
	Replayed  int64             // records applied to views again
	Rebuilt   []string          // views that did not fit the log and were built anew
	Foreign   []commitlog.Range // stretches of the log that another program wrote
	Import    *Import           // what was taken over from RocketMQ, nil if nothing was
	Clamped   int               // committed offsets that lay behind a queue's end
	End       int64             // of the log: what the next record's position is
}

// replay brings every view to the log's end, then lets the store serve.
func (s *Store) replay() error {
	r := s.log.Recovery()
	s.recovery.Clean = r.Clean
	s.recovery.CutBytes, s.recovery.Aside = r.CutBytes, r.Aside
	s.recovery.Rewritten, s.recovery.Foreign, s.recovery.End = r.Rewritten, r.Foreign, s.log.Visible()
	from, err := s.fitMarks()
	if err != nil {
		return err
	}
	if err := s.topics.attach(s.queues, from.queuesMark); err != nil {
		return err
	}
	s.checkpointed.Store(s.log.Visible())
	low := from.lowest()
	if low < s.log.Visible() {
		if err := s.replayFrom(low, from); err != nil {
			return err
		}
		s.checkpointed.Store(low)
		s.dirty.Store(true)
	}
	s.topics.all(func(q *queue) {
		_, end := q.entries.Bounds()
		q.seq.Set(end)
	})
	if err := s.queues.Expire(s.log.Start()); err != nil && !s.cfg.readOnly {
		return err
	}
	if s.cfg.readOnly {
		return nil
	}
	last, err := s.lastTimestamp()
	if err != nil {
		return err
	}
	s.dispatch.storeMS = max(s.dispatch.storeMS, last)
	s.log.NotBefore(s.dispatch.storeMS)
	// Offsets in topics whose deletion was replayed must be gone before a topic of
	// the name is created again.
	if err := s.progress.Flush(s.ctx); err != nil {
		return err
	}
	if !(plant.Enabled && plant.Is(plant.StoreNoClamp)) {
		if s.recovery.Clamped, err = s.progress.Clamp(s.ctx, s.queueBounds); err != nil {
			return err
		}
	}
	if r.Accepted {
		if err := s.topics.saveStarts(s.ctx, s.log.Start(), s.startAt); err != nil {
			return err
		}
	}
	if s.imported != nil {
		if err := s.finishImport(); err != nil {
			return err
		}
	}
	if err := s.rememberOwner(); err != nil {
		return err
	}
	if len(s.recovery.Rebuilt) > 0 {
		if err := s.checkpoint(context.Background()); err != nil {
			return err
		}
	}
	if s.imported != nil {
		// After the checkpoint: until then the notes must be there.
		if err := s.endImport(); err != nil {
			return err
		}
	}
	if err := s.timers.Start(s.ctx); err != nil {
		return err
	}
	s.halves.Start()
	return nil
}

// replayRecord applies a record that is read back. Timers save now and then on
// the way, so that a replay of a long log needs no memory for all of them.
func (s *Store) replayRecord(r *message.Record, from *marks) error {
	s.recovery.Replayed++
	if plant.Enabled && plant.Is(plant.StoreReplaysLate) && s.recovery.Replayed == 1 {
		return nil
	}
	if err := s.dispatch.replay(r, from); err != nil || s.timers == nil || !s.timers.NeedsSave() {
		return err
	}
	return s.timers.Freeze(message.Mark{Offset: r.Position() + int64(r.Size()), Fingerprint: r.Fingerprint()})()
}

// replayFrom applies the log from low on.
func (s *Store) replayFrom(low int64, from *marks) error {
	return s.scanLog(low, func(r *message.Record) error {
		return s.replayRecord(r, from)
	}, func(err error) { s.dispatch.damage = err })
}

func (s *Store) queueBounds(q message.Queue) (start, end int64, ok bool) {
	qu, ok := s.topics.queue(q)
	if !ok {
		return 0, 0, false
	}
	start, end = qu.entries.Bounds()
	return start, end, true
}

// rememberOwner marks the directory as open and writes FORMAT when it is new.
func (s *Store) rememberOwner() error {
	if s.recovery.New {
		return writeFormat(s.state, s.format)
	}
	return nil
}

// fitMarks asks of each view whether the log still holds the record that the
// view was built to. A view that does not fit is emptied and rebuilt; the log is never
// changed to suit a view.
func (s *Store) fitMarks() (*marks, error) {
	m := &marks{}
	fit := func(v view) (message.Mark, error) {
		mark, ok := v.Saved()
		ok = ok && !(v.Name() == dirQueues && s.queuesGone) && !s.importChanges(v)
		if ok {
			ok, err := s.markFits(mark)
			if err != nil {
				return mark, err
			}
			if ok {
				return mark, nil
			}
		}
		if !ok && s.log.Visible() == s.log.Start() {
			return message.Mark{Offset: s.log.Start()}, nil // nothing to rebuild from or for
		}
		s.recovery.Rebuilt = append(s.recovery.Rebuilt, v.Name())
		if err := v.Reset(); err != nil {
			return mark, fmt.Errorf("store: reset %s: %w", v.Name(), err)
		}
		return message.Mark{Offset: s.log.Start()}, nil
	}
	mark, err := fit(s.queues)
	if err != nil {
		return nil, err
	}
	m.queues, m.queuesMark = mark.Offset, mark
	if mark, err = fit(s.topics); err != nil {
		return nil, err
	}
	m.topics = mark.Offset
	for _, v := range s.dispatch.views {
		if mark, err = fit(v); err != nil {
			return nil, err
		}
		m.views = append(m.views, mark.Offset)
	}
	return m, nil
}

func (s *Store) markFits(m message.Mark) (bool, error) {
	if m.Offset < s.log.Start() || m.Offset > s.log.Visible() {
		return false, nil
	}
	if plant.Enabled && plant.Is(plant.StoreTrustsMarks) {
		return true, nil
	}
	return s.log.MarkMatches(m)
}

// abandon releases what a failed Open has taken, without writing anything.
func (s *Store) abandon() error {
	var errs []error
	if s.log != nil {
		errs = append(errs, s.log.Abandon())
	}
	if s.queues != nil {
		errs = append(errs, s.queues.Abandon())
	}
	if s.index != nil {
		errs = append(errs, s.index.Abandon())
	}
	if s.timers != nil {
		errs = append(errs, s.timers.Close())
	}
	if s.halves != nil {
		s.closeHalves()
	}
	if s.groups != nil {
		errs = append(errs, s.groups.Close())
	}
	if s.progress != nil {
		_ = s.progress.Close() // ends its writer; behind a closed log it saves nothing
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	errs = append(errs, s.releaseFolders())
	return errors.Join(errs...)
}
