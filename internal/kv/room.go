package kv

import (
	"sync"
	"time"

	"github.com/embermq/embermq/internal/clock"
)

// roomPoll is how often a write that waits for room is tried again by itself.
const roomPoll = 250 * time.Millisecond

// room is where writes wait while the disk is full.
type room struct {
	gate    *gate
	clock   clock.Clock
	ballast ballast
	stopped chan struct{} // closed when nothing may wait any longer

	mu struct {
		sync.Mutex
		waiting int
		stuck   chan struct{} // closed while waiting > 0
		freed   chan struct{} // closed and replaced when room may have come back
		stopped bool
	}
}

func (r *room) init(g *gate, c clock.Clock) {
	r.gate, r.clock = g, c
	r.stopped = make(chan struct{})
	r.mu.freed = make(chan struct{})
	r.mu.stuck = make(chan struct{})
	r.ballast.gate = g
}

// wait returns true when the write should be tried again, and false when it may
// not wait. The ballast goes first: giving it back costs nothing and helps at
// once.
func (r *room) wait() bool {
	if r.ballast.giveBack() {
		return true
	}
	if !r.gate.in(serving) {
		return false
	}
	freed := r.enter()
	defer r.leave()
	tick, stop := r.clock.After(roomPoll)
	defer stop()
	select {
	case <-freed:
		return true
	case <-tick:
		return true
	case <-r.stopped:
		return false
	case <-r.gate.poison.done:
		return true // the next try finds the gate shut
	}
}

func (r *room) enter() (freed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.waiting++
	if r.mu.waiting == 1 {
		close(r.mu.stuck)
	}
	return r.mu.freed
}

func (r *room) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.waiting--
	if r.mu.waiting == 0 {
		r.mu.stuck = make(chan struct{})
	}
}

// stuck is a channel that is closed when some write waits now, or the next time
// that one does.
func (r *room) stuck() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.stuck
}

// waiters is the number of writes that wait for room.
func (r *room) waiters() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.waiting
}

// wake lets every waiting write try again.
func (r *room) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.mu.freed)
	r.mu.freed = make(chan struct{})
}

// stop ends all waits, now and later.
func (r *room) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mu.stopped {
		r.mu.stopped = true
		close(r.stopped)
	}
}
