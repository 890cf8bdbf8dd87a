package producer

import (
	"context"
	"sync"
)

// flying are the flights that the engine has, in the order in which it got them:
// it answers in about that order, so one goroutine waits for one after the other and
// seldom sleeps.
type flying struct {
	p *Producer

	mu      sync.Mutex
	queue   fifo[*flight]
	running bool

	lateMu      sync.Mutex
	lates       fifo[*flight]
	lateRunning bool
}

func (q *flying) push(f *flight) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue.push(f)
	if !q.running {
		q.running = true
		go q.run()
	}
}

func (q *flying) run() {
	for {
		q.mu.Lock()
		if q.queue.len() == 0 {
			q.running = false
			q.mu.Unlock()
			return
		}
		f := q.queue.pop()
		q.mu.Unlock()
		r, err, over := q.p.wait(f)
		if over {
			q.p.abandon(f, err)
		} else {
			q.p.landed(f, r, err)
		}
	}
}

// late waits for the engine to be done with a message that was answered before,
// and gives its room back then. What an engine holds stays bounded that way.
func (q *flying) late(f *flight) {
	q.lateMu.Lock()
	defer q.lateMu.Unlock()
	q.lates.push(f)
	if !q.lateRunning {
		q.lateRunning = true
		go q.runLate()
	}
}

func (q *flying) runLate() {
	for {
		q.lateMu.Lock()
		if q.lates.len() == 0 {
			q.lateRunning = false
			q.lateMu.Unlock()
			return
		}
		f := q.lates.pop()
		q.lateMu.Unlock()
		_, _ = f.pending.Wait(context.Background())
		q.p.room.give(f.size)
	}
}
