package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/store"
)

// ticking is a clock that moves by itself whenever it is looked at.
type ticking struct {
	*clock.Manual
	step time.Duration
}

func (c *ticking) Now() time.Time {
	c.Advance(c.step)
	return c.Manual.Now()
}

// bets counts in how many of n waits a reader stays awake.
func bets(c clock.Clock, n int, arrives func(wait int) bool) (count int) {
	wait := store.NewLinger(c)
	for i := range n {
		bet := false
		wait(func() bool {
			bet = true
			return arrives(i)
		})
		if bet {
			count++
		}
	}
	return count
}

func never(int) bool  { return false }
func always(int) bool { return true }

func TestWatchLingers(t *testing.T) {
	start := time.UnixMilli(1_700_000_000_000)
	fast := &ticking{clock.NewManual(start), 10 * time.Microsecond}
	require.Equal(t, 1000, bets(fast, 1000, always), "in a stream every bet is won")
	require.Less(t, bets(fast, 1000, never), 25, "who loses bets makes fewer")
	late := bets(fast, 2000, func(wait int) bool { return wait > 1000 })
	require.Greater(t, late, 900, "one that is won brings them back")

	still := clock.NewManual(start)
	require.NotZero(t, bets(still, 10, never), "a clock that stands still ends a bet too")

	slow := &ticking{clock.NewManual(start), time.Millisecond}
	require.Less(t, bets(slow, 1000, always), 15, "the processors are taken: who sleeps is woken sooner")
}
