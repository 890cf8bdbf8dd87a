package schedule

import (
	"time"
)

// run is the driver goroutine. It sleeps until the next timer is due; with
// nothing pending it does not wake at all.
func (s *Schedule) run() {
	defer s.work.Done()
	failing := false
	for {
		worked, err := s.Step(s.background)
		switch {
		case s.background.Err() != nil:
			return
		case err == nil:
			failing = false
		case fatal(err):
			s.o.Logger.Error("timers are not fired any more until the store is opened again", "error", err)
			return
		case !failing:
			failing = true
			s.o.Logger.Error("timers cannot be fired; they wait", "error", err)
		}
		if worked {
			continue
		}
		if !s.sleep() {
			return
		}
	}
}

// sleep waits until there is something to do; false when Close ends it.
func (s *Schedule) sleep() bool {
	now := s.o.Clock.Now()
	s.mu.Lock()
	at, ok := s.nextLocked(now)
	if wait := s.driver.retryAt.Sub(now); wait > 0 && wait <= backoffMax {
		at, ok = s.driver.retryAt, true
	} else if ok {
		s.mu.sleeping = at.UnixMilli()
	} else {
		s.mu.sleeping = maxKey.due
	}
	s.mu.Unlock()
	var due <-chan time.Time
	if ok {
		d := at.Sub(now)
		if d <= 0 {
			return s.background.Err() == nil
		}
		// The clock may be set while this sleeps, and a machine may be asleep
		// with its timers: nobody would wake us.
		c, stop := s.o.Clock.After(min(d, s.o.Sleep))
		defer stop()
		due = c
	}
	select {
	case <-due:
	case <-s.wake:
	case <-s.background.Done():
		return false
	}
	return true
}
