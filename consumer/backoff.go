package consumer

import (
	"math"
	"time"
)

// Backoff is how long a message waits after its nth failed attempt, counted from
// 1. It is called by several goroutines at once.
type Backoff func(attempt int) time.Duration

var levels = [...]time.Duration{
	10 * time.Second, 30 * time.Second,
	1 * time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute,
	6 * time.Minute, 7 * time.Minute, 8 * time.Minute, 9 * time.Minute, 10 * time.Minute,
	20 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
}

// Levels is RocketMQ's table and the default: 16 steps from 10 seconds to 2
// hours. The last one repeats.
func Levels() Backoff { return Steps(levels[:]...) }

// Steps waits as long as the table says, whose last step repeats. An empty table
// does not wait.
func Steps(table ...time.Duration) Backoff {
	own := append([]time.Duration(nil), table...)
	return func(attempt int) time.Duration {
		if len(own) == 0 {
			return 0
		}
		return own[min(max(attempt, 1), len(own))-1]
	}
}

// Exponential waits first, then factor times as long with each attempt, at most
// limit. RocketMQ's is Exponential(5*time.Second, 2*time.Hour, 2).
func Exponential(first, limit time.Duration, factor float64) Backoff {
	return func(attempt int) time.Duration {
		d := float64(first) * math.Pow(factor, float64(max(attempt, 1)-1))
		if !(d < float64(limit)) { // NaN too
			return limit
		}
		return time.Duration(d)
	}
}
