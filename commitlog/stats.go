package commitlog

import "sync/atomic"

// counters count since Open.
type counters struct {
	groups, writes, bytes, syncs, rolls, yields, stalls atomic.Int64
}

// Stats is a snapshot of the log. Its numbers are read one after the other while
// the log goes on.
type Stats struct {
	Start, Appended, Synced, Visible int64
	Segments                         int

	Writes int64 // batches written
	Bytes  int64 // of records
	Syncs  int64 // syncs of records
	Rolls  int64 // segments begun
	Yields int64 // times a leader let others join
	Stalls int64 // times an append waited because W was reached
	// LowSpace is set while only the store's own records are taken.
	LowSpace bool
	// Poisoned is why appends fail, or nil.
	Poisoned error
}

// Stats returns a snapshot.
func (l *Log) Stats() Stats {
	return Stats{
		Start: l.Start(), Visible: l.Visible(), Synced: l.Synced(), Appended: l.Appended(),
		Segments: len(l.segs.all()),
		Writes:   l.count.writes.Load(),
		Bytes:    l.count.bytes.Load(),
		Syncs:    l.count.syncs.Load(),
		Rolls:    l.count.rolls.Load(),
		Yields:   l.count.yields.Load(),
		Stalls:   l.count.stalls.Load(),
		LowSpace: l.low.Load(),
		Poisoned: l.Poison(),
	}
}
