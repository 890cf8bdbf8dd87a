package consumer

import "time"

// bucket holds tokens: one for each message that may be handed out. It is guarded
// by Push.mu.
type bucket struct {
	rate, burst float64
	tokens      float64
	last        time.Time
}

// take takes n tokens, or tells how long until there are so many. n is at most
// the burst.
func (b *bucket) take(n int, now time.Time) (wait time.Duration) {
	if b.last.IsZero() {
		b.tokens = b.burst
	} else if d := now.Sub(b.last); d > 0 {
		b.tokens = min(b.burst, b.tokens+d.Seconds()*b.rate)
	}
	b.last = now
	// A part of a token is lost to rounding now and then; without some slack the
	// caller would come back a nanosecond early for ever.
	if missing := float64(n) - b.tokens; missing > 1e-6 {
		return time.Duration(missing/b.rate*float64(time.Second)) + 1
	}
	b.tokens -= float64(n)
	return 0
}
