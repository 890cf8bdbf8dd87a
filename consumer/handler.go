package consumer

import (
	"context"
	"runtime/debug"
)

// Handler takes messages of one topic and tells what became of them: nil means
// done; an error that they are to come again later; RetryAfter, Suspend,
// DeadLetter, Partial, FirstDone, Commit and Rollback say more. A panic is an
// error.
//
// ds is the handler's to keep. It holds one message unless WithBatch allows more,
// never none. ctx ends when the result does not count any more: the queue was
// lost, the handler has taken too long, or the consumer is closed by force; it is
// not cancelled when the handler returns.
type Handler func(ctx context.Context, ds []*Delivery) error

// One makes a Handler of a function for single messages. In a batch each message
// succeeds, fails or panics for itself; where order is kept, the first failure
// ends the batch.
func One(f func(ctx context.Context, d *Delivery) error) Handler {
	return func(ctx context.Context, ds []*Delivery) error {
		if len(ds) == 1 {
			return f(ctx, ds[0])
		}
		var failed map[int]error
		for i, d := range ds {
			err := protect(func() error { return f(ctx, d) })
			if err == nil {
				continue
			}
			if d.ordered {
				return FirstDone(i, err)
			}
			if failed == nil {
				failed = make(map[int]error)
			}
			failed[i] = err
		}
		if failed == nil {
			return nil
		}
		return Partial(failed)
	}
}

// protect turns a panic of f into an error.
func protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
