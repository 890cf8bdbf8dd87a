package kv

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// scheduler lets one compaction run at a time and looks for the next one when
// it ends. Pebble's own scheduler looks ten times a second for ever, which an
// idle library must not do; with a fixed limit of one, nothing can become
// runnable except by TrySchedule, start or Done.
//
// Before start it lets none run: a compaction that is at work when Pebble's Open
// fails uses what the failing Open has closed, and panics.
type scheduler struct {
	mu struct {
		sync.Mutex
		started bool
		running bool
		refused bool // TrySchedule said no since Done last asked
		asking  int  // calls of Done inside the database; Unregister waits for them
		gone    bool
	}
	idle *sync.Cond
	db   pebble.DBForCompaction // set once, before any other call
}

var (
	_ pebble.CompactionScheduler   = (*scheduler)(nil)
	_ pebble.CompactionGrantHandle = (*scheduler)(nil)
)

func newScheduler() *scheduler {
	s := &scheduler{}
	s.idle = sync.NewCond(&s.mu)
	return s
}

// Register keeps the database; Pebble calls it once during Open.
func (s *scheduler) Register(_ int, db pebble.DBForCompaction) { s.db = db }

// Unregister returns when no call into the database is under way and none will
// come.
func (s *scheduler) Unregister() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.gone = true
	for s.mu.asking > 0 {
		s.idle.Wait()
	}
}

// TrySchedule is called under Pebble's locks and calls nothing.
func (s *scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.gone {
		return false, nil
	}
	if s.mu.running || !s.mu.started {
		s.mu.refused = true
		return false, nil
	}
	s.mu.running = true
	return true, s
}

// UpdateGetAllowedWithoutPermission does nothing: the limit never changes.
func (s *scheduler) UpdateGetAllowedWithoutPermission() {}

// Started does nothing.
func (s *scheduler) Started() {}

// MeasureCPU does nothing.
func (s *scheduler) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats does nothing.
func (s *scheduler) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// start lets compactions run, beginning with one that was refused.
func (s *scheduler) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.started = true
	if s.mu.refused {
		go s.grant()
	}
}

// Done ends one compaction and grants the next.
func (s *scheduler) Done() {
	s.mu.Lock()
	s.mu.running = false
	s.mu.Unlock()
	s.grant()
}

// grant asks the database for a compaction, without mu, because its locks come
// before mu.
func (s *scheduler) grant() {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A compaction that TrySchedule refuses while the database is being asked
	// would be forgotten: it came too late for this question and sees the place
	// taken. So ask again then.
	for again := true; again && !s.mu.gone && !s.mu.running; again = s.mu.refused {
		s.mu.running, s.mu.refused = true, false
		s.mu.asking++
		granted := s.ask()
		s.mu.asking--
		s.idle.Broadcast()
		if granted {
			return
		}
		s.mu.running = false
	}
}

// ask lends mu back while it calls the database.
func (s *scheduler) ask() bool {
	s.mu.Unlock()
	defer s.mu.Lock()
	waiting, _ := s.db.GetWaitingCompaction()
	return waiting && s.db.Schedule(s)
}
