package commitlog

import (
	"runtime"
	"sync/atomic"
	"time"
)

// Filling groups. A leader bets that those whom the last sync or write woke come
// back at once, and yields to let them join before it takes the batch. Who
// completes the crowd takes the lead over and writes: it runs already, while the
// one that yielded waits for a processor. Bets stop for a while when they are
// lost, and when the host is busy and a yield takes a scheduler's time slice.

// yielder remembers how bets went. It is guarded by Log.mu, but for synced.
type yielder struct {
	until  time.Time    // the host is busy: no yield before
	slow   bool         // the last bet ended with a slow yield
	lost   int          // bets in a row that were lost
	skip   int          // so many leaders more do not bet
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
	// A single yield longer than that may mean that the processors are taken. One
	// can be chance: there is none for shortPause times as long then, and after
	// another one for yieldPause times as long, at most longestPause. So on a busy
	// host at most one append in a hundred meets a slow yield, unless an append
	// takes longer than half of it anyway.
	slowYield    = 50 * time.Microsecond
	timeSlice    = time.Millisecond // no chance any more
	shortPause   = 10
	yieldPause   = 200
	longestPause = 10 * time.Second
	// After n lost bets in a row 2ⁿ-2 leaders do not bet, up to this n.
	mostLost = 6
	// So often a leader whose crowd is complete asks with one yield whether it has
	// grown: producers that wait for a processor are not seen otherwise.
	probeEvery = 128
	// After so many yields any clock has moved, unless it is a test's own.
	stillYields = 100
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
	case y.skip > 0:
		y.skip--
		return true
	}
	now := l.o.Clock.Now()
	if now.Before(y.until) {
		return true
	}
	l.bets++
	bet := l.bets
	l.betOn.Store(bet)
	l.awaited = expected
	l.mu.Unlock() // those who are to join need it
	slow, at := l.yieldFor(bet, now, patience)
	l.mu.Lock()
	if l.betOn.Load() != bet {
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
	y.slow, y.lost = false, 0
	return true
}

// yieldFor yields until the bet is won by another, or for as long as it is worth
// it. slow is how long the last yield took if that was too long.
func (l *Log) yieldFor(bet uint64, t0 time.Time, patience time.Duration) (slow time.Duration, now time.Time) {
	at, before := t0, l.waiting.Load()
	for n := 0; ; n++ {
		runtime.Gosched()
		l.count.yields.Add(1)
		if l.betOn.Load() != bet {
			return 0, at
		}
		now, waiting := l.o.Clock.Now(), l.waiting.Load()
		joined := time.Duration(waiting-before) * patiencePerGroup
		took := now.Sub(at)
		at, before, patience = now, waiting, patience+joined
		switch {
		case took > slowYield+joined:
			return took, now
		case n > stillYields && now.Equal(t0), // a test's clock stands still
			now.Sub(t0) >= patience:
			return 0, now
		}
	}
}

// settle takes note of a bet that was lost. Appends without a sync are so short
// that thousands of them fit into the short pause.
func (y *yielder) settle(slow time.Duration, now time.Time, probe, sync bool) {
	switch {
	case slow > 0 && sync && (y.slow || slow > timeSlice):
		y.until = now.Add(min(slow*yieldPause, longestPause))
	case slow > 0:
		y.until = now.Add(min(slow*shortPause, longestPause))
	case !probe:
		y.lost = min(y.lost+1, mostLost)
		y.skip = 1<<y.lost - 2
	}
	y.slow = slow > 0
}
