package consumer_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/message"
)

// A blocked handler stops reading at the limit; once it goes on, so does all else
// at once.
func TestPushFlowControl(t *testing.T) {
	cases := []struct {
		name string
		most int64
		opts []consumer.Option
	}{
		{"count", 100, []consumer.Option{consumer.WithPrefetch(100, 1<<30)}},
		{"bytes", 300, []consumer.Option{consumer.WithPrefetch(1000, 20_000), consumer.WithReadBatch(100)}},
		{"span", 50, []consumer.Option{consumer.WithSpan(50)}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, map[string]int{"orders": 1})
				defer f.close(t)
				f.putN(t, "orders", 2000)
				hold := make(chan struct{})
				var n atomic.Int64
				p := consumer.NewPush(f, "billing", append(c.opts, consumer.WithWorkers(1))...)
				require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(context.Context, *consumer.Delivery) error {
					<-hold
					n.Add(1)
					return nil
				})))
				r := run(p)
				sleep(time.Hour / 10)
				read := p.Stats().Read
				require.LessOrEqual(t, read, c.most)
				require.GreaterOrEqual(t, read, int64(50))
				began := time.Now()
				close(hold)
				synctest.Wait()
				require.EqualValues(t, 2000, n.Load())
				require.Less(t, time.Since(began), 50*time.Millisecond)
				r.stop(t)
			})
		})
	}
}

func TestPushRate(t *testing.T) {
	for _, batch := range []int{1, 5} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, map[string]int{"orders": 3})
			defer f.close(t)
			f.putN(t, "orders", 100)
			var s seen
			p := consumer.NewPush(f, "billing", consumer.WithRate(10, 20), consumer.WithBatch(batch))
			require.NoError(t, p.Subscribe("orders", nil, consumer.One(s.handle)))
			began := time.Now()
			r := run(p)
			synctest.Wait()
			require.InDelta(t, 20, s.count(), 5)
			sleep(4*time.Second + time.Millisecond)
			require.InDelta(t, 60, s.count(), 5)
			sleep(time.Minute)
			require.Equal(t, 100, s.count())
			require.InDelta(t, 8, s.at[99].Sub(began).Seconds(), 0.6)
			r.stop(t)
		})
	}
}

func TestPushPauseAndResume(t *testing.T) {
	pauses := map[string][]message.Queue{
		"all":   nil,
		"topic": {{Topic: "orders", ID: consumer.AllQueues}},
		"queue": {orders(0), orders(1)},
	}
	for name, qs := range pauses {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, map[string]int{"orders": 2, "other": 1})
				defer f.close(t)
				var s, other seen
				p := consumer.NewPush(f, "billing")
				require.NoError(t, p.Subscribe("orders", nil, consumer.One(s.handle)))
				require.NoError(t, p.Subscribe("other", nil, consumer.One(other.handle)))
				p.Pause(qs...)
				r := run(p)
				f.putN(t, "orders", 10)
				f.putN(t, "other", 10)
				sleep(time.Minute)
				require.Zero(t, s.count())
				require.Equal(t, len(qs) > 0, other.count() == 10)
				p.Resume(qs...)
				synctest.Wait()
				require.Equal(t, 10, s.count())
				require.Equal(t, 10, other.count())
				p.Pause(qs...)
				f.putN(t, "orders", 10)
				synctest.Wait()
				require.Equal(t, 10, s.count())
				p.Resume(qs...)
				synctest.Wait()
				require.Equal(t, 20, s.count())
				r.stop(t)
			})
		})
	}
}

func TestPushWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 2})
		defer f.close(t)
		f.putN(t, "orders", 1000)
		var mu sync.Mutex
		now, peak := 0, 0
		p := consumer.NewPush(f, "billing", consumer.WithWorkers(3))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(context.Context, *consumer.Delivery) error {
			mu.Lock()
			now++
			peak = max(peak, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return nil
		})))
		most := func() int {
			mu.Lock()
			defer mu.Unlock()
			n := peak
			peak = 0
			return n
		}
		r := run(p)
		sleep(10500 * time.Millisecond)
		require.Equal(t, 3, most())
		p.SetWorkers(10)
		sleep(10 * time.Second)
		require.Equal(t, 10, most())
		p.SetWorkers(1)
		sleep(2 * time.Second)
		most()
		sleep(10 * time.Second)
		require.Equal(t, 1, most())
		p.SetWorkers(100)
		sleep(time.Minute)
		r.stop(t)
		require.EqualValues(t, 1000, p.Stats().Done)
	})
}

