package main

import (
	"runtime"
	"sync"
)

// gatherer turns the puts of many goroutines into writes of one, as a leader does
// in front of a log that takes one writer.
type gatherer struct {
	write func(bodies [][]byte) error

	mu struct {
		sync.Mutex
		busy   bool
		bodies [][]byte
		wait   []chan outcome
	}
}

type outcome struct {
	lead bool
	err  error
}

func (g *gatherer) putter() (func(bodies ...[]byte) error, error) {
	turn := make(chan outcome, 1)
	return func(bodies ...[]byte) error {
		g.mu.Lock()
		g.mu.bodies, g.mu.wait = append(g.mu.bodies, bodies...), append(g.mu.wait, turn)
		lead := !g.mu.busy
		g.mu.busy = true
		g.mu.Unlock()
		if !lead {
			if o := <-turn; !o.lead {
				return o.err
			}
		}
		return g.lead(turn)
	}, nil
}

func (g *gatherer) lead(turn chan outcome) error {
	runtime.Gosched()
	g.mu.Lock()
	bodies, wait := g.mu.bodies, g.mu.wait
	g.mu.bodies, g.mu.wait = nil, nil
	g.mu.Unlock()
	err := g.write(bodies)
	for _, w := range wait {
		if w != turn {
			w <- outcome{err: err}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.mu.wait) > 0 {
		g.mu.wait[0] <- outcome{lead: true}
	} else {
		g.mu.busy = false
	}
	return err
}
