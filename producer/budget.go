package producer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/embermq/embermq/internal/clock"
)

// budget is the context of all attempts of one send: the caller's, and a limit of
// time in all. Most sends never wait, and a timer costs more than all else
// that a producer does, so the time runs from when somebody first asks for Done
// or Deadline, or from the first retry.
type budget struct {
	parent context.Context
	limit  time.Duration // 0: none
	clock  clock.Clock

	once  sync.Once
	timed atomic.Pointer[timed] // nil before begin
}

type timed struct {
	context.Context
	cancel context.CancelFunc
}

func (b *budget) begin() context.Context {
	if b.limit <= 0 {
		return b.parent
	}
	b.once.Do(func() {
		ctx, cancel := withTimeout(b.parent, b.clock, b.limit)
		b.timed.Store(&timed{ctx, cancel})
	})
	return b.timed.Load().Context
}

// withTimeout is context.WithTimeout by a clock.
func withTimeout(parent context.Context, c clock.Clock, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := c.(clock.Real); ok {
		return context.WithTimeout(parent, d)
	}
	ctx, cancel := context.WithCancelCause(parent)
	up, stop := c.After(d)
	go func() {
		defer stop()
		select {
		case <-up:
			cancel(context.DeadlineExceeded)
		case <-ctx.Done():
		}
	}()
	return &timedCtx{ctx}, func() { cancel(context.Canceled) }
}

// timedCtx says DeadlineExceeded when its clock has ended it.
type timedCtx struct{ context.Context }

func (c *timedCtx) Err() error {
	if c.Context.Err() == nil {
		return nil
	}
	if context.Cause(c.Context) == context.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return c.Context.Err()
}

// Deadline is context.Context's.
func (b *budget) Deadline() (time.Time, bool) { return b.begin().Deadline() }

// Done is context.Context's.
func (b *budget) Done() <-chan struct{} { return b.begin().Done() }

// Value is context.Context's.
func (b *budget) Value(key any) any { return b.parent.Value(key) }

// Err is context.Context's. It starts no timer: who polls Err alone waits for
// the caller's context.
func (b *budget) Err() error {
	if t := b.timed.Load(); t != nil {
		return t.Err()
	}
	return b.parent.Err()
}

// stop frees the timer.
func (b *budget) stop() {
	if t := b.timed.Load(); t != nil {
		t.cancel()
	}
}
