// Package clock passes the time in, so that tests and the simulator own it.
// The real clock follows testing/synctest's bubble by itself, because it is
// package time.
package clock

import (
	"sync"
	"time"
)

// Clock tells the time and wakes its caller later.
type Clock interface {
	Now() time.Time
	// After delivers one value after d; stop releases it early.
	After(d time.Duration) (c <-chan time.Time, stop func())
}

// Real is package time.
type Real struct{}

// Now is time.Now.
func (Real) Now() time.Time { return time.Now() }

// After is time.NewTimer.
func (Real) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// Manual is a clock that moves only when told to. It may be used by several
// goroutines at once.
type Manual struct {
	mu      sync.Mutex
	now     time.Time
	waiters []*waiter
}

type waiter struct {
	at time.Time
	c  chan time.Time
}

// NewManual returns a clock that stands at now.
func NewManual(now time.Time) *Manual { return &Manual{now: now} }

// Now is the time last set.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// After fires when the clock has been moved by d or more.
func (m *Manual) After(d time.Duration) (<-chan time.Time, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &waiter{at: m.now.Add(d), c: make(chan time.Time, 1)}
	m.waiters = append(m.waiters, w)
	m.fireLocked()
	return w.c, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.waiters = remove(m.waiters, w)
	}
}

// Advance moves the clock by d, which may be negative, and fires what is due.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = m.now.Add(d)
	m.fireLocked()
}

// Set moves the clock to t, which may lie in the past.
func (m *Manual) Set(t time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = t
	m.fireLocked()
}

func (m *Manual) fireLocked() {
	kept := m.waiters[:0]
	for _, w := range m.waiters {
		if w.at.After(m.now) {
			kept = append(kept, w)
			continue
		}
		w.c <- m.now
	}
	clear(m.waiters[len(kept):])
	m.waiters = kept
}

func remove(ws []*waiter, w *waiter) []*waiter {
	for i := range ws {
		if ws[i] == w {
			return append(ws[:i], ws[i+1:]...)
		}
	}
	return ws
}
