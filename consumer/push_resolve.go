package consumer

import (
	"errors"
	"time"

	"github.com/embermq/embermq/message"
)

// refusedRest is how long messages wait whose failure the engine would not take.
const refusedRest = 5 * time.Second

// resolve carries out what a handler has said about a hand's messages.
func (p *Push) resolve(h *hand, err error) {
	p.mu.Lock()
	h.busy = false
	p.running--
	in := h.in
	switch {
	case h.late && !p.ordered():
		p.stirLocked() // overdue settles them
	case in.stage == lost:
		p.endedLocked(in)
	case err != nil || p.o.push.manual:
		p.mu.Unlock()
		p.resolveSlowly(h, in, err)
		return
	default:
		n := len(h.ds)
		for _, u := range h.units {
			p.doneLocked(in, u)
		}
		if h.line != nil {
			h.line.busy = false
			in.offerLine(h.line)
			p.offerRunLocked(in)
		}
		p.endedLocked(in)
		now := p.dueLocked(in)
		p.mu.Unlock()
		p.count.done.Add(int64(n))
		if now {
			p.settle(in, false)
		}
		return
	}
	p.mu.Unlock()
}

// endedLocked notes that a handler call is over.
func (p *Push) endedLocked(in *intake) {
	in.running--
	p.offerReadLocked(in)
	p.drainedLocked(in)
	p.stirLocked()
}

func (p *Push) doneLocked(in *intake, u *unit) {
	if in.attempts != nil {
		delete(in.attempts, u.from)
	}
	in.flight.finish(u)
}

func (p *Push) resolveSlowly(h *hand, in *intake, err error) {
	o := newOutcomes(err, p.ordered())
	switch {
	case p.ordered() && p.o.push.manual:
		p.resolveManual(h, in, err)
	case p.ordered():
		p.resolveInOrder(h, in, &o)
	default:
		p.resolveFree(in, h.units[0], &o)
	}
}

// resolveFree settles a unit, of which failed messages come again as copies.
func (p *Push) resolveFree(in *intake, u *unit, o *outcomes) {
	if p.refuse(in, u.ds, o) == nil {
		p.finished(in, u)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.againLocked(in, u, o)
	p.endedLocked(in)
}

// finished notes that a unit's call is over and its failures are taken care of.
func (p *Push) finished(in *intake, u *unit) {
	p.mu.Lock()
	p.doneLocked(in, u)
	p.endedLocked(in)
	now := p.dueLocked(in)
	p.mu.Unlock()
	if now {
		p.settle(in, false)
	}
}

// againLocked keeps what failed of a unit, because the engine would not take it,
// and hands it out again some time later.
func (p *Push) againLocked(in *intake, u *unit, o *outcomes) {
	var rest []*Delivery
	for i, d := range u.ds {
		if o.of(i) != nil {
			rest = append(rest, d)
		}
	}
	if in.stage != serving {
		return
	}
	in.flight.count -= len(u.ds) - len(rest)
	u.ds = rest
	turn := in.turn
	p.alarms.after(refusedRest, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if in.stage == serving && in.turn == turn {
			in.free.push(u)
			p.offerRunLocked(in)
			p.stirLocked()
		}
	})
}

// refuse has the engine take what failed of ds: as retries, or as dead letters. In
// a broadcasting group it is dropped.
func (p *Push) refuse(in *intake, ds []*Delivery, o *outcomes) error {
	vs := make([]message.Verdict, 0, len(ds))
	done, dead := 0, 0
	for i, d := range ds {
		err := o.of(i)
		if err == nil {
			done++
			continue
		}
		p.tellFailed(in, d, err)
		if p.broadcasting() {
			p.dropped(d, err)
			continue
		}
		v := message.Verdict{Queue: in.q, Offset: d.Offset()}
		var asked bool
		if v.Reason, asked = reason(err); asked || p.exhausted(d) {
			v.Kind = message.DeadLetter
			dead++
		} else {
			v.Kind, v.Reason = message.Retry, ""
			after, ok := wait(err)
			if !ok {
				after = p.o.push.backoff(d.attempt)
			}
			if v.After = after; after <= 0 {
				v.After = -1 // zero would be the engine's choice
			}
		}
		vs = append(vs, v)
	}
	if len(vs) > 0 {
		if err := p.e.Settle(p.ctx, in.claim, vs...); err != nil {
			p.refused(in, vs[0].Offset, err)
			return err
		}
	}
	p.count.dead.Add(int64(dead))
	p.count.retried.Add(int64(len(vs) - dead))
	p.count.done.Add(int64(done))
	return nil
}

func (p *Push) exhausted(d *Delivery) bool {
	n := p.o.push.attempts
	return n > 0 && d.attempt >= n
}

func (p *Push) tellFailed(in *intake, d *Delivery, err error) {
	p.count.failed.Add(1)
	p.tell(Event{Kind: MessageFailed, Queue: in.q, Offset: d.Offset(), Err: err})
}

// refused tells that the engine did not take verdicts.
func (p *Push) refused(in *intake, offset int64, err error) {
	switch {
	case errors.Is(err, message.ErrFenced): // the group tells that the claim is over
		p.count.fenced.Add(1)
	case errors.Is(err, message.ErrClosed):
		p.broken(err)
	case p.ctx.Err() == nil:
		p.tell(Event{Kind: EngineFailed, Queue: in.q, Offset: offset, Err: err})
	}
}
