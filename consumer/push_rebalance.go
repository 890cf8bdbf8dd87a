package consumer

import (
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

// openRest is how long after an error a queue is opened again.
const openRest = time.Second

// follow does what the group says until the seat is over.
func (p *Push) follow() {
	for {
		ch, err := p.seat.Next(p.ctx)
		if err != nil {
			if p.ctx.Err() == nil {
				p.broken(fmt.Errorf("consumer: %w", err))
			}
			p.loseAll()
			return
		}
		for _, c := range ch.Lost {
			p.lose(c)
		}
		for _, c := range ch.Revoked {
			p.revoke(c)
		}
		for _, c := range ch.Given {
			p.take(c)
		}
	}
}

// take begins to work on a queue.
func (p *Push) take(c group.Claim) {
	in := newIntake(c)
	p.mu.Lock()
	p.intakes[c.Queue] = in
	p.mu.Unlock()
	p.open(in)
}

// open finds out where to begin, now or later.
func (p *Push) open(in *intake) {
	st, at, err := p.standing(in)
	p.mu.Lock()
	if in.stage != opening {
		p.drainedLocked(in)
		p.mu.Unlock()
		return
	}
	if err == nil {
		in.begin(at, st)
		f, _ := p.filter(in)
		p.watch.Add(f, in.q)
		p.offerReadLocked(in)
		p.stirLocked()
		p.mu.Unlock()
		p.tell(Event{Kind: QueueGiven, Queue: in.q, Offset: at})
		return
	}
	p.mu.Unlock()
	switch {
	case errors.Is(err, message.ErrFenced) || p.ctx.Err() != nil:
	case errors.Is(err, message.ErrClosed):
		p.broken(err)
	default:
		p.tell(Event{Kind: EngineFailed, Queue: in.q, Err: err})
		p.later(openRest, func() { p.open(in) })
	}
}

// standing is where the group, or this instance, is in a queue. A group that is
// new there is told to the engine, so that it begins at the same place next time.
func (p *Push) standing(in *intake) (st message.Standing, at int64, err error) {
	now := p.o.clock.Now()
	if p.broadcasting() {
		st.Committed, st.Known = p.local.get(in.q)
		if at, err = p.o.start.resolve(p.ctx, p.e, in.q, st.Committed, st.Known, now); err == nil {
			p.local.set(in.q, at)
			p.saveLater()
		}
		return st, at, err
	}
	if st, err = p.e.Standing(p.ctx, in.claim, in.q); err != nil {
		return st, 0, fmt.Errorf("consumer: standing in %v: %w", in.q, err)
	}
	if at, err = p.o.start.resolve(p.ctx, p.e, in.q, st.Committed, st.Known, now); err != nil || st.Known {
		return st, at, err
	}
	v := message.Verdict{Queue: in.q, Offset: at, Kind: message.Begin}
	if err = p.e.Settle(p.ctx, in.claim, v); err != nil {
		return st, 0, fmt.Errorf("consumer: begin in %v: %w", in.q, err)
	}
	return st, at, nil
}

// revoke takes no more messages of a queue and gives it back once its handlers
// are done.
func (p *Push) revoke(c group.Claim) {
	p.mu.Lock()
	in := p.intakes[c.Queue]
	if in == nil || in.claim != c || in.stage >= draining {
		p.mu.Unlock()
		return
	}
	opened := in.stage == serving
	in.stage = draining
	in.drop()
	if opened {
		p.watch.Remove(in.q)
	}
	p.drainedLocked(in)
	p.mu.Unlock()
	p.tell(Event{Kind: QueueRevoked, Queue: c.Queue})
}

// lose stops the handlers of a queue that is not the consumer's any more.
func (p *Push) lose(c group.Claim) {
	p.mu.Lock()
	in := p.intakes[c.Queue]
	if in == nil || in.claim != c || in.stage >= lost {
		p.mu.Unlock()
		return
	}
	p.loseLocked(in)
	p.mu.Unlock()
	p.tell(Event{Kind: QueueLost, Queue: c.Queue})
}

func (p *Push) loseLocked(in *intake) {
	if in.stage == serving {
		p.watch.Remove(in.q)
	}
	in.stage = lost
	in.drop()
	for h := range p.hands {
		if h.busy && h.in == in {
			h.cancel(message.ErrFenced)
		}
	}
	p.drainedLocked(in)
}

// loseAll is the end of the seat.
func (p *Push) loseAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, in := range p.intakes {
		if in.stage < lost {
			p.loseLocked(in)
		}
	}
}

// drainedLocked gives a queue back when nothing works on it any more.
func (p *Push) drainedLocked(in *intake) {
	if in.stage != draining && in.stage != lost || in.running > 0 || in.reading || in.settling || in.closing {
		return
	}
	in.closing = true
	p.choreLocked(func() { p.release(in) })
}

func (p *Push) release(in *intake) {
	p.mu.Lock()
	settle := in.stage == draining
	var vs []message.Verdict
	if settle && in.flight.tree != nil {
		vs = in.flight.due(in.q, true, nil)
	}
	p.mu.Unlock()
	if len(vs) > 0 {
		_ = p.commit(in, vs) // told; what is not settled comes again to whoever is next
	}
	p.mu.Lock()
	in.stage = released
	if p.intakes[in.q] == in {
		delete(p.intakes, in.q)
	}
	p.mu.Unlock()
	p.seat.Release(in.claim)
	p.tell(Event{Kind: QueueReleased, Queue: in.q})
}
