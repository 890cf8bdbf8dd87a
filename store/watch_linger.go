package store

import (
	"runtime"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/env"
)

// linger decides whether a reader who has found nothing stays awake for a moment
// instead of going to sleep. In a stream of messages the next one comes sooner
// than a sleeper wakes: that takes some 70 microseconds, of which the Go scheduler
// spends 50 asleep itself, and on a host with other work milliseconds. The reader
// yields all the while, so whoever has work goes first.
//
// It is a bet, on the same terms as that of a leader of the log: who loses bets
// in a row makes fewer of them, so that a slow stream costs next to nothing, and
// who meets a busy host makes none for a while. An idle reader sleeps.
type linger struct {
	may   bool // there is a second processor to stay awake on
	clock clock.Clock
	until time.Time // the processors are taken: no bet before
	slow  bool      // the last bet ended with a slow yield
	lost  int       // bets in a row that were lost
	skip  int       // so many waits more do not bet
}

const (
	// A bet is worth about what being woken takes.
	lingerFor = 100 * time.Microsecond
	// A yield longer than that means that the processors are taken. One can be
	// chance, such as a collection of garbage: there is no bet for lingerShort times
	// as long then, and after another one for lingerLong times, at most lingerRest.
	lingerSlow  = 50 * time.Microsecond
	lingerShort = 10
	lingerLong  = 200
	lingerRest  = 10 * time.Second
	// After n lost bets in a row 2ⁿ-2 waits do not bet, up to this n.
	lingerLost = 6
	// After so many yields any clock has moved, unless it is a test's own.
	lingerStill = 100
)

func newLinger(e *env.Env) linger {
	return linger{may: !e.NoYield && runtime.GOMAXPROCS(0) > 1, clock: e.Clock}
}

// wait yields until come says so or the bet is lost.
func (l *linger) wait(come func() bool) {
	if l.skip > 0 {
		l.skip--
		return
	}
	began := l.clock.Now()
	if began.Before(l.until) {
		return
	}
	at := began
	for n := 0; ; n++ {
		runtime.Gosched()
		now := l.clock.Now()
		took := now.Sub(at)
		if took > lingerSlow {
			pause := time.Duration(lingerShort)
			if l.slow {
				pause = lingerLong
			}
			l.slow, l.until = true, now.Add(min(took*pause, lingerRest))
			return
		}
		if come() {
			l.slow, l.lost = false, 0
			return
		}
		if at = now; now.Sub(began) > lingerFor || n > lingerStill && now.Equal(began) {
			l.slow, l.lost = false, min(l.lost+1, lingerLost)
			l.skip = 1<<l.lost - 2
			return
		}
	}
}
