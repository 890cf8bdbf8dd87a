package measure

import (
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies is a histogram of durations from 100 ns to a minute, three digits.
// It is for one goroutine at a time.
type Latencies struct{ h *hdr.Histogram }

// NewLatencies returns an empty histogram.
func NewLatencies() *Latencies { return &Latencies{hdr.New(100, int64(time.Minute), 3)} }

// Add counts one duration; what is outside the range counts as its end.
func (l *Latencies) Add(d time.Duration) {
	_ = l.h.RecordValue(min(max(int64(d), 100), int64(time.Minute)))
}

// Merge adds the durations of another histogram.
func (l *Latencies) Merge(o *Latencies) { l.h.Merge(o.h) }

// Micros is a percentile, 0..100, in microseconds.
func (l *Latencies) Micros(percentile float64) float64 {
	return float64(l.h.ValueAtQuantile(percentile)) / 1e3
}

// Max is the longest duration in microseconds.
func (l *Latencies) Max() float64 { return float64(l.h.Max()) / 1e3 }

// Count is how many durations were added.
func (l *Latencies) Count() int64 { return l.h.TotalCount() }

// Pace calls op at a fixed rate for d. Each call gets the moment at which it was
// due, and latencies are counted from there: when one call holds up the next
// ones, their wait is in the figures, so nothing is left out because the work
// was slow (coordinated omission). It returns how many calls were made.
func Pace(perSecond int, d time.Duration, op func(due time.Time) error) (int, error) {
	gap := time.Second / time.Duration(perSecond)
	n := max(int(d/gap), 1)
	begun := time.Now()
	for i := range n {
		due := begun.Add(time.Duration(i) * gap)
		waitUntil(due)
		if err := op(due); err != nil {
			return i, err
		}
	}
	return n, nil
}

// waitUntil sleeps through long gaps and spins through short ones: a sleep takes a
// millisecond, and the figure would be that of the timer. It does not let other
// goroutines in while it spins, so that whoever is woken wakes on another
// processor, as readers do whose producer has more to do.
func waitUntil(t time.Time) {
	for {
		left := time.Until(t)
		if left <= 0 {
			return
		}
		if left > 3*time.Millisecond {
			time.Sleep(left - 2*time.Millisecond)
		}
	}
}
