package consumer_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/group"
)

// A member whose handler hangs loses a revoked queue after 15 minutes, or after its
// own limit; what the handler says later does not count.
func TestPushHungHandlerLosesItsQueue(t *testing.T) {
	for limit, opts := range map[time.Duration][]consumer.Option{
		group.DefaultDrainLimit: nil,
		time.Minute:             {consumer.WithDrainLimit(time.Minute)},
	} {
		t.Run(limit.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, map[string]int{"orders": 2})
				defer f.close(t)
				f.putN(t, "orders", 2)
				hang := make(chan struct{})
				var hung, got seen
				start := func(name string, handle func(context.Context, *consumer.Delivery) error) *running {
					p := consumer.NewPush(f, "billing", append(opts, consumer.WithMember(name), consumer.WithOrder(consumer.PerQueue), consumer.WithTimeout(24*time.Hour))...)
					require.NoError(t, p.Subscribe("orders", nil, consumer.One(handle)))
					return run(p)
				}
				a := start("a", func(_ context.Context, d *consumer.Delivery) error {
					hung.add(d)
					<-hang
					return consumer.DeadLetter("too late")
				})
				synctest.Wait()
				require.Equal(t, 2, hung.count())
				b := start("b", got.handle)
				sleep(limit - time.Second)
				require.Zero(t, got.count(), "the holder may still end")
				sleep(2 * time.Second)
				require.Equal(t, 1, got.count())
				q := orders(1)
				require.EqualValues(t, 1, f.committed("billing", q))
				require.EqualValues(t, 1, f.groups.Stats().Lost)
				close(hang)
				sleep(time.Second)
				require.Equal(t, []string{"0"}, f.bodies("%DLQ%billing"), "of the queue that it kept")
				require.EqualValues(t, 1, f.committed("billing", q))
				a.stop(t)
				b.stop(t)
				require.Equal(t, 1, got.count())
			})
		})
	}
}

// Memory does not grow with the backlog: neither while a handler blocks and the
// rest of a million messages goes by, nor when it goes on.
func TestPushMemoryIsFlat(t *testing.T) {
	n := int64(1_000_000)
	if testing.Short() {
		n = 100_000
	}
	s := backlog(t, int(n), 100)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	hold, drained, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var got, others, peak atomic.Int64
	p := consumer.NewPush(s, "g", consumer.WithWorkers(2), consumer.WithBatch(32))
	require.NoError(t, p.Subscribe("t", nil, func(_ context.Context, ds []*consumer.Delivery) error {
		for _, d := range ds {
			switch {
			case d.QueueID() == 0 && d.Offset() == 0:
				<-hold
			case d.QueueID() != 0 && others.Add(1) == n/4*3:
				close(drained)
			}
		}
		if now := got.Add(int64(len(ds))); now == n {
			close(done)
		} else if now/100_000 != (now-int64(len(ds)))/100_000 {
			peak.Store(max(peak.Load(), heap()))
		}
		return nil
	}))
	base := heap()
	r := run(p)
	<-drained
	for _, q := range p.Stats().Queues {
		if q.Queue.ID == 0 {
			require.Zero(t, q.Lowest)
			require.LessOrEqual(t, q.Next, int64(consumer.DefaultSpan))
		}
	}
	require.LessOrEqual(t, p.Stats().Read, n/4*3+consumer.DefaultSpan)
	const most = 16 << 20 // what is read ahead, and the store's own tables
	require.Less(t, heap()-base, int64(most), "beside a handler that blocks")
	close(hold)
	<-done
	require.Less(t, peak.Load()-base, int64(most))
	t.Logf("the heap grew from %d to %d KiB at most", base>>10, peak.Load()>>10)
	r.stop(t)
}
