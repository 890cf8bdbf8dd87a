package producer

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/message"
)

// Producer sends messages to an engine. Make one per engine and share it: all
// methods may be called by many goroutines.
type Producer struct {
	e   Engine
	o   *options
	bad error // what is wrong with the options
	ids *message.IDs

	topics   atomic.Pointer[map[string]*topic]
	learning sync.Mutex // serialises changes of topics
	sends    sync.Pool

	room    room
	lanes   lanes
	batcher batcher
	flying  flying
	calls   callbacks

	active  atomic.Int64 // sends that have begun and not been answered, plus closedBit
	drained chan struct{}
	drain   sync.Once
	closing chan struct{} // closed when Close begins
	resend  sync.WaitGroup
	resent  sync.Mutex // one pass over the spool at a time

	sent, failed, lost atomic.Int64
}

// closedBit is added to active by Close. Sends count in the bits below it.
const closedBit = 1 << 40

// New returns a Producer that sends to e. If an option is not valid, every send
// fails with the reason.
func New(e Engine, opts ...Option) *Producer {
	o := newOptions(opts)
	p := &Producer{
		e:       e,
		o:       o,
		bad:     o.err(),
		ids:     message.NewIDs(o.clock.Now),
		drained: make(chan struct{}),
		closing: make(chan struct{}),
	}
	if e == nil && p.bad == nil {
		p.bad = fmt.Errorf("producer: no engine: %w", message.ErrUnsupported)
	}
	p.topics.Store(new(map[string]*topic))
	p.room.maxCount, p.room.maxBytes = o.inFlight, o.flightBytes
	p.room.full = p.calls.help
	p.lanes.p, p.batcher.p, p.flying.p, p.calls.p = p, p, p, p
	if o.resend > 0 && p.bad == nil {
		p.resend.Go(p.resendByTimer)
	}
	return p
}

// enter begins a send that Close waits for.
func (p *Producer) enter() error {
	if p.active.Add(1) >= closedBit {
		p.leave()
		return fmt.Errorf("producer: %w", message.ErrClosed)
	}
	if p.bad != nil {
		p.leave()
		return p.bad
	}
	return nil
}

func (p *Producer) leave() {
	if p.active.Add(-1) == closedBit {
		p.isDrained()
	}
}

// isDrained may be called more than once: a send that comes too late enters and
// leaves again.
func (p *Producer) isDrained() { p.drain.Do(func() { close(p.drained) }) }

// Close refuses new sends with ErrClosed and waits until those that have begun
// are answered and their callbacks have returned; messages that linger are sent
// at once. Requests that wait for a reply end with ErrClosed. If ctx ends first its error is returned
// and the rest goes on: every send ends within its budget. The engine stays open.
// Close may be called again.
func (p *Producer) Close(ctx context.Context) error {
	for {
		n := p.active.Load()
		if n >= closedBit {
			break
		}
		if p.active.CompareAndSwap(n, n+closedBit) {
			close(p.closing)
			p.batcher.hurry()
			if n == 0 {
				p.isDrained()
			}
			break
		}
	}
	select {
	case <-p.drained:
	case <-ctx.Done():
		return fmt.Errorf("producer: close: %w", context.Cause(ctx))
	}
	p.resend.Wait()
	return nil
}

// Stats are a Producer's figures.
type Stats struct {
	Sent   int64 // messages stored
	Failed int64 // messages that were not, or nobody knows
	Lost   int64 // of the failed, those of SendOneWay, whose sender was not told

	InFlight          int   // asynchronous messages whose outcome is not known
	InFlightBytes     int64 // and their bytes
	PeakInFlight      int   // the most there were
	PeakInFlightBytes int64
	Spooled           int // messages in the spool
}

// Stats returns a snapshot.
func (p *Producer) Stats() Stats {
	st := Stats{Sent: p.sent.Load(), Failed: p.failed.Load(), Lost: p.lost.Load()}
	p.room.stats(&st)
	if p.o.spool != nil {
		st.Spooled = p.o.spool.Len()
	}
	return st
}
