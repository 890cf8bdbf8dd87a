package consumer

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/embermq/embermq/internal/clock"
)

// alarms call functions later, all on one goroutine, so they are short.
type alarms struct {
	clock clock.Clock
	wake  chan struct{}

	mu   sync.Mutex
	list alarmHeap
}

type alarm struct {
	at time.Time
	f  func()
}

func newAlarms(c clock.Clock) *alarms {
	return &alarms{clock: c, wake: make(chan struct{}, 1)}
}

// after calls f in d. What is set after run has ended never rings.
func (a *alarms) after(d time.Duration, f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	heap.Push(&a.list, alarm{a.clock.Now().Add(d), f})
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run calls what is due until ctx ends.
func (a *alarms) run(ctx context.Context) {
	for {
		due, next, any := a.take()
		for _, f := range due {
			f()
		}
		if len(due) > 0 {
			continue
		}
		var c <-chan time.Time
		stop := func() {}
		if any {
			c, stop = a.clock.After(next)
		}
		select {
		case <-c:
		case <-a.wake:
		case <-ctx.Done():
			stop()
			return
		}
		stop()
	}
}

// take removes what is due; next is how long until the one after that.
func (a *alarms) take() (due []func(), next time.Duration, any bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	for len(a.list) > 0 {
		if d := a.list[0].at.Sub(now); d > 0 {
			return due, d, true
		}
		due = append(due, heap.Pop(&a.list).(alarm).f)
	}
	return due, 0, false
}

type alarmHeap []alarm

func (h alarmHeap) Len() int           { return len(h) }
func (h alarmHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h alarmHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *alarmHeap) Push(v any)        { *h = append(*h, v.(alarm)) }
func (h *alarmHeap) Pop() any {
	n := len(*h) - 1
	v := (*h)[n]
	(*h)[n] = alarm{}
	*h = (*h)[:n]
	return v
}
