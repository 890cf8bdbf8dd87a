// Package bet decides whether it is worth yielding the processor for something that
// may come at once, instead of going on without it or going to sleep. Who loses bets
// in a row makes fewer of them, and who meets a busy host, where a yield takes a
// scheduler's time slice, makes none for a while.
package bet

import "time"

const (
	// Slow is how long a yield may take: a longer one may mean that the processors
	// are taken.
	Slow = 50 * time.Microsecond
	// Still yields move any clock, unless it is a test's own.
	Still = 100

	// One slow yield can be chance: there is no bet for shortPause times as long then,
	// and after another one for longPause times as long, at most longestPause.
	shortPause   = 10
	longPause    = 200
	longestPause = 10 * time.Second
	// After n lost bets in a row 2ⁿ-2 chances are let pass, up to this n.
	mostLost = 6
)

// Record remembers how bets of one kind went. The zero Record has seen none. It
// has no lock of its own.
type Record struct {
	until time.Time // the processors are taken: no bet before
	slow  bool      // the last bet ended with a slow yield
	lost  int       // bets in a row that were lost
	skip  int       // so many chances more are let pass
}

// Pass reports whether this chance is let pass because bets were lost.
func (r *Record) Pass() bool {
	if r.skip == 0 {
		return false
	}
	r.skip--
	return true
}

// Rests reports whether the host was too busy shortly before now.
func (r *Record) Rests(now time.Time) bool { return now.Before(r.until) }

// WasSlow reports whether the last bet ended with a slow yield.
func (r *Record) WasSlow() bool { return r.slow }

// Won ends a bet.
func (r *Record) Won() { r.slow, r.lost = false, 0 }

// Lost ends a bet.
func (r *Record) Lost() {
	r.slow, r.lost = false, min(r.lost+1, mostLost)
	r.skip = 1<<r.lost - 2
}

// Drawn ends a bet that says nothing about the next.
func (r *Record) Drawn() { r.slow = false }

// Busy ends a bet at a yield that was slow; again says that it was not by chance.
func (r *Record) Busy(took time.Duration, now time.Time, again bool) {
	pause := time.Duration(shortPause)
	if again {
		pause = longPause
	}
	r.slow, r.until = true, now.Add(min(took*pause, longestPause))
}
