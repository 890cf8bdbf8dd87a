package consumer_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

func TestPushDrainsOnClose(t *testing.T) {
	for _, byClose := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, map[string]int{"orders": 1})
			defer f.close(t)
			f.putN(t, "orders", 100)
			var s seen
			p := consumer.NewPush(f, "billing", consumer.WithWorkers(10))
			require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(ctx context.Context, d *consumer.Delivery) error {
				time.Sleep(time.Second)
				s.add(d)
				return ctx.Err()
			})))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- p.Run(ctx) }()
			sleep(1500 * time.Millisecond)
			if byClose {
				require.NoError(t, p.Close(t.Context()))
			} else {
				cancel()
			}
			require.NoError(t, <-result)
			require.Equal(t, numbers(20), sorted(s.all()))
			require.EqualValues(t, 20, f.committed("billing", orders(0)))
			require.NoError(t, p.Close(t.Context()))
			require.ErrorIs(t, p.Run(t.Context()), message.ErrClosed)
		})
	}
}

// A handler that does not end in time has its context ended, and what it says does
// not count.
func TestPushStopTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 1)
		p := consumer.NewPush(f, "billing", consumer.WithStopTimeout(10*time.Second))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(ctx context.Context, _ *consumer.Delivery) error {
			<-ctx.Done()
			return nil
		})))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, p.Run(ctx), context.DeadlineExceeded)
		require.Equal(t, 70*time.Second, time.Since(began))
		require.EqualValues(t, 0, f.committed("billing", orders(0)))
	})
}

func TestPushCloseBeforeRun(t *testing.T) {
	f := newFake(t, nil)
	defer f.close(t)
	p := consumer.NewPush(f, "billing")
	require.NoError(t, p.Close(t.Context()))
	require.ErrorIs(t, p.Run(t.Context()), message.ErrClosed)
}

func TestPushOptions(t *testing.T) {
	f := newFake(t, nil)
	defer f.close(t)
	bad := map[string]consumer.Option{
		"mode": consumer.WithMode(group.Shared), "order": consumer.WithOrder(9), "workers": consumer.WithWorkers(0),
		"batch": consumer.WithBatch(-1), "prefetch": consumer.WithPrefetch(0, 1), "span": consumer.WithSpan(0),
		"retry": consumer.WithRetry(nil), "attempts": consumer.WithMaxAttempts(0), "rate": consumer.WithRate(0, 1),
		"timeout": consumer.WithTimeout(0), "suspension": consumer.WithSuspension(-1), "stop": consumer.WithStopTimeout(0),
		"manual": consumer.WithManualCommit(), "corrupt": consumer.OnCorrupt(7), "key": consumer.WithKey(nil),
		"interceptor": consumer.WithInterceptor(nil), "pull": consumer.WithCommitInterval(time.Second),
		"read": consumer.WithReadBatch(0), "drain": consumer.WithDrainLimit(0),
	}
	for name, o := range bad {
		p := consumer.NewPush(f, "billing", o)
		require.Error(t, p.Run(t.Context()), name)
		require.Error(t, p.Subscribe("orders", nil, consumer.One(new(seen).handle)), name)
	}
	require.Error(t, consumer.NewPush(f, "billing", consumer.WithRate(1, 1), consumer.WithBatch(2)).Run(t.Context()))
	require.ErrorIs(t, consumer.NewPush(f, "no/name").Run(t.Context()), message.ErrInvalidName)
	require.ErrorIs(t, consumer.NewPush(nil, "billing").Run(t.Context()), message.ErrUnsupported)
	p := consumer.NewPush(f, "billing")
	require.Error(t, p.Subscribe("orders", nil, nil))
	require.Error(t, p.Subscribe("no/name", nil, consumer.One(new(seen).handle)))
	require.Error(t, p.Subscribe("%RETRY%billing", nil, consumer.One(new(seen).handle)))
}

func TestPushInterceptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 1)
		var calls []string
		wrap := func(name string) consumer.Option {
			return consumer.WithInterceptor(func(next consumer.Handler) consumer.Handler {
				return func(ctx context.Context, ds []*consumer.Delivery) error {
					calls = append(calls, name)
					return next(ctx, ds)
				}
			})
		}
		p := consumer.NewPush(f, "billing", wrap("outer"), wrap("inner"))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(new(seen).handle)))
		r := run(p)
		synctest.Wait()
		r.stop(t)
		require.Equal(t, []string{"outer", "inner"}, calls)
	})
}

// A thousand lives leave nothing behind.
func TestPushLeavesNothing(t *testing.T) {
	f := newFake(t, map[string]int{"orders": 4})
	f.putN(t, "orders", 50)
	for i := range 1000 {
		p := consumer.NewPush(f, "billing", consumer.WithOrder(consumer.Order(i%3)))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(new(seen).handle)))
		r := run(p)
		require.NoError(t, r.Close(t.Context()))
		if err := <-r.result; err != nil { // Close came before Run
			require.ErrorIs(t, err, message.ErrClosed)
		}
	}
	f.close(t)
	require.NoError(t, goleak.Find())
}
