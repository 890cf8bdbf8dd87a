package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

// errStopped is the cause of the end of everything that Run has started.
var errStopped = errors.New("consumer stopped")

// grace is how long Run waits for handlers whose contexts it has ended by force.
const grace = time.Second

// Run joins the group and has the handlers called until ctx ends or Close is
// called. Then no handler is called any more; Run waits for those that run, at
// most as long as WithStopTimeout says, settles what they have done, gives the
// queues back and returns nil. A handler that takes longer has its context ended,
// what it says does not count, and Run returns an error that matches
// context.DeadlineExceeded.
//
// Run returns early, with the reason, if the group refuses the consumer
// (ErrSubscriptionConflict, ErrExists), or if the engine is closed. It can be
// called once; a second call, or one after Close, returns ErrClosed.
func (p *Push) Run(ctx context.Context) error {
	if p.bad != nil {
		return p.bad
	}
	if err := p.startRun(ctx); err != nil {
		return err
	}
	defer close(p.stopped)
	err := p.serve(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = over
	return err
}

// startRun prepares what Run needs and lets nobody else in.
func (p *Push) startRun(ctx context.Context) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != fresh {
		return fmt.Errorf("consumer: run: %w", message.ErrClosed)
	}
	p.state = joins
	p.ctx, p.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	p.handling = context.WithoutCancel(ctx)
	p.alarms = newAlarms(p.o.clock)
	return nil
}

func (p *Push) serve(ctx context.Context) (err error) {
	defer func() { p.cancel(errStopped) }()
	if p.broadcasting() {
		if p.local, err = openLocal(p.o.local, p.group); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.local.close()) }()
	}
	p.watch = p.e.Watch(nil)
	defer p.watch.Close()
	if err := p.join(); err != nil {
		return err
	}
	p.mu.Lock()
	p.state = serves
	p.stirLocked()
	p.mu.Unlock()
	p.crew.Go(func() { p.alarms.run(p.ctx) })
	p.crew.Go(p.follow)

	limit := p.o.push.stop
	select {
	case <-ctx.Done():
	case <-p.stop:
		limit = 0 // Close has its own
	case <-p.fail:
	}
	return p.finish(limit)
}

// join takes a seat. Subscriptions do not change meanwhile.
func (p *Push) join() error {
	p.changing.Lock()
	defer p.changing.Unlock()
	seat, err := p.e.Groups().Join(p.ctx, group.Member{
		Group:         p.group,
		ID:            p.o.seat.member,
		Mode:          p.o.push.mode,
		Subscriptions: p.texts(*p.subs.Load()),
		Strategy:      p.o.seat.strategy,
		DrainLimit:    p.o.seat.drain,
	})
	if err != nil {
		return fmt.Errorf("consumer: join: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seat = seat
	return nil
}

// finish drains, settles and leaves; limit 0 is none but Close's.
func (p *Push) finish(limit time.Duration) error {
	p.mu.Lock()
	p.state = stops
	p.idle.Broadcast()
	p.mu.Unlock()

	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	if limit > 0 {
		p.alarms.after(limit, func() { cancel(context.DeadlineExceeded) })
	}
	leaving := make(chan struct{})
	go func() {
		defer close(leaving)
		select {
		case <-p.force:
			cancel(context.Canceled)
		case <-ctx.Done():
		}
	}()
	left := p.seat.Leave(ctx)
	cause := context.Cause(ctx)
	cancel(nil)
	<-leaving

	p.mu.Lock()
	err := p.err
	for h := range p.hands {
		if h.busy {
			h.cancel(errStopped)
		}
	}
	p.mu.Unlock()
	if err == nil && left != nil && cause != nil {
		err = fmt.Errorf("consumer: handlers did not finish in time: %w", cause)
	} else if err == nil && left != nil {
		err = fmt.Errorf("consumer: %w", left)
	}
	return errors.Join(err, p.dismiss())
}

// dismiss ends the goroutines. Handlers that ignore their contexts are left
// behind: they end with their handler.
func (p *Push) dismiss() error {
	gone := make(chan struct{})
	go func() {
		p.crew.Wait()
		close(gone)
	}()
	p.mu.Lock()
	p.state = over
	p.idle.Broadcast()
	p.mu.Unlock()
	p.cancel(errStopped)
	c, stop := p.o.clock.After(grace)
	defer stop()
	select {
	case <-gone:
		return nil
	case <-c:
		return fmt.Errorf("consumer: handlers still run: %w", context.DeadlineExceeded)
	}
}

// broken ends Run with an error.
func (p *Push) broken(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil && p.state == serves {
		p.err = err
		close(p.fail)
	}
}

// Close makes Run end: handlers that run may finish, what they have done is
// settled, and the queues go back. When ctx ends first, the contexts of the handlers
// end, their queues are lost, and Close returns ctx's error. Once Close has
// returned nil no handler runs. Close may be called again, and before Run.
func (p *Push) Close(ctx context.Context) error {
	p.mu.Lock()
	select {
	case <-p.stop:
	default:
		close(p.stop)
		if p.state == fresh {
			p.state = over
			close(p.stopped)
		}
	}
	p.mu.Unlock()
	select {
	case <-p.stopped:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	select {
	case <-p.force:
	default:
		close(p.force)
	}
	p.mu.Unlock()
	return fmt.Errorf("consumer: close: %w", context.Cause(ctx))
}
