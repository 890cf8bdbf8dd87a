package producer

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/embermq/embermq/message"
)

func itoa(i int) string { return strconv.Itoa(i) }

// room bounds what is in flight. Who waits is served in order.
//
// Invariant: count ≤ maxCount, and bytes ≤ maxBytes unless count is 1.
type room struct {
	maxCount int
	maxBytes int64
	full     func() // called when somebody is about to wait

	mu        sync.Mutex
	count     int
	bytes     int64
	peak      int
	peakBytes int64
	waiters   fifo[*waiter]
	waiting   int
}

type waiter struct {
	size  int64
	ready chan struct{}
	gone  bool // it has given up
}

func (r *room) takeLocked(size int64) bool {
	if r.count > 0 && (r.count >= r.maxCount || r.bytes+size > r.maxBytes) {
		return false
	}
	r.count++
	r.bytes += size
	r.peak, r.peakBytes = max(r.peak, r.count), max(r.peakBytes, r.bytes)
	return true
}

// take makes room for size bytes, or waits for it until ctx ends.
func (r *room) take(ctx context.Context, size int64, refuse bool) error {
	r.mu.Lock()
	if r.waiting == 0 && r.takeLocked(size) {
		r.mu.Unlock()
		return nil
	}
	if refuse {
		n, b := r.count, r.bytes
		r.mu.Unlock()
		return fmt.Errorf("producer: %d messages and %d bytes are in flight: %w", n, b, message.ErrBusy)
	}
	w := &waiter{size: size, ready: make(chan struct{})}
	r.waiters.push(w)
	r.waiting++
	r.mu.Unlock()
	r.full()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-w.ready: // at the same moment; the room is taken
		return nil
	default:
	}
	w.gone = true
	r.waiting--
	r.serveLocked() // a smaller one behind it may fit
	return early(fmt.Errorf("no room in flight: %w", context.Cause(ctx)))
}

func (r *room) give(size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count--
	r.bytes -= size
	r.serveLocked()
}

func (r *room) serveLocked() {
	for r.waiters.len() > 0 {
		w := r.waiters.head()
		if !w.gone {
			if !r.takeLocked(w.size) {
				return
			}
			r.waiting--
			close(w.ready)
		}
		r.waiters.pop()
	}
}

func (r *room) anyWaiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting > 0
}

func (r *room) stats(st *Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st.InFlight, st.InFlightBytes = r.count, r.bytes
	st.PeakInFlight, st.PeakInFlightBytes = r.peak, r.peakBytes
}

// fifo is a queue whose memory is used again.
type fifo[T any] struct {
	items []T
	start int
}

func (q *fifo[T]) len() int { return len(q.items) - q.start }

func (q *fifo[T]) head() T { return q.items[q.start] }

func (q *fifo[T]) push(v T) {
	if q.start > 64 && q.start > len(q.items)/2 {
		n := copy(q.items, q.items[q.start:])
		clear(q.items[n:])
		q.items, q.start = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

func (q *fifo[T]) pop() T {
	var none T
	v := q.items[q.start]
	q.items[q.start] = none
	if q.start++; q.start == len(q.items) {
		q.items, q.start = q.items[:0], 0
		if cap(q.items) > 4096 {
			q.items = nil
		}
	}
	return v
}
