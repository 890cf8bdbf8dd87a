package consumequeue

import "sync/atomic"

type counters struct {
	flushes, flushed, damaged, rebuilt, blanks, ignored, saves atomic.Int64
}

// Stats is a snapshot of counters.
type Stats struct {
	Queues    int   // queues in memory
	TailBytes int64 // memory of entries that are not in files, or held for a save
	OpenFiles int
	Flushes   int64 // writes of tails to files
	Flushed   int64 // entries written to files
	Damaged   int64 // queues that wait for a rebuild
	Rebuilt   int64 // queues rebuilt from the log since Open
	Blanks    int64 // offsets without a record that were filled since Open
	Ignored   int64 // entries left alone because their offset was there already
	Saves     int64
	Err       error // why queue files cannot be written now
}

// Stats returns the counters.
func (s *Queues) Stats() Stats {
	s.mu.RLock()
	n := len(s.list)
	s.mu.RUnlock()
	return Stats{
		Queues: n, TailBytes: s.pool.bytes.Load(), OpenFiles: s.files.count(),
		Flushes: s.stats.flushes.Load(), Flushed: s.stats.flushed.Load(),
		Damaged: s.stats.damaged.Load(), Rebuilt: s.stats.rebuilt.Load(),
		Blanks: s.stats.blanks.Load(), Ignored: s.stats.ignored.Load(),
		Saves: s.stats.saves.Load(), Err: s.Err(),
	}
}
