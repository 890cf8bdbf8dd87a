package store

import (
	"errors"
	"time"
)

// checkpointRetry is how long a checkpoint that has failed is left alone, however
// much is put meanwhile.
const checkpointRetry = time.Second

// work is what the background goroutine keeps in mind between two rounds.
type work struct {
	dirtySince   time.Time // when it first saw records behind the last checkpoint
	noCheckpoint time.Time // the last one failed: not before then
	unhurried    time.Time // for the number of records alone: not before then
	nextLook     time.Time // for room
	failed       struct{ checkpoint, retention error }
}

// startBackground starts the one goroutine that checkpoints and retains.
func (s *Store) startBackground() {
	s.background.Go(func() {
		for s.waitForWork() {
			s.round()
		}
	})
}

// round does what is due.
func (s *Store) round() {
	w := &s.work
	now := s.cfg.env.Clock.Now()
	saved := false
	if s.dirty.Load() && s.checkpointDue(now) {
		w.failed.checkpoint = s.checkpoint(s.ctx)
		// Small records must not keep the disk busy with nothing but checkpoints.
		end := s.cfg.env.Clock.Now()
		w.unhurried = end.Add(4 * end.Sub(now))
		if saved = w.failed.checkpoint == nil; !saved {
			w.noCheckpoint = now.Add(checkpointRetry)
		}
		s.report("checkpoint", w.failed.checkpoint)
	}
	if saved || !now.Before(w.nextLook) {
		w.failed.retention = s.retain()
		s.report("retention", w.failed.retention)
		d, timed := s.lookAgain()
		if !timed {
			d = lookTight // for a nudge that comes before
		}
		w.nextLook = now.Add(d)
	}
}

// report keeps and logs the errors of background work; no caller is there to
// get them.
func (s *Store) report(what string, err error) {
	if s.ctx.Err() != nil {
		return
	}
	if all := errors.Join(s.work.failed.checkpoint, s.work.failed.retention); all != nil {
		s.stats.backgroundErr.Store(&all)
	} else {
		s.stats.backgroundErr.Store(nil)
	}
	if err != nil {
		s.cfg.logger.Error("background work failed", "work", what, "error", err)
	}
}

// checkpointDue starts the clock of a checkpoint at the first record behind the
// last one.
func (s *Store) checkpointDue(now time.Time) bool {
	w := &s.work
	if w.dirtySince.IsZero() {
		w.dirtySince = now
	}
	due := s.timers.NeedsSave() || s.many.Load() && !now.Before(w.unhurried) || now.Sub(w.dirtySince) >= s.cfg.checkpoint || s.log.Visible()-s.checkpointed.Load() >= s.cfg.checkpointLog
	if due = due && !now.Before(w.noCheckpoint); due {
		w.dirtySince = time.Time{}
	}
	return due
}

// waitForWork sleeps until a checkpoint or retention may be due; false at the
// end. An idle store sleeps until a put nudges it or until the oldest segment
// may be too old: it wakes for nothing else.
func (s *Store) waitForWork() bool {
	var timer <-chan time.Time
	if d, timed := s.nextWork(); timed {
		c, stop := s.cfg.env.Clock.After(d)
		defer stop()
		timer = c
	}
	select {
	case <-s.nudge:
		return true
	case <-timer:
		return true
	case <-s.closing:
		return false
	}
}

// nextWork is how long the background may sleep; not timed is until it is nudged.
func (s *Store) nextWork() (d time.Duration, timed bool) {
	w := &s.work
	now := s.cfg.env.Clock.Now()
	if _, timed = s.lookAgain(); timed {
		d = w.nextLook.Sub(now)
	}
	if !s.dirty.Load() {
		return max(d, 0), timed
	}
	due := s.cfg.checkpoint
	if !w.dirtySince.IsZero() {
		due -= now.Sub(w.dirtySince)
	}
	if s.many.Load() {
		due = min(due, w.unhurried.Sub(now))
	}
	due = max(due, w.noCheckpoint.Sub(now))
	if timed {
		due = min(due, d)
	}
	return max(due, 0), true
}
