package producer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/message"
)

// flight is a send that is not waited for.
type flight struct {
	send
	done     func(message.Receipt, error)
	size     int64     // what it takes of the room
	deadline time.Time // zero: none
	pending  *message.Pending

	lane    *lane // whose first message it is, or nil
	reopens bool  // its callback ends the failure of the key
	receipt message.Receipt
	err     error
}

// key names what is kept in order.
type key struct{ topic, key string }

func (s *send) key() key { return key{s.m.Topic, s.m.ShardingKey} }

// SendAsync sends one message and returns without waiting for the engine. done,
// which may be nil, is called once with the outcome, which is that of Send. What
// m points to (body, keys, properties) belongs to the producer until then; m itself
// may be used again at once.
//
// Messages of one sharding key are stored in the order in which they are given
// by one goroutine. If one of them fails, those that were given behind it and are not
// stored yet fail with ErrPrecedingFailed, and so do all that come before done
// is called for the first of them. Sent again in the order of their callbacks they are
// stored in the right order, if nobody sends more under that key meanwhile; WithHeldKeys
// sees to that. Send and SendBatch do not wait for what is in flight.
//
// SendAsync waits while too much is in flight (WithInFlight), as long as ctx and
// the send's time last, or does not wait under WithRefusal. What it refuses, for
// that or because the message cannot be sent, it tells by calling done itself
// before it returns. Otherwise callbacks run one after the other on a goroutine of the
// producer. A callback may send; while it waits for room, others are called beside it.
//
// When ctx ends, the outcome of a message that was given to the engine is
// unknown (*UnknownError); it keeps its room until the engine is done with it.
func (p *Producer) SendAsync(ctx context.Context, m *message.Message, done func(message.Receipt, error)) {
	if done == nil {
		done = func(message.Receipt, error) {}
	}
	f := &flight{done: done}
	if err := p.start(ctx, f, m); err != nil {
		done(message.Receipt{}, err)
	}
}

// SendOneWay sends one message without telling what became of it: an error says
// that it cannot be sent (as validation, ErrBusy and ErrClosed do), nil that it was
// given to the engine. There is one attempt. What is lost later is counted in
// Stats and seen by OnSendFailure and the spool. It waits for room like SendAsync.
func (p *Producer) SendOneWay(m *message.Message) error {
	f := &flight{done: func(message.Receipt, error) {}}
	f.oneWay = true
	return p.start(context.Background(), f, m)
}

// start brings a flight on its way. After an error nobody else will tell.
func (p *Producer) start(ctx context.Context, f *flight, m *message.Message) error {
	if err := p.enter(); err != nil {
		return err
	}
	err := p.prepare(ctx, &f.send, m)
	if err == nil && (f.m.ShardingKey != "" || p.o.linger > 0) {
		err = f.m.CheckFields() // it may be stored in a group, which it must not spoil
	}
	if err == nil && p.o.spool != nil && !f.keyed() && p.mustFollow(&f.send) {
		err = p.keep(&f.send, fmt.Errorf("producer: %w", ErrPrecedingFailed))
	}
	if err == nil {
		if p.o.timeout > 0 {
			f.deadline = p.o.clock.Now().Add(p.o.timeout)
		}
		f.size = weight(&f.m)
		b := &budget{parent: f.ctx, limit: p.o.timeout, clock: p.o.clock}
		err = p.room.take(b, f.size, p.o.refuse)
		b.stop()
	}
	if err != nil {
		oneWay := f.oneWay
		f.oneWay = false // its sender is told
		p.finish(&f.send, message.Receipt{}, err)
		f.oneWay = oneWay
		p.leave()
		return err
	}
	switch {
	case p.o.linger > 0:
		p.batcher.add(f)
	case f.keyed():
		p.lanes.add(f)
	default:
		p.launch(f)
	}
	return nil
}

func (s *send) keyed() bool { return s.m.ShardingKey != "" }

// launch gives a flight to the engine.
func (p *Producer) launch(f *flight) {
	b := &budget{parent: f.ctx, limit: p.left(f), clock: p.o.clock}
	f.pending = p.e.PutAsync(b, &f.m)
	b.stop()
	p.flying.push(f)
}

// left is how much of its time a flight has left, at least a nanosecond.
func (p *Producer) left(f *flight) time.Duration {
	if f.deadline.IsZero() {
		return 0
	}
	return max(f.deadline.Sub(p.o.clock.Now()), 1)
}

// landed is called when the outcome of an attempt is known.
func (p *Producer) landed(f *flight, r message.Receipt, err error) {
	if err != nil && p.relaunch(f, err) {
		return
	}
	f.receipt = r
	if err != nil {
		f.err = f.outcome(err)
	}
	p.settle(f)
}

// settle passes the outcome on.
func (p *Producer) settle(f *flight) {
	if f.lane != nil {
		p.lanes.done([]*flight{f})
		return
	}
	if f.err != nil {
		f.err = p.keep(&f.send, f.err)
	}
	p.calls.push(f)
}

// relaunch tries again if that makes sense.
func (p *Producer) relaunch(f *flight, err error) bool {
	b := &budget{parent: f.ctx, limit: p.left(f), clock: p.o.clock}
	defer b.stop()
	if !f.deadline.IsZero() && !p.o.clock.Now().Before(f.deadline) {
		f.unknown = f.unknown || isUnknown(err)
		return false
	}
	if !p.retry(&f.send, b, err) {
		return false
	}
	p.launch(f)
	return true
}

// wait waits for the engine's answer, as long as the flight may take. over says
// that the time was up first and the engine still has the message.
func (p *Producer) wait(f *flight) (r message.Receipt, err error, over bool) {
	answered := f.pending.Done()
	select {
	case <-answered:
		r, err = f.pending.Wait(context.Background())
		return r, err, false
	default:
	}
	var up <-chan time.Time
	if !f.deadline.IsZero() {
		c, stop := p.o.clock.After(p.left(f))
		defer stop()
		up = c
	}
	select {
	case <-answered:
		r, err = f.pending.Wait(context.Background())
		return r, err, false
	case <-f.ctx.Done():
		return r, context.Cause(f.ctx), true
	case <-up:
		return r, outOfTime(p.o.timeout), true
	}
}

// abandon answers a flight that the engine still has. It keeps its room.
func (p *Producer) abandon(f *flight, err error) {
	f.unknown = true
	f.err = f.outcome(err)
	p.flying.late(&flight{pending: f.pending, size: f.size})
	f.size = 0
	p.settle(f)
}

// precede is the error of what was behind a message that failed.
func precede(err error) error {
	if errors.Is(err, ErrPrecedingFailed) {
		return err
	}
	return fmt.Errorf("producer: %w: %v", ErrPrecedingFailed, err)
}
