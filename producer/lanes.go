package producer

import (
	"fmt"
	"sync"
)

// laneGroup bounds how many waiting messages of one key go to the engine
// together, laneBytes how many bytes.
const (
	laneGroup = 256
	laneBytes = 512 << 10
)

// lanes keep the order of each key: a lane has one group at the engine, and what
// comes meanwhile waits and goes as the next one. A lane exists as long as it has
// something to do, or has failed and its caller does not know yet.
type lanes struct {
	p *Producer

	mu sync.Mutex
	m  map[key]*lane
}

// lane is one key's.
//
// Invariant: a lane that has failed has no queue and nothing at the engine.
type lane struct {
	key    key
	queue  []*flight
	failed error
}

// add sends f, or puts it behind what is on its way.
func (l *lanes) add(f *flight) {
	l.mu.Lock()
	k := f.key()
	la := l.m[k]
	switch {
	case la == nil && l.p.mustFollow(&f.send):
		// The spool has messages of the key: they come first.
		f.err = l.p.keep(&f.send, fmt.Errorf("producer: %w", ErrPrecedingFailed))
		l.p.calls.push(f)
	case la == nil:
		la = &lane{key: k}
		if l.m == nil {
			l.m = make(map[key]*lane)
		}
		l.m[k] = la
		f.lane = la
		l.mu.Unlock()
		l.p.launch(f)
		return
	case la.failed != nil:
		f.err = l.p.keep(&f.send, precede(la.failed))
		l.p.calls.push(f)
	default:
		f.lane = la
		la.queue = append(la.queue, f)
	}
	l.mu.Unlock()
}

// done takes the outcome of what the lane had at the engine, and goes on. Either
// all of fs have failed or none.
func (l *lanes) done(fs []*flight) {
	la := fs[0].lane
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := fs[0].err; err != nil {
		fs[0].err = l.p.keep(&fs[0].send, err)
		fs[0].reopens = true
		for _, f := range fs[1:] {
			f.err = l.p.keep(&f.send, precede(err))
		}
		for _, f := range la.queue {
			f.err = l.p.keep(&f.send, precede(err))
		}
		fs = append(fs, la.queue...)
		la.queue, la.failed = nil, err
	} else if next := la.take(); len(next) > 0 {
		go l.launch(next) // off the goroutine that waits for all
	} else {
		delete(l.m, la.key)
	}
	for _, f := range fs {
		l.p.calls.push(f)
	}
}

// take takes the next group off the queue.
func (la *lane) take() []*flight {
	n, bytes := 0, int64(0)
	for n < len(la.queue) && n < laneGroup && (n == 0 || bytes+la.queue[n].size <= laneBytes) {
		bytes += la.queue[n].size
		n++
	}
	next := la.queue[:n:n]
	la.queue = la.queue[n:]
	if len(la.queue) == 0 {
		la.queue = nil
	}
	return next
}

// launch sends a group of one key: alone it goes like any other message,
// otherwise as one atomic group.
func (l *lanes) launch(fs []*flight) {
	p := l.p
	if len(fs) == 1 {
		p.launch(fs[0])
		return
	}
	p.sendFlights(fs)
	failed := len(fs)
	for i, f := range fs {
		if f.err != nil {
			failed = i
			break
		}
	}
	if failed == len(fs) {
		l.done(fs)
		return
	}
	// Those in front of the failed one were sent singly and are stored.
	for _, f := range fs[:failed] {
		p.calls.push(f)
	}
	l.done(fs[failed:])
}

// reopen ends the failure of a key, or only that of one lane: its caller is about
// to know.
func (l *lanes) reopen(k key, only *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if la := l.m[k]; la != nil && la.failed != nil && (only == nil || only == la) {
		delete(l.m, k)
	}
}
