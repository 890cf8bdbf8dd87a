package consumer

import (
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/message"
)

// readRest is how long reading a queue rests after an error of the engine.
const readRest = 3 * time.Second

// read reads from the intake that a hand has taken and makes what it finds ready.
func (p *Push) read(h *hand) {
	in := h.in
	h.in = nil
	p.mu.Lock()
	turn := in.turn
	f, ok := p.filter(in)
	p.mu.Unlock()
	batch := message.Batch{Next: h.from}
	var err error
	if ok {
		batch, err = p.e.Read(p.ctx, in.q, h.from, h.limit, f)
	}
	units := p.unitsOf(in, batch.Records)

	p.mu.Lock()
	if in.stage != serving || in.turn != turn {
		p.hasReadLocked(in)
		p.mu.Unlock()
		return
	}
	if err != nil {
		p.mu.Unlock()
		p.unreadable(in, turn, h.from, err)
		return
	}
	in.reading = false
	for _, u := range units {
		if p.ordered() {
			p.lineUpLocked(in, u)
		}
		in.flight.add(u)
		in.offer(u)
	}
	full := len(batch.Records) >= h.limit.Count || len(batch.Records) == 0 && batch.Next > h.from
	in.wantRead = in.arrived || len(batch.Records) > 0 || batch.Next > h.from
	in.likely = in.arrived || full
	in.flight.next = max(in.flight.next, batch.Next)
	p.offerRunLocked(in)
	p.offerReadLocked(in)
	// What a filter leaves out is settled too, and so is what handlers have finished
	// meanwhile: nobody else comes to do it.
	settle := len(units) == 0 && p.dueLocked(in)
	p.mu.Unlock()
	p.count.read.Add(int64(len(batch.Records)))
	if settle {
		p.settle(in, false)
	}
}

// lineUpLocked gives a unit of one message its line and its failed attempts.
func (p *Push) lineUpLocked(in *intake, u *unit) {
	d := u.ds[0]
	if n := in.attempts[u.from]; n > 0 {
		d.attempt += n
	}
	if p.o.push.order == PerQueue {
		u.line = in.lineOf("")
		return
	}
	if key := p.o.push.key(d); key != "" {
		if l := in.lines[key]; l != nil {
			u.line = l
		} else {
			u.line = in.lineOf(p.keyOf(d))
		}
	}
}

// unitsOf makes deliveries of records, in units of what is settled together. No
// lock is held: in.settled changes only while nobody reads.
func (p *Push) unitsOf(in *intake, rs []message.Record) []*unit {
	if len(rs) == 0 {
		return nil
	}
	ordered := p.ordered()
	size := p.o.push.batch
	if ordered {
		size = 1
	}
	ds := make([]Delivery, len(rs))
	ptrs := make([]*Delivery, 0, len(rs))
	units := make([]unit, 0, (len(rs)+size-1)/size)
	list := make([]*unit, 0, cap(units))
	var u *unit
	for i := range rs {
		r, d := &rs[i], &ds[i]
		offset := r.Offset()
		if len(in.settled) > 0 && in.passed(offset) {
			u = nil
			continue
		}
		d.fill(r, in.q.Topic, 0)
		d.ordered = ordered
		ptrs = append(ptrs, d)
		if u == nil || len(u.ds) >= size || in.retry && u.topic != d.topic {
			if len(units) < cap(units) {
				units = units[:len(units)+1]
				u = &units[len(units)-1]
			} else {
				u = new(unit)
			}
			u.from, u.topic = offset, d.topic
			if !in.retry {
				u.topic = in.q.Topic
			}
			u.ds = ptrs[len(ptrs)-1 : len(ptrs)-1]
			list = append(list, u)
		}
		u.ds = ptrs[len(ptrs)-1-len(u.ds) : len(ptrs) : len(ptrs)]
		u.to = offset + 1
		u.bytes += int64(r.Size())
	}
	return list
}

// hasReadLocked ends a read that has brought nothing.
func (p *Push) hasReadLocked(in *intake) {
	in.reading = false
	p.offerReadLocked(in)
	p.drainedLocked(in)
	p.stirLocked()
}

// unreadable decides what an error of a read means. The intake counts as being
// read until that is done.
func (p *Push) unreadable(in *intake, turn int, from int64, err error) {
	var out *message.RangeError
	switch {
	case p.ctx.Err() != nil:
		p.restFrom(in, 0)
	case errors.Is(err, message.ErrClosed):
		p.restFrom(in, 0)
		p.broken(fmt.Errorf("consumer: read %v: %w", in.q, err))
	case errors.As(err, &out) && out.Start <= out.End:
		at := min(max(from, out.Start), out.End)
		p.moveTo(in, turn, at)
		p.tell(Event{Kind: QueueMoved, Queue: in.q, Offset: at, Err: err})
	case errors.Is(err, message.ErrNotFound):
		p.restFrom(in, 0) // the watch tells when the topic is made again
	case errors.Is(err, message.ErrCorrupt):
		p.corrupt(in, turn, from, err)
	default:
		p.restFrom(in, readRest)
		p.tell(Event{Kind: EngineFailed, Queue: in.q, Offset: from, Err: err})
	}
}

// moveTo goes on reading elsewhere.
func (p *Push) moveTo(in *intake, turn int, at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in.turn == turn && in.stage == serving {
		in.flight.next = at
		in.flight.committed = min(in.flight.committed, at)
		in.wantRead, in.likely = true, true
		p.flushLaterLocked(in)
	}
	p.hasReadLocked(in)
}

// restFrom stops reading for d, or until something arrives if d is zero.
func (p *Push) restFrom(in *intake, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in.wantRead, in.likely = in.arrived, true
	if d > 0 {
		in.asleep = true
		p.alarms.after(d, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			in.asleep = false
			in.wantRead, in.likely = true, true
			p.offerReadLocked(in)
			p.stirLocked()
		})
	}
	p.hasReadLocked(in)
}

// corrupt stops the queue, or passes one record.
func (p *Push) corrupt(in *intake, turn int, at int64, err error) {
	if p.o.push.corrupt == StopQueue {
		p.mu.Lock()
		in.stopped = fmt.Errorf("consumer: queue %v stopped at %d: %w", in.q, at, err)
		p.hasReadLocked(in)
		p.mu.Unlock()
		p.tell(Event{Kind: QueueStopped, Queue: in.q, Offset: at, Err: err})
		return
	}
	if p.broadcasting() {
		p.dropped(nil, err)
	} else {
		text, _ := reason(err)
		v := message.Verdict{Queue: in.q, Offset: at, Kind: message.DeadLetter, Reason: text}
		if err := p.e.Settle(p.ctx, in.claim, v); err != nil {
			p.restFrom(in, readRest)
			p.refused(in, at, err)
			return
		}
		p.count.dead.Add(1)
	}
	p.moveTo(in, turn, at+1)
	p.tell(Event{Kind: RecordSkipped, Queue: in.q, Offset: at, Err: err})
}
