package store

import (
	"sync/atomic"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/dedupe"
	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/schedule"
	"github.com/embermq/embermq/txn"
)

type counters struct {
	puts, putBytes atomic.Int64
	checkpoints    atomic.Int64
	expired        atomic.Int64
	rebuilt        atomic.Int64
	guarded        atomic.Bool
	retries, dead  atomic.Int64
	backgroundErr  atomic.Pointer[error]
}

// Stats is a snapshot of a store's state and counters since Open.
type Stats struct {
	Recovery Recovery
	Log      commitlog.Stats
	Queues   consumequeue.Stats
	Index    index.Stats
	Timers   schedule.Stats // zero in a read-only store, as is Halves
	Halves   txn.Stats
	Dedupe   dedupe.Stats

	Retries       int64 // failed messages that were put once more, for one group each
	DeadLetters   int64 // that groups gave up on
	Topics        int
	Puts          int64 // records put by this process, the store's own included
	PutBytes      int64 // their bytes in the log
	Checkpoints   int64
	Expired       int64 // segments that retention removed
	Guarded       bool  // retention wanted a segment that a live group still needs
	QueuesRebuilt int64
	DiskFull      bool     // the disk is at the full watermark: puts fail
	StaleGroups   []string // groups unseen for so long that they no longer guard
	Poisoned      error    // why the store accepts no more puts, nil when it does
	Background    error    // the last failure of background work, nil when none
}

// Stats returns a snapshot. It takes no lock for long and may be called often.
func (s *Store) Stats() Stats {
	st := Stats{
		Recovery:      s.recovery,
		Log:           s.log.Stats(),
		Queues:        s.queues.Stats(),
		Topics:        len(s.Topics()),
		Retries:       s.stats.retries.Load(),
		DeadLetters:   s.stats.dead.Load(),
		Puts:          s.stats.puts.Load(),
		PutBytes:      s.stats.putBytes.Load(),
		Checkpoints:   s.stats.checkpoints.Load(),
		Expired:       s.stats.expired.Load(),
		Guarded:       s.stats.guarded.Load(),
		QueuesRebuilt: s.stats.rebuilt.Load(),
		DiskFull:      s.full.Load(),
		Poisoned:      s.log.Poison(),
	}
	if s.index != nil {
		st.Index = s.index.Stats()
	}
	if s.timers != nil {
		st.Timers = s.timers.Stats()
	}
	if s.halves != nil {
		st.Halves = s.halves.Stats()
	}
	if s.dedupe != nil {
		st.Dedupe = s.dedupe.Stats()
	}
	if s.progress != nil {
		st.StaleGroups = s.progress.Stale()
	}
	if p := s.stats.backgroundErr.Load(); p != nil {
		st.Background = *p
	}
	return st
}
