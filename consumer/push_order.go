package consumer

import (
	"errors"
	"time"

	"github.com/embermq/embermq/message"
)

// ruling is what becomes of a hand's units where order is kept.
type ruling struct {
	done   []*unit
	dead   []*unit // settled without being done
	failed []*unit // delivered again in place
	stay   []*unit // failed ones and those behind them, in order
	wait   time.Duration
	vs     []message.Verdict
}

// rule judges each unit. Nothing is carried out.
func (p *Push) rule(in *intake, units []*unit, o *outcomes) (r ruling) {
	for i, u := range units {
		err, d := o.of(i), u.ds[0]
		if err == nil {
			r.done = append(r.done, u)
			continue
		}
		if err == errUntried {
			r.stay = append(r.stay, u)
			continue
		}
		p.tellFailed(in, d, err)
		v := message.Verdict{Queue: in.q, Offset: u.from, Kind: message.Failed}
		text, asked := reason(err)
		if asked || p.exhausted(d) {
			v.Kind, v.Reason = message.DeadLetter, text
			r.dead = append(r.dead, u)
		} else {
			r.failed, r.stay = append(r.failed, u), append(r.stay, u)
			after, ok := wait(err)
			if !ok {
				after = p.o.push.suspension
			}
			r.wait = max(r.wait, after)
		}
		if !p.broadcasting() {
			r.vs = append(r.vs, v)
		} else if v.Kind == message.DeadLetter {
			p.dropped(d, err)
		}
	}
	return r
}

// resolveInOrder settles what is done and delivers the rest again in its place.
func (p *Push) resolveInOrder(h *hand, in *intake, o *outcomes) {
	r := p.rule(in, h.units, o)
	p.mu.Lock()
	for _, u := range r.done {
		p.doneLocked(in, u)
	}
	p.mu.Unlock()
	p.count.done.Add(int64(len(r.done)))
	err := p.enforce(in, &r)
	p.mu.Lock()
	if err == nil {
		for _, u := range r.dead {
			p.doneLocked(in, u)
		}
	} else if len(r.dead) > 0 { // nothing is settled: in place, all of it
		r.stay = sortUnits(append(r.stay, r.dead...))
		r.wait = max(r.wait, refusedRest)
	}
	p.stayLocked(h, in, &r)
	p.endedLocked(in)
	now := p.dueLocked(in)
	p.mu.Unlock()
	if now {
		p.settle(in, false)
	}
}

// enforce has the engine carry out the verdicts. What was finished before a dead
// letter is settled before it: after a crash a message must not come again behind
// a later one of its key.
func (p *Push) enforce(in *intake, r *ruling) error {
	if len(r.vs) == 0 {
		return nil
	}
	vs := r.vs
	if len(r.dead) > 0 {
		p.mu.Lock()
		vs = append(in.flight.due(in.q, true, nil), vs...)
		p.mu.Unlock()
	}
	if err := p.e.Settle(p.ctx, in.claim, vs...); err != nil {
		p.refused(in, r.vs[0].Offset, err)
		return err
	}
	p.count.dead.Add(int64(len(r.dead)))
	return nil
}

// stayLocked puts what is not settled in front of its line again, which rests for
// a while if something has failed.
func (p *Push) stayLocked(h *hand, in *intake, r *ruling) {
	l := h.line
	for _, u := range r.failed {
		in.failed(u.from)
		again := *u.ds[0] // the handler may have kept the other
		again.attempt++
		u.ds = []*Delivery{&again}
	}
	if in.stage == serving {
		if l == nil {
			for _, u := range r.stay { // a message without a key rests alone
				u.line = &line{}
				u.line.waiting.push(u)
				p.restLineLocked(in, u.line, r.wait)
			}
			return
		}
		l.waiting.unpop(r.stay)
	}
	if l == nil {
		return
	}
	if len(r.stay) > 0 && r.wait > 0 {
		p.restLineLocked(in, l, r.wait)
		return
	}
	p.goOnLocked(in, l)
}

func (p *Push) restLineLocked(in *intake, l *line, d time.Duration) {
	l.busy = true
	p.alarms.after(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.goOnLocked(in, l)
		p.stirLocked()
	})
}

func (p *Push) goOnLocked(in *intake, l *line) {
	l.busy = false
	in.offerLine(l)
	p.offerRunLocked(in)
}

// resolveManual is resolve under WithManualCommit.
func (p *Push) resolveManual(h *hand, in *intake, err error) {
	o := newOutcomes(err, true)
	if o.err != nil && o.partial == nil && o.first == nil && errors.Is(err, Rollback) {
		p.rollback(h, in, err)
		return
	}
	commit := err != nil && o.err == nil
	r := p.rule(in, h.units, &o)
	done := r.done
	r.done = nil
	failed := p.enforce(in, &r)
	p.mu.Lock()
	if failed == nil {
		for _, u := range r.dead {
			p.doneLocked(in, u)
		}
	} else {
		r.stay = sortUnits(append(r.stay, r.dead...))
		r.wait = max(r.wait, refusedRest)
	}
	if in.stage == serving || commit {
		for _, u := range done {
			in.flight.unload(u)
		}
		in.held = append(in.held, done...)
	}
	if commit {
		p.count.done.Add(int64(len(in.held)))
		for _, u := range in.held {
			p.doneLocked(in, u)
		}
		in.held = nil
	}
	p.stayLocked(h, in, &r)
	p.endedLocked(in)
	now := p.dueLocked(in)
	p.mu.Unlock()
	if now {
		p.settle(in, false)
	}
}

// rollback has everything since the last commit read and delivered again.
func (p *Push) rollback(h *hand, in *intake, err error) {
	o := newOutcomes(err, true)
	r := p.rule(in, h.units, &o)
	_ = p.enforce(in, &r) // attempts that are not noted are not worth more
	p.mu.Lock()
	defer p.mu.Unlock()
	if in.stage == serving {
		from := h.units[0].from
		if len(in.held) > 0 {
			from = min(from, in.held[0].from)
		}
		for _, u := range r.failed {
			in.failed(u.from)
		}
		in.rollback(from)
		in.wantRead, in.likely = true, true
		p.restLineLocked(in, h.line, r.wait)
	} else {
		h.line.busy = false
	}
	p.endedLocked(in)
}
