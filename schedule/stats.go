package schedule

import "sync/atomic"

// Stats is a snapshot of a Schedule.
type Stats struct {
	Pending int64 // timers that wait
	Memory  int64 // those of them in memory
	Overdue int   // overdue ones in memory
	Parked  int   // cannot be delivered just now
	Unsaved int   // changes that no save took yet

	// Counted since Open, what the log was replayed for included.
	Fired, Cancelled, Carried, Dropped int64
	// Ignored are waiting records that say not when or where to, or name a system
	// topic; LeftOut are those that Options.Foreign refused.
	Ignored, LeftOut int64

	// Err is set when saved timers could not be read: they are not fired before
	// the next Open rebuilds them.
	Err error
}

type counts struct {
	fired, cancelled, carried, dropped, ignored, leftOut atomic.Int64
}

// Stats returns a snapshot.
func (s *Schedule) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Pending: s.pending.Load(), Memory: s.memory.Load(), Overdue: s.mu.back.tree.Len(),
		Parked: len(s.mu.parked), Unsaved: len(s.mu.fresh) + len(s.mu.dead),
		Fired: s.counts.fired.Load(), Cancelled: s.counts.cancelled.Load(), Carried: s.counts.carried.Load(),
		Dropped: s.counts.dropped.Load(), Ignored: s.counts.ignored.Load(), LeftOut: s.counts.leftOut.Load(),
		Err: s.mu.broken,
	}
}
