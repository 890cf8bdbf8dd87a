package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/message"
)

// Hands are the goroutines that do all of a Push's work: one of them waits for
// messages, and whoever it finds work for does it at once, so that a message on
// its way to its handler wakes one goroutine. There are at most two more than
// workers: one that waits and one for chores while all handlers are busy. They start
// when there is work and stay until Run ends.

// hand is one goroutine. It is guarded by Push.mu, except that its own goroutine
// reads what it has set itself.
type hand struct {
	ctx    context.Context // of the handler; a new one once it has ended
	cancel context.CancelCauseFunc

	busy    bool // a handler runs, or is about to
	late    bool // it has taken too long, and its messages are settled
	began   time.Time
	hasRead bool // its last work was to read

	// What it works on.
	in    *intake
	units []*unit
	ds    []*Delivery
	line  *line
	sub   *subscription
	limit message.Limit
	from  int64
	chore func()
}

type work uint8

const (
	rest work = iota
	quit
	doChore
	doRead
	doHandle
	doWatch
)

// hire starts a hand.
func (p *Push) hireLocked() {
	h := new(hand)
	p.hands[h] = struct{}{}
	p.waking = true
	p.crew.Go(func() { p.toil(h) })
}

func (p *Push) toil(h *hand) {
	defer p.fired(h)
	p.mu.Lock()
	p.waking = false
	for {
		w := p.pickLocked(h)
		if w != rest && w != quit {
			p.stirLocked()
		}
		switch w {
		case quit:
			delete(p.hands, h)
			p.mu.Unlock()
			return
		case rest:
			h.hasRead = false
			p.parked++
			p.idle.Wait()
			p.parked--
			p.waking = false
			continue
		}
		p.mu.Unlock()
		switch w {
		case doChore:
			h.chore()
			h.chore = nil
		case doRead:
			p.read(h)
		case doHandle:
			p.handle(h)
		case doWatch:
			p.await()
		}
		p.mu.Lock()
	}
}

// fired cleans up after a hand whose handler has ended its goroutine.
func (p *Push) fired(h *hand) {
	p.mu.Lock()
	_, lost := p.hands[h]
	delete(p.hands, h)
	p.mu.Unlock()
	if !lost {
		return
	}
	if h.busy {
		p.resolve(h, errors.New("consumer: handler has ended its goroutine"))
	}
	if h.cancel != nil {
		h.cancel(errStopped)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stirLocked()
}

// pickLocked chooses what a hand does next and takes it.
func (p *Push) pickLocked(h *hand) work {
	if p.state == over || len(p.hands) > p.workers+2 {
		return quit
	}
	if p.chores.len() > 0 {
		h.chore = p.chores.pop()
		return doChore
	}
	if p.state != serves {
		return rest
	}
	read := p.runnable.len() < 2
	if read && !h.hasRead && p.takeReadLocked(h, &p.readable) {
		return doRead
	}
	if p.running < p.workers && p.takeHandleLocked(h) {
		h.hasRead = false
		return doHandle
	}
	if read && (p.takeReadLocked(h, &p.readable) || p.takeReadLocked(h, &p.tails)) {
		return doRead
	}
	if !p.watching {
		p.watching = true
		return doWatch
	}
	return rest
}

// stirLocked sends one more hand to look for work if there is some. That one sends
// the next.
func (p *Push) stirLocked() {
	if p.waking || p.state < serves || p.state == over || !p.hasWorkLocked() {
		return
	}
	if p.parked > 0 {
		p.waking = true
		p.idle.Signal()
	} else if len(p.hands) < p.workers+2 {
		p.hireLocked()
	}
}

func (p *Push) hasWorkLocked() bool {
	if p.chores.len() > 0 {
		return true
	}
	if p.state != serves {
		return false
	}
	if p.runnable.len() > 0 && p.running < p.workers && !p.limited {
		return true
	}
	if p.runnable.len() < 2 && p.readable.len()+p.tails.len() > 0 {
		return true
	}
	return !p.watching
}

// choreLocked has f called soon by a hand. f may wait for the engine.
func (p *Push) choreLocked(f func()) {
	p.chores.push(f)
	p.stirLocked()
}

// later has f called by a hand in d.
func (p *Push) later(d time.Duration, f func()) {
	p.alarms.after(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.choreLocked(f)
	})
}

// await waits for messages and notes where they are.
func (p *Push) await() {
	q, err := p.watch.Next(p.ctx)
	if err != nil && p.ctx.Err() == nil {
		p.broken(fmt.Errorf("consumer: watch: %w", err))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		return // watching stays set: nobody tries again
	}
	p.watching = false
	if in := p.intakes[q]; in != nil {
		in.wantRead, in.likely, in.arrived = true, true, true
		p.offerReadLocked(in)
	}
}

// offerRunLocked lets hands find an intake that has something ready.
func (p *Push) offerRunLocked(in *intake) {
	if !in.queued && in.stage == serving && in.hasReady() && !p.pausedLocked(in.q) {
		in.queued = true
		p.runnable.push(in)
	}
}

// offerReadLocked lets hands find an intake that wants to be read.
func (p *Push) offerReadLocked(in *intake) {
	if in.readQueue || !p.mayReadLocked(in) {
		return
	}
	in.readQueue = true
	if in.likely {
		p.readable.push(in)
	} else {
		p.tails.push(in)
	}
}

// mayReadLocked reports whether there is reason and room to read. Reading begins
// again when half of the room is free: otherwise each message that is handled
// would have one read.
func (p *Push) mayReadLocked(in *intake) bool {
	if in.stage != serving || !in.wantRead || in.reading || in.asleep || in.stopped != nil || p.pausedLocked(in.q) {
		return false
	}
	if _, ok := p.filter(in); !ok {
		return false
	}
	f, o := &in.flight, &p.o.push
	if f.count > o.count/2 || f.bytes > o.bytes/2 {
		return false
	}
	return len(in.held) > 0 || f.next-f.lowest() < o.span
}

// takeReadLocked takes an intake to read from.
func (p *Push) takeReadLocked(h *hand, from *fifo[*intake]) bool {
	for from.len() > 0 {
		in := from.pop()
		in.readQueue = false
		if !p.mayReadLocked(in) {
			continue
		}
		f, o := &in.flight, &p.o.push
		n := min(o.readBatch, o.count-f.count)
		if len(in.held) == 0 {
			n = min(n, int(o.span-(f.next-f.lowest())))
		}
		h.in, h.from = in, f.next
		h.limit = message.Limit{Count: n, Bytes: int(min(readBytes, o.bytes-f.bytes))}
		in.reading, in.arrived = true, false
		h.hasRead = true
		return true
	}
	return false
}

// readBytes bounds one read.
const readBytes = 4 << 20
