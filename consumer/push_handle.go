package consumer

import (
	"context"
	"runtime/debug"
	"time"
)

// takeHandleLocked takes the next messages to handle, queue by queue in turn.
func (p *Push) takeHandleLocked(h *hand) bool {
	if p.limited {
		return false
	}
	for p.runnable.len() > 0 {
		in := p.runnable.front()
		if in.stage != serving || !in.hasReady() || p.pausedLocked(in.q) {
			in.queued = false
			p.runnable.pop()
			continue
		}
		topic, n := in.nextReady(p.o.push.batch)
		sub := (*p.subs.Load())[topic]
		if sub == nil && !in.retry {
			in.queued = false // its topic is being given up
			p.runnable.pop()
			continue
		}
		now := p.o.clock.Now()
		if !p.allowedLocked(n, now) {
			return false
		}
		p.runnable.pop()
		in.queued = false
		h.in, h.sub = in, sub
		in.takeReady(h, n)
		p.offerRunLocked(in)
		in.running++
		p.running++
		h.busy, h.late, h.began = true, false, now
		if h.ctx == nil || h.ctx.Err() != nil {
			h.ctx, h.cancel = context.WithCancelCause(p.handling)
		}
		p.expectLocked(p.o.push.timeout)
		return true
	}
	return false
}

// allowedLocked takes n tokens, or has somebody look again when there are so many.
func (p *Push) allowedLocked(n int, now time.Time) bool {
	if p.o.push.rate == 0 {
		return true
	}
	d := p.bucket.take(n, now)
	if d == 0 {
		return true
	}
	p.limited = true
	p.alarms.after(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.limited = false
		p.stirLocked()
	})
	return false
}

// nextReady is the topic and number of the messages that takeReady would take.
func (in *intake) nextReady(batch int) (topic string, n int) {
	if in.free.len() > 0 {
		u := in.free.front()
		return u.topic, len(u.ds)
	}
	l := in.ready.front()
	return l.waiting.front().topic, min(batch, l.waiting.len())
}

func (in *intake) takeReady(h *hand, n int) {
	h.units = h.units[:0]
	if in.free.len() > 0 {
		u := in.free.pop()
		h.units = append(h.units, u)
		h.ds, h.line = u.ds, nil
		return
	}
	l := in.ready.pop()
	l.queued, l.busy = false, true
	h.line = l
	if n == 1 {
		u := l.waiting.pop()
		h.units = append(h.units, u)
		h.ds = u.ds
		return
	}
	h.ds = make([]*Delivery, 0, n)
	for range n {
		u := l.waiting.pop()
		h.units = append(h.units, u)
		h.ds = append(h.ds, u.ds...)
	}
}

// handle calls the handler for what a hand has taken.
func (p *Push) handle(h *hand) {
	live := h.ds
	if expires(h.ds) {
		live = unexpired(h.ds, h.began)
	}
	var err error
	switch {
	case h.sub == nil:
		err = DeadLetter("no handler for topic " + h.units[0].topic)
	case len(live) == len(h.ds):
		err = p.call(h, h.ds)
	case len(live) > 0:
		err = mapIndexes(p.call(h, live), h.ds, h.began)
	default:
		err = mapIndexes(nil, h.ds, h.began)
	}
	p.resolve(h, err)
}

// call runs the handler; a panic is an error.
func (p *Push) call(h *hand, ds []*Delivery) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p.count.panics.Add(1)
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return h.sub.handle(h.ctx, ds)
}

func expires(ds []*Delivery) bool {
	for _, d := range ds {
		if d.expireAt != 0 {
			return true
		}
	}
	return false
}

func (d *Delivery) expired(now time.Time) bool {
	return d.expireAt != 0 && now.UnixMilli() >= d.expireAt
}

func unexpired(ds []*Delivery, now time.Time) (live []*Delivery) {
	for _, d := range ds {
		if !d.expired(now) {
			live = append(live, d)
		}
	}
	return live
}

// mapIndexes is the outcome for ds of a handler that has seen only those that have
// not expired.
func mapIndexes(err error, ds []*Delivery, now time.Time) error {
	ordered := ds[0].ordered
	o := newOutcomes(err, ordered)
	failed := make(map[int]error)
	seen := 0
	for i, d := range ds {
		if d.expired(now) {
			failed[i] = expiredOutcome
			continue
		}
		if err := o.of(seen); err != nil {
			failed[i] = err
		}
		seen++
	}
	return Partial(failed)
}

// expiredOutcome is that of a message past its time: whatever the mode, it is not
// tried again.
var expiredOutcome error = &expiry{deadLetter{reason: ErrExpired.Error()}}

type expiry struct{ deadLetter }

func (e *expiry) Unwrap() []error { return []error{ErrExpired, &e.deadLetter} }

// expectLocked has somebody look for late handlers in d.
func (p *Push) expectLocked(d time.Duration) {
	if p.lateSet {
		return
	}
	p.lateSet = true
	p.alarms.after(d, p.lookForLate)
}

// lookForLate ends the contexts of handlers that have taken too long. Where there
// is no order to keep, their messages are settled without them.
func (p *Push) lookForLate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lateSet = false
	now, limit := p.o.clock.Now(), p.o.push.timeout
	next := time.Duration(0)
	for h := range p.hands {
		if !h.busy || h.late {
			continue
		}
		if left := limit - now.Sub(h.began); left > 0 {
			if next == 0 || left < next {
				next = left
			}
			continue
		}
		h.late = true
		h.cancel(ErrHandlerTimeout)
		in, u := h.in, h.units[0]
		p.choreLocked(func() { p.overdue(in, u) })
	}
	if next > 0 {
		p.expectLocked(next)
	}
}

// overdue settles the messages of a late handler as failed. Where order is kept
// they stay in its hands.
func (p *Push) overdue(in *intake, u *unit) {
	p.count.late.Add(1)
	p.tell(Event{Kind: HandlerLate, Queue: in.q, Offset: u.from, Err: ErrHandlerTimeout})
	if !p.ordered() {
		p.settleLate(in, u)
	}
}

func (p *Push) settleLate(in *intake, u *unit) {
	p.mu.Lock()
	if in.stage == lost {
		p.endedLocked(in)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	o := newOutcomes(ErrHandlerTimeout, false)
	if err := p.refuse(in, u.ds, &o); err != nil {
		p.later(refusedRest, func() { p.settleLate(in, u) })
		return
	}
	p.finished(in, u)
}