func TestPushCorrupt(t *testing.T) {
	for _, skip := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, map[string]int{"orders": 1})
			defer f.close(t)
			f.putN(t, "orders", 10)
			broken := true
			f.onRead = func(_ message.Queue, at int64) error {
				if at == 4 && broken {
					return &message.CorruptError{Path: "x", Offset: 4, Reason: "rotten"}
				}
				return nil
			}
			var s seen
			var mu sync.Mutex
			var kinds []consumer.EventKind
			opts := []consumer.Option{consumer.OnEvent(func(e consumer.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Err != nil {
					kinds = append(kinds, e.Kind)
				}
			})}
			if skip {
				opts = append(opts, consumer.OnCorrupt(consumer.SkipCorrupt))
			}
			p := consumer.NewPush(f, "billing", opts...)
			require.NoError(t, p.Subscribe("orders", nil, consumer.One(s.handle)))
			r := run(p)
			sleep(time.Minute)
			if skip {
				require.Equal(t, 9, s.count())
				require.Equal(t, []consumer.EventKind{consumer.RecordSkipped}, kinds)
				require.EqualValues(t, 10, f.committed("billing", orders(0)))
				require.Len(t, f.bodies("%DLQ%billing"), 1)
			} else {
				require.Equal(t, 4, s.count())
				require.Equal(t, []consumer.EventKind{consumer.QueueStopped}, kinds)
				require.ErrorIs(t, p.Stats().Queues[0].Stopped, message.ErrCorrupt)
				f.mu.Lock()
				broken = false
				f.mu.Unlock()
				p.Resume(orders(0))
				synctest.Wait()
				require.Equal(t, 10, s.count())
			}
			r.stop(t)
		})
	}
}

// An offset that is not kept any more moves, and an engine's error is tried again.
func TestPushReadErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 10)
		failing := true
		f.onRead = func(message.Queue, int64) error {
			if failing {
				return errNo
			}
			return nil
		}
		var s seen
		p := consumer.NewPush(f, "billing")
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(s.handle)))
		r := run(p)
		sleep(time.Minute)
		require.Zero(t, s.count())
		f.expire(orders(0), 6)
		f.mu.Lock()
		failing = false
		f.mu.Unlock()
		sleep(time.Minute)
		require.Equal(t, []string{"6", "7", "8", "9"}, sorted(s.all()))
		require.EqualValues(t, 10, f.committed("billing", orders(0)))
		r.stop(t)
	})
}

// absent is an engine that cannot say where queues begin and end.
type absent struct {
	*fake
	away atomic.Bool
}

func (e *absent) Bounds(q message.Queue) (start, end int64, err error) {
	if e.away.Load() {
		return 0, 0, errNo
	}
	return e.fake.Bounds(q)
}

// Where a group begins is not decided while the engine does not answer, but tried
// again.
func TestPushStartIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 10)
		e := &absent{fake: f}
		e.away.Store(true)
		var s seen
		p := consumer.NewPush(e, "billing", consumer.WithStart(message.Last()))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(s.handle)))
		r := run(p)
		sleep(time.Minute)
		e.away.Store(false)
		sleep(time.Minute)
		require.Zero(t, s.count())
		f.putN(t, "orders", 2)
		sleep(time.Second)
		require.Equal(t, 2, s.count(), "what came behind the end of then")
		require.EqualValues(t, 12, f.committed("billing", orders(0)))
		r.stop(t)
	})
}

// slowTail is an engine whose reads at the end of a queue take until end returns.
type slowTail struct {
	*fake
	end func()
}

func (e *slowTail) Read(ctx context.Context, q message.Queue, from int64, n message.Limit, f message.Filter) (message.Batch, error) {
	b, err := e.fake.Read(ctx, q, from, n, f)
	if len(b.Records) == 0 {
		e.end()
	}
	return b, err
}

// What is handled while a read finds nothing more is settled when the read is over.
// The clock stands still: nobody may need an alarm for it.
func TestPushSettlesBehindRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 1)
		atEnd, handled := make(chan struct{}), make(chan struct{})
		e := &slowTail{fake: f, end: sync.OnceFunc(func() { close(atEnd); <-handled })}
		p := consumer.NewPush(e, "billing", consumer.WithClock(clock.NewManual(time.Now())))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(context.Context, *consumer.Delivery) error {
			<-atEnd
			return nil
		})))
		r := run(p)
		synctest.Wait()
		require.EqualValues(t, 0, f.committed("billing", orders(0)), "the queue is being read")
		close(handled)
		synctest.Wait()
		require.EqualValues(t, 1, f.committed("billing", orders(0)))
		r.stop(t)
	})
}

// What a filter leaves out is settled, so that it does not look like lag.
func TestPushFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		for i := range 100 {
			tag := "b"
			if i < 10 {
				tag = "a"
			}
			f.put(t, &message.Message{Topic: "orders", Tag: tag, Body: []byte("x")})
		}
		var s seen
		p := consumer.NewPush(f, "billing")
		tags, err := message.Tags("a")
		require.NoError(t, err)
		require.NoError(t, p.Subscribe("orders", tags, consumer.One(s.handle)))
		r := run(p)
		sleep(time.Second)
		require.Equal(t, 10, s.count())
		require.EqualValues(t, 100, f.committed("billing", orders(0)))
		r.stop(t)
	})
}
