package consumer_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var bars = flag.Bool("bars", false, "measure push on a store and print the figures")

// backlog is a store with n messages of size bytes on four queues.
func backlog(tb testing.TB, n, size int, opts ...store.Option) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.TempDir(), append([]store.Option{store.WithDurability(message.InCache)}, opts...)...)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	ctx := context.Background()
	require.NoError(tb, s.CreateTopic(ctx, store.Topic{Name: "t", ReadQueues: 4, WriteQueues: 4}))
	body := make([]byte, size)
	batch := make([]*message.Message, 0, 250)
	for i := 0; i < n; i++ {
		m := &message.Message{Topic: "t", QueueID: int32(i % 4), Body: body}
		if i%2 == 0 {
			m.ShardingKey = strconv.Itoa(i % 1000)
		}
		if batch = append(batch, m); len(batch) == cap(batch) || i == n-1 {
			_, err := s.PutBatch(ctx, batch)
			require.NoError(tb, err)
			batch = batch[:0]
		}
	}
	return s
}

// drain consumes everything of a new group and tells how long it took.
func drain(tb testing.TB, e consumer.Engine, name string, n int, opts ...consumer.Option) time.Duration {
	tb.Helper()
	var got atomic.Int64
	done := make(chan struct{})
	p := consumer.NewPush(e, name, opts...)
	require.NoError(tb, p.Subscribe("t", nil, func(_ context.Context, ds []*consumer.Delivery) error {
		if got.Add(int64(len(ds))) == int64(n) {
			close(done)
		}
		return nil
	}))
	began := time.Now()
	r := run(p)
	<-done
	took := time.Since(began)
	r.stop(tb)
	return took
}

// BenchmarkPushBacklog has a handler that does nothing take a million messages of
// 100 bytes on four queues, by order and batch.
func BenchmarkPushBacklog(b *testing.B) {
	const n = 1_000_000
	s := backlog(b, n, 100)
	groups := 0
	for _, order := range []consumer.Order{consumer.Unordered, consumer.PerQueue, consumer.PerKey} {
		for _, batch := range []int{1, 32} {
			b.Run(fmt.Sprintf("order=%v/batch=%d", order, batch), func(b *testing.B) {
				b.ReportAllocs()
				var took time.Duration
				for range b.N {
					groups++ // each drain has a group of its own
					took += drain(b, s, fmt.Sprint("g", groups), n, consumer.WithBatch(batch), consumer.WithOrder(order))
				}
				b.ReportMetric(float64(b.N)*n/took.Seconds(), "msg/s")
			})
		}
	}
}

// TestBars prints the end-to-end latency at 20,000 messages of 1 KiB a second
// beside that of a bare pwrite and the wake-up of a goroutine, in turns:
//
//	go test ./consumer -run '^TestBars$' -bars -v
//
// It asserts nothing about time.
func TestBars(t *testing.T) {
	if !*bars {
		t.Skip("run with -bars")
	}
	const perTurn = 20_000
	s := backlog(t, 0, 0)
	ctx := context.Background()
	var sent atomic.Pointer[[]time.Time]
	p := consumer.NewPush(s, "g", consumer.WithBatch(32))
	seen := make(chan struct{})
	var n atomic.Int64
	lat := make([]time.Duration, perTurn)
	require.NoError(t, p.Subscribe("t", nil, func(_ context.Context, ds []*consumer.Delivery) error {
		now := time.Now()
		for _, d := range ds {
			i, _ := strconv.Atoi(string(d.Body()[:8]))
			lat[i] = now.Sub((*sent.Load())[i])
		}
		if n.Add(int64(len(ds))) == perTurn {
			seen <- struct{}{}
		}
		return nil
	}))
	r := run(p)
	defer r.stop(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "bare"))
	require.NoError(t, err)
	defer file.Close()
	for turn := range 3 {
		at := make([]time.Time, perTurn)
		sent.Store(&at)
		n.Store(0)
		body := make([]byte, 1024)
		pace(perTurn, func(i int) {
			copy(body, fmt.Sprintf("%08d", i))
			at[i] = time.Now()
			_, err := s.Put(ctx, &message.Message{Topic: "t", QueueID: int32(i % 4), Body: body})
			require.NoError(t, err)
		})
		<-seen
		print2 := func(name string, ds []time.Duration) {
			slices.Sort(ds)
			fmt.Printf("turn %d %-6s p50 %8v  p99 %8v  p99.9 %8v max %8v\n", turn, name, ds[len(ds)/2], ds[len(ds)*99/100], ds[len(ds)*999/1000], ds[len(ds)-1])
		}
		print2("push", lat)

		bare := make([]time.Duration, perTurn)
		c := make(chan int, 1024)
		end := make(chan struct{})
		go func() {
			defer close(end)
			for i := range c {
				bare[i] = time.Since(at[i])
			}
		}()
		pace(perTurn, func(i int) {
			at[i] = time.Now()
			_, err := file.WriteAt(body, int64(i)*1024)
			require.NoError(t, err)
			c <- i
		})
		close(c)
		<-end
		print2("bare", bare)
	}
}

// pace calls f n times, 20,000 times a second, without falling asleep for longer
// than a call is late.
func pace(n int, f func(i int)) {
	began := time.Now()
	for i := range n {
		due := began.Add(time.Duration(i) * 50 * time.Microsecond)
		for time.Until(due) > 0 {
			if d := time.Until(due); d > 200*time.Microsecond {
				time.Sleep(d / 2)
			}
		}
		f(i)
	}
}
