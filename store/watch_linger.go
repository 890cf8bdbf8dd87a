package store

import (
	"runtime"
	"time"

	"github.com/embermq/embermq/internal/bet"
	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/env"
)

// linger decides whether a reader who has found nothing stays awake for a moment
// instead of going to sleep. In a stream of messages the next one comes sooner
// than a sleeper wakes: that takes some 70 microseconds, of which the Go scheduler
// spends 50 asleep itself, and on a host with other work milliseconds. The reader
// yields all the while, so whoever has work goes first.
//
// It is a bet like that of a leader of the log. A slow stream costs next to nothing,
// and an idle reader sleeps.
type linger struct {
	bets  bet.Record
	may   bool // there is a second processor to stay awake on
	clock clock.Clock
}

// lingerFor is what a bet is worth: about what being woken takes.
const lingerFor = 100 * time.Microsecond

func newLinger(e *env.Env) linger {
	return linger{may: !e.NoYield && runtime.GOMAXPROCS(0) > 1, clock: e.Clock}
}

// wait yields until come says so or the bet is lost.
func (l *linger) wait(come func() bool) {
	if l.bets.Pass() {
		return
	}
	began := l.clock.Now()
	if l.bets.Rests(began) {
		return
	}
	at := began
	for n := 0; ; n++ {
		runtime.Gosched()
		now := l.clock.Now()
		if took := now.Sub(at); took > bet.Slow {
			l.bets.Busy(took, now, l.bets.WasSlow())
			return
		}
		if come() {
			l.bets.Won()
			return
		}
		if at = now; now.Sub(began) > lingerFor || n > bet.Still && now.Equal(began) {
			l.bets.Lost()
			return
		}
	}
}
