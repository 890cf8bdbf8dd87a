package commitlog

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// counters count since Open.
type counters struct {
	groups, writes, bytes, rolls, yields, stalls atomic.Int64

	syncs    [SyncBuckets]atomic.Int64 // by how long they took
	syncTime atomic.Int64
}

// SyncBuckets is the length of SyncTimes.Counts.
const SyncBuckets = 26

// SyncTimes tells how long syncs took.
type SyncTimes struct {
	Total time.Duration
	// Counts[0] are the syncs of at most a microsecond, Counts[i] the longer ones of
	// at most 2^i microseconds. The last one has all that are longer still.
	Counts [SyncBuckets]int64
}

// synced counts a sync.
func (c *counters) synced(took time.Duration) {
	us := uint64(max(took-1, 0)) / 1000
	c.syncs[min(bits.Len64(us), SyncBuckets-1)].Add(1)
	c.syncTime.Add(int64(took))
}

func (c *counters) syncTimes() (t SyncTimes, n int64) {
	for i := range c.syncs {
		t.Counts[i] = c.syncs[i].Load()
		n += t.Counts[i]
	}
	t.Total = time.Duration(c.syncTime.Load())
	return t, n
}

// Stats is a snapshot of the log. Its numbers are read one after the other while
// the log goes on.
type Stats struct {
	Start, Appended, Synced, Visible int64
	Segments                         int

	Writes int64 // batches written
	Bytes  int64 // of records
	Syncs  int64 // syncs of records
	// SyncTimes has each of them, the save of the watermark included.
	SyncTimes SyncTimes
	Rolls     int64 // segments begun
	Yields    int64 // times a leader let others join
	Stalls    int64 // times an append waited because W was reached
	// LowSpace is set while only the store's own records are taken.
	LowSpace bool
	// Poisoned is why appends fail, or nil.
	Poisoned error
}

// Stats returns a snapshot.
func (l *Log) Stats() Stats {
	times, syncs := l.count.syncTimes()
	return Stats{
		Start: l.Start(), Visible: l.Visible(), Synced: l.Synced(), Appended: l.Appended(),
		Segments: len(l.segs.all()),
		Writes:   l.count.writes.Load(),
		Bytes:    l.count.bytes.Load(),
		Syncs:    syncs, SyncTimes: times,
		Rolls:    l.count.rolls.Load(),
		Yields:   l.count.yields.Load(),
		Stalls:   l.count.stalls.Load(),
		LowSpace: l.low.Load(),
		Poisoned: l.Poison(),
	}
}
