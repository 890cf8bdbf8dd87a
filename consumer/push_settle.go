package consumer

import (
	"errors"
	"slices"
	"time"

	"github.com/embermq/embermq/message"
)

const (
	// settleBatch is how far the lowest unsettled offset moves before the engine
	// is told, unless there is nothing else to do.
	settleBatch = 256
	// settleDelay is how long the engine is not told at most.
	settleDelay = 100 * time.Millisecond
	// saveDelay is the same for a broadcasting group's file: RocketMQ's.
	saveDelay = 5 * time.Second
)

// dueLocked reports whether the caller is to settle at once, which it then must.
// Otherwise an alarm is set if there is anything to settle.
func (p *Push) dueLocked(in *intake) (now bool) {
	f := &in.flight
	moved := f.lowest() - f.committed
	if moved <= 0 && f.untold == 0 || in.settling || in.closing || in.stage != serving {
		return false
	}
	if moved >= settleBatch || moved > 0 && in.running == 0 && !in.reading && !in.hasReady() {
		in.settling = true
		return true
	}
	p.flushLaterLocked(in)
	return false
}

func (p *Push) flushLaterLocked(in *intake) {
	if !in.flushing {
		in.flushing = true
		p.later(settleDelay, func() { p.flush(in) })
	}
}

// flush settles all that is due, also above the lowest unsettled offset.
func (p *Push) flush(in *intake) {
	p.mu.Lock()
	in.flushing = false
	if in.stage != serving || in.closing {
		p.mu.Unlock()
		return
	}
	if in.settling {
		p.flushLaterLocked(in)
		p.mu.Unlock()
		return
	}
	in.settling = true
	p.mu.Unlock()
	p.settle(in, true)
}

// settle tells the engine what is finished. in.settling is the caller's.
func (p *Push) settle(in *intake, all bool) {
	for {
		p.mu.Lock()
		vs := in.flight.due(in.q, all, in.vs[:0])
		p.mu.Unlock()
		err := p.commit(in, vs)
		p.mu.Lock()
		in.vs = vs[:0]
		in.settling = false
		more := false
		if err == nil {
			in.flight.knows(vs)
			more = p.dueLocked(in)
		} else if in.stage == serving && !errors.Is(err, message.ErrFenced) {
			p.flushLaterLocked(in)
		}
		p.drainedLocked(in)
		p.mu.Unlock()
		if !more {
			return
		}
		all = false
	}
}

// commit carries out verdicts that settle.
func (p *Push) commit(in *intake, vs []message.Verdict) error {
	if len(vs) == 0 {
		return nil
	}
	if p.broadcasting() {
		if vs[0].Kind == message.DoneThrough {
			p.local.set(in.q, vs[0].Offset+1)
			p.saveLater()
		}
		return nil
	}
	err := p.e.Settle(p.ctx, in.claim, vs...)
	if err != nil {
		p.refused(in, vs[0].Offset, err)
	}
	return err
}

// saveLater has the offsets of a broadcasting instance saved.
func (p *Push) saveLater() {
	if p.savingSet.CompareAndSwap(false, true) {
		p.later(saveDelay, func() {
			p.savingSet.Store(false)
			if err := p.local.save(); err != nil {
				p.tell(Event{Kind: EngineFailed, Err: err})
				p.saveLater()
			}
		})
	}
}

func sortUnits(us []*unit) []*unit {
	slices.SortFunc(us, func(a, b *unit) int { return int(a.from - b.from) })
	return us
}
