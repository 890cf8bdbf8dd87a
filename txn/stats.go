package txn

import "sync/atomic"

type counts struct {
	pending, aside                           atomic.Int64
	prepared, committed, rolledBack, givenUp atomic.Int64
	carried, dropped, ignored                atomic.Int64
	asked, silent, failed                    atomic.Int64
}

// Stats is a snapshot. The numbers behind GivenUp count since Open, a replay's
// records included.
type Stats struct {
	Pending    int64 // halves that wait for a verdict
	GivenUp    int64 // halves that wait for somebody who recovers them
	Prepared   int64
	Committed  int64
	RolledBack int64
	Abandoned  int64 // given up
	Carried    int64 // appended once more, so that their segments could go
	Dropped    int64 // ended with their topic
	Ignored    int64 // records in the half topic that say nothing
	Asked      int64 // questions to checkers and resources
	Silent     int64 // answers of checkers that said nothing
	Failed     int64 // verdicts that were known and could not be written; they are tried again
}

// Stats returns a snapshot.
func (c *Coordinator) Stats() Stats {
	n := &c.counts
	return Stats{
		Pending: n.pending.Load(), GivenUp: n.aside.Load(), Prepared: n.prepared.Load(), Committed: n.committed.Load(),
		RolledBack: n.rolledBack.Load(), Abandoned: n.givenUp.Load(), Carried: n.carried.Load(), Dropped: n.dropped.Load(),
		Ignored: n.ignored.Load(), Asked: n.asked.Load(), Silent: n.silent.Load(), Failed: n.failed.Load(),
	}
}
