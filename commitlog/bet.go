package commitlog

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/embermq/embermq/internal/bet"
)

// Filling groups. A leader bets that those whom the last sync or write woke come
// back at once, and yields to let them join before it takes the batch. Who
// completes the crowd takes the lead over and writes: it runs already, while the
// one that yielded waits for a processor. Bets stop for a while when they are
// lost, and when the host is busy and a yield takes a scheduler's time slice.

// yielder is the record of one kind of bet. It is guarded by Log.mu, but for synced.
type yielder struct {
	bet.Record
	calm   int          // leaders that found their crowd complete
	synced atomic.Int64 // nanoseconds that the last sync took
}

const (
	// A leader waits for a quarter of what the sync will take, and so much longer
	// for every group that joined meanwhile: those were encoded then, which
	// somebody has to wait for anyway.
	patiencePerGroup = 4 * time.Microsecond
	longestPatience  = 100 * time.Microsecond
	crowdPatience    = 4 * time.Microsecond // if no sync follows
	// A yield that takes longer is no chance. So on a busy host at most one append in a
	// hundred meets a slow yield, unless an append takes longer than half of it anyway.
	timeSlice = time.Millisecond
	// So often a leader whose crowd is complete asks with one yield whether it has
	// grown: producers that wait for a processor are not seen otherwise.
	probeEvery = 128
)

// betLocked yields while fewer have gathered than could, and reports whether the
// caller leads still. Who could are those whom the last sync woke, and those who
// had gathered while it ran. (With the woken alone two halves of the producers
// would take turns for ever, each half as large a group as there could be.) If no
// sync will follow it is the same with the last write, and the wait is shorter: it
// saves no more than a write each.
func (l *Log) betLocked() (leads bool) {
	if l.o.Manual || l.o.NoYield {
		return true
	}
	y, expected := &l.yield, l.expected
	patience := min(time.Duration(y.synced.Load())/4, longestPatience)
	if l.diskWaiting == 0 {
		y, expected, patience = &l.crowd, l.crowded, crowdPatience
	}
	here := int(l.waiting.Load())
	probe := false
	switch {
	case here >= expected:
		y.calm++
		if probe = y.calm%probeEvery == 0 && l.diskWaiting == 0; !probe {
			return true
		}
		expected, patience = here+1, 0
	case y.Pass():
		return true
	}
	now := l.o.Clock.Now()
	if y.Rests(now) {
		return true
	}
	l.bets++
	mine := l.bets
	l.betOn.Store(mine)
	l.awaited = expected
	l.mu.Unlock() // those who are to join need it
	slow, at := l.yieldFor(mine, now, patience)
	l.mu.Lock()
	if l.betOn.Load() != mine {
		return false
	}
	l.betOn.Store(0)
	y.settle(slow, at, probe, y == &l.yield)
	return true
}

// takeOverLocked reports whether the group that just joined completes the crowd
// that a leader waits for; its caller holds write leadership then.
func (l *Log) takeOverLocked() bool {
	if l.betOn.Load() == 0 || int(l.waiting.Load()) < l.awaited {
		return false
	}
	l.betOn.Store(0)
	y := &l.yield
	if l.diskWaiting == 0 {
		y = &l.crowd
	}
	y.Won()
	return true
}

// yieldFor yields until the bet is won by another, or for as long as it is worth
// it. slow is how long the last yield took if that was too long.
func (l *Log) yieldFor(mine uint64, t0 time.Time, patience time.Duration) (slow time.Duration, now time.Time) {
	at, before := t0, l.waiting.Load()
	for n := 0; ; n++ {
		runtime.Gosched()
		l.count.yields.Add(1)
		if l.betOn.Load() != mine {
			return 0, at
		}
		now, waiting := l.o.Clock.Now(), l.waiting.Load()
		joined := time.Duration(waiting-before) * patiencePerGroup
		took := now.Sub(at)
		at, before, patience = now, waiting, patience+joined
		switch {
		case took > bet.Slow+joined:
			return took, now
		case n > bet.Still && now.Equal(t0), // a test's clock stands still
			now.Sub(t0) >= patience:
			return 0, now
		}
	}
}

// settle takes note of a bet that nobody won. Appends without a sync are so short
// that thousands of them fit into the short pause.
func (y *yielder) settle(slow time.Duration, now time.Time, probe, sync bool) {
	switch {
	case slow > 0:
		y.Busy(slow, now, sync && (y.WasSlow() || slow > timeSlice))
	case probe:
		y.Drawn()
	default:
		y.Lost()
	}
}
