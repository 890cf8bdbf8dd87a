package producer

import (
	"fmt"
	"sync"
	"time"
)

// batcherGroup bounds the messages of one group.
const batcherGroup = 4096

// batcher gathers flights and stores them group by group, one at a time, which
// also keeps the order of each key.
type batcher struct {
	p *Producer

	mu      sync.Mutex
	queue   []*flight
	bytes   int64
	since   time.Time // when the first of the queue came
	running bool
	ready   chan struct{} // wakes the goroutine that lingers
	failed  map[key]*lane // keys whose failure their callers do not know yet
}

func (b *batcher) add(f *flight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.keyed() {
		err := error(nil)
		if la, ok := b.failed[f.key()]; ok {
			err = precede(la.failed)
		} else if b.p.mustFollow(&f.send) {
			err = fmt.Errorf("producer: %w", ErrPrecedingFailed)
		}
		if err != nil {
			f.err = b.p.keep(&f.send, err)
			b.p.calls.push(f)
			return
		}
	}
	if len(b.queue) == 0 {
		b.since = b.p.o.clock.Now()
	}
	b.queue = append(b.queue, f)
	b.bytes += f.size
	if !b.running {
		b.running, b.ready = true, make(chan struct{}, 1)
		go b.run()
	}
	if b.fullLocked() {
		b.wakeLocked()
	}
}

func (b *batcher) fullLocked() bool {
	return b.bytes >= int64(b.p.o.lingerBytes) || len(b.queue) >= batcherGroup
}

func (b *batcher) wakeLocked() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// hurry sends what lingers now. Nothing is added any more.
func (b *batcher) hurry() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running {
		b.wakeLocked()
	}
}

func (b *batcher) run() {
	for {
		b.linger()
		b.mu.Lock()
		if len(b.queue) == 0 {
			b.running = false
			b.mu.Unlock()
			return
		}
		fs := b.takeLocked()
		b.mu.Unlock()
		b.p.sendFlights(fs)
		b.settle(fs)
	}
}

// linger returns when the queue is full, old enough, or empty.
func (b *batcher) linger() {
	for {
		b.mu.Lock()
		left := b.p.o.linger - b.p.o.clock.Now().Sub(b.since)
		if len(b.queue) == 0 || b.fullLocked() || left <= 0 || b.p.active.Load() >= closedBit || b.p.room.anyWaiting() {
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		up, stop := b.p.o.clock.After(left)
		select {
		case <-up:
		case <-b.ready:
		}
		stop()
	}
}

func (b *batcher) takeLocked() []*flight {
	n, bytes := 0, int64(0)
	for n < len(b.queue) && n < batcherGroup && (n == 0 || bytes+b.queue[n].size <= int64(b.p.o.maxBatch)) {
		bytes += b.queue[n].size
		n++
	}
	fs := b.queue[:n:n]
	b.queue = append([]*flight(nil), b.queue[n:]...)
	b.bytes -= bytes
	return fs
}

// settle answers a group. What waits behind a message of its key that failed
// fails with it.
func (b *batcher) settle(fs []*flight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range fs {
		b.answerLocked(f)
	}
	kept := b.queue[:0]
	for _, f := range b.queue {
		la, ok := b.failed[f.key()]
		if !ok || !f.keyed() {
			kept = append(kept, f)
			continue
		}
		b.bytes -= f.size
		f.err = precede(la.failed)
		b.answerLocked(f)
	}
	clear(b.queue[len(kept):])
	b.queue = kept
}

func (b *batcher) answerLocked(f *flight) {
	if f.err != nil {
		if _, ok := b.failed[f.key()]; !ok && f.keyed() {
			if b.failed == nil {
				b.failed = make(map[key]*lane)
			}
			f.lane, f.reopens = &lane{key: f.key(), failed: f.err}, true
			b.failed[f.key()] = f.lane
		}
		f.err = b.p.keep(&f.send, f.err)
	}
	b.p.calls.push(f)
}

func (b *batcher) reopen(k key, only *lane) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if only == nil || b.failed[k] == only {
		delete(b.failed, k)
	}
}
