package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
)

var errNo = errors.New("no")

func TestPushOutcomes(t *testing.T) {
	goexit := func() error { runtime.Goexit(); return nil }
	cases := []struct {
		name    string
		result  func() error
		retried []time.Duration // when each of the five messages comes again; 0 is never, -1 a dead letter
	}{
		{"nil", func() error { return nil }, []time.Duration{0, 0, 0, 0, 0}},
		{"error", func() error { return errNo }, []time.Duration{10, 10, 10, 10, 10}},
		{"retry_after", func() error { return consumer.RetryAfter(7 * time.Second) }, []time.Duration{7, 7, 7, 7, 7}},
		{"retry_after_wrapped", func() error { return fmt.Errorf("%w: busy", consumer.RetryAfter(7*time.Second)) }, []time.Duration{7, 7, 7, 7, 7}},
		{"suspend", func() error { return consumer.Suspend(time.Hour) }, []time.Duration{30, 30, 30, 30, 30}},
		{"dead_letter", func() error { return consumer.DeadLetter("bad\x01\n") }, []time.Duration{-1, -1, -1, -1, -1}},
		{"partial", func() error {
			return consumer.Partial(map[int]error{1: errNo, 2: consumer.DeadLetter("bad"), 3: consumer.RetryAfter(7 * time.Second), 4: nil})
		}, []time.Duration{0, 10, -1, 7, 0}},
		{"none_done", func() error { return consumer.FirstDone(0, errNo) }, []time.Duration{10, 10, 10, 10, 10}},
		{"two_done", func() error { return consumer.FirstDone(2, errNo) }, []time.Duration{0, 0, 10, 10, 10}},
		{"all_done", func() error { return consumer.FirstDone(5, errNo) }, []time.Duration{0, 0, 0, 0, 0}},
		{"first_done_nil", func() error { return consumer.FirstDone(2, nil) }, []time.Duration{0, 0, 0, 0, 0}},
		{"panic", func() error { panic("ouch") }, []time.Duration{10, 10, 10, 10, 10}},
		{"goexit", goexit, []time.Duration{10, 10, 10, 10, 10}},
		{"commit_without_manual", func() error { return consumer.Commit }, []time.Duration{0, 0, 0, 0, 0}},
		{"rollback_without_manual", func() error { return consumer.Rollback }, []time.Duration{10, 10, 10, 10, 10}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, map[string]int{"orders": 1})
				defer f.close(t)
				f.putN(t, "orders", 5)
				began := time.Now()
				var mu sync.Mutex
				again := make(map[string]time.Duration)
				p := consumer.NewPush(f, "billing", consumer.WithBatch(5))
				require.NoError(t, p.Subscribe("orders", nil, func(_ context.Context, ds []*consumer.Delivery) error {
					if ds[0].Attempt() == 1 {
						return c.result()
					}
					mu.Lock()
					defer mu.Unlock()
					for _, d := range ds {
						again[string(d.Body())] = time.Since(began) / time.Second
					}
					return nil
				}))
				r := run(p)
				sleep(time.Minute)
				r.stop(t)
				dead := f.bodies("%DLQ%billing")
				for i, want := range c.retried {
					body := numbers(5)[i]
					require.Equal(t, max(want, 0), again[body], "message %d", i)
					require.Equal(t, want == -1, slices.Contains(dead, body), "message %d", i)
				}
				require.EqualValues(t, 5, f.committed("billing", message.Queue{Topic: "orders"}))
			})
		})
	}
}

// One turns a batch into calls that fail for themselves, where no order is kept.
func TestOneInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 8)
		var first, again seen
		p := consumer.NewPush(f, "billing", consumer.WithBatch(8))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
			if d.Attempt() > 1 {
				again.add(d)
				return nil
			}
			first.add(d)
			switch string(d.Body()) {
			case "2":
				return errNo
			case "5":
				panic("ouch")
			}
			return nil
		})))
		r := run(p)
		sleep(time.Minute)
		r.stop(t)
		require.Equal(t, numbers(8), first.all())
		require.Equal(t, []string{"2", "5"}, sorted(again.all()))
		st := p.Stats()
		require.EqualValues(t, 2, st.Failed)
		require.EqualValues(t, 8, st.Done)
		require.EqualValues(t, 2, st.Retried)
	})
}

func TestPushMaxAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 1)
		var s seen
		p := consumer.NewPush(f, "billing", consumer.WithMaxAttempts(3),
			consumer.WithRetry(consumer.Exponential(5*time.Second, time.Minute, 2)))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(ctx context.Context, d *consumer.Delivery) error {
			s.add(d)
			return errNo
		})))
		began := time.Now()
		r := run(p)
		sleep(time.Hour)
		r.stop(t)
		require.Equal(t, 3, s.count())
		require.Equal(t, 15*time.Second, s.at[2].Sub(began))
		require.Equal(t, []string{"0"}, f.bodies("%DLQ%billing"))
	})
}

func TestBackoffs(t *testing.T) {
	table := consumer.Levels()
	sum := time.Duration(0)
	for i := range 16 {
		sum += table(i + 1)
	}
	require.Equal(t, 17_140*time.Second, sum)
	require.Equal(t, 2*time.Hour, table(17))
	require.Equal(t, 10*time.Second, table(0))
	require.Zero(t, consumer.Steps()(1))
	e := consumer.Exponential(5*time.Second, 2*time.Hour, 2)
	require.Equal(t, 5*time.Second, e(1))
	require.Equal(t, 40*time.Second, e(4))
	require.Equal(t, 2*time.Hour, e(12))
	require.Equal(t, 2*time.Hour, e(1<<30))
}

// A failure that the engine does not take is tried again; nothing is lost.
func TestPushSettleRefused(t *testing.T) {
	for _, order := range []consumer.Order{consumer.Unordered, consumer.PerQueue, consumer.PerKey} {
		t.Run(order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, map[string]int{"orders": 1})
				defer f.close(t)
				f.putN(t, "orders", 10)
				full := true
				f.onSettle = func(vs []message.Verdict) error {
					if full && !slices.ContainsFunc(vs, func(v message.Verdict) bool { return v.Kind == message.Begin }) {
						return message.ErrDiskFull
					}
					return nil
				}
				var s seen
				p := consumer.NewPush(f, "billing", consumer.WithOrder(order))
				require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
					if string(d.Body()) == "3" && !slices.Contains(f.bodies("%DLQ%billing"), "3") {
						return consumer.DeadLetter("bad")
					}
					s.add(d)
					return nil
				})))
				r := run(p)
				sleep(time.Minute)
				require.EqualValues(t, 0, f.committed("billing", message.Queue{Topic: "orders"}))
				f.mu.Lock()
				full = false
				f.mu.Unlock()
				sleep(time.Minute)
				require.EqualValues(t, 10, f.committed("billing", message.Queue{Topic: "orders"}))
				r.stop(t)
				require.Equal(t, []string{"3"}, f.bodies("%DLQ%billing"))
				require.Equal(t, []string{"0", "1", "2", "4", "5", "6", "7", "8", "9"}, slices.Compact(sorted(s.all())))
			})
		})
	}
}

func TestPushExpired(t *testing.T) {
	for _, order := range []consumer.Order{consumer.Unordered, consumer.PerQueue} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, map[string]int{"orders": 1})
			defer f.close(t)
			for i := range 6 {
				m := &message.Message{Topic: "orders", Body: []byte{byte('a' + i)}}
				if i%2 == 1 {
					m.ExpireAt = time.Now().Add(time.Minute)
				}
				f.put(t, m)
			}
			sleep(time.Minute)
			var reasons []string
			f.onSettle = func(vs []message.Verdict) error {
				for _, v := range vs {
					if v.Kind == message.DeadLetter {
						reasons = append(reasons, v.Reason)
					}
				}
				return nil
			}
			var s seen
			p := consumer.NewPush(f, "billing", consumer.WithOrder(order), consumer.WithBatch(6))
			failed := false
			require.NoError(t, p.Subscribe("orders", nil, func(_ context.Context, ds []*consumer.Delivery) error {
				if !failed { // the index is that of what the handler sees
					failed = true
					require.Len(t, ds, 3)
					return consumer.Partial(map[int]error{1: errNo})
				}
				for _, d := range ds {
					s.add(d)
				}
				return nil
			}))
			r := run(p)
			sleep(time.Minute)
			r.stop(t)
			require.ElementsMatch(t, []string{"b", "d", "f"}, f.bodies("%DLQ%billing"))
			require.Equal(t, []string{"expired", "expired", "expired"}, reasons)
			require.Equal(t, []string{"c"}, s.all())
			require.EqualValues(t, 6, f.committed("billing", message.Queue{Topic: "orders"}))
		})
	}
}

func TestPushTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 3)
		var late []error
		var s seen
		var events []consumer.Event
		p := consumer.NewPush(f, "billing", consumer.WithTimeout(time.Minute), consumer.OnEvent(func(e consumer.Event) {
			if e.Kind == consumer.HandlerLate {
				events = append(events, e)
			}
		}))
		hang := make(chan struct{})
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(ctx context.Context, d *consumer.Delivery) error {
			if string(d.Body()) == "1" && d.Attempt() == 1 {
				<-ctx.Done()
				late = append(late, context.Cause(ctx))
				<-hang
				return consumer.DeadLetter("counts no more")
			}
			s.add(d)
			return nil
		})))
		r := run(p)
		sleep(59 * time.Second)
		require.Equal(t, []string{"0", "2"}, sorted(s.all()))
		sleep(2 * time.Second)
		require.Equal(t, []error{consumer.ErrHandlerTimeout}, late)
		require.Len(t, events, 1)
		sleep(10 * time.Second)
		require.Equal(t, numbers(3), sorted(s.all()))
		require.EqualValues(t, 3, f.committed("billing", message.Queue{Topic: "orders"}))
		close(hang)
		r.stop(t)
		require.Empty(t, f.bodies("%DLQ%billing"))
		require.EqualValues(t, 1, p.Stats().Late)
	})
}

// Where order is kept, a late handler keeps its message until it returns.
func TestPushTimeoutInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 2)
		var s seen
		p := consumer.NewPush(f, "billing", consumer.WithTimeout(time.Minute), consumer.WithOrder(consumer.PerQueue))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(ctx context.Context, d *consumer.Delivery) error {
			s.add(d)
			if s.count() == 1 {
				<-ctx.Done()
				time.Sleep(time.Minute)
				return context.Cause(ctx)
			}
			return ctx.Err()
		})))
		began := time.Now()
		r := run(p)
		sleep(10 * time.Minute)
		r.stop(t)
		require.Equal(t, []string{"0", "0", "1"}, s.all())
		require.Equal(t, 121*time.Second, s.at[1].Sub(began))
	})
}

func TestPushReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 2)
		p := consumer.NewPush(f, "billing")
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
			if string(d.Body()) == "0" {
				return consumer.DeadLetter("")
			}
			return consumer.DeadLetter(strings.Repeat("é\x02", 4000))
		})))
		var reasons []string
		f.onSettle = func(vs []message.Verdict) error {
			for _, v := range vs {
				if v.Kind == message.DeadLetter {
					reasons = append(reasons, v.Reason)
				}
			}
			return nil
		}
		r := run(p)
		synctest.Wait()
		r.stop(t)
		require.Len(t, f.bodies("%DLQ%billing"), 2)
		slices.SortFunc(reasons, func(a, b string) int { return len(a) - len(b) })
		require.Equal(t, "no reason given", reasons[0])
		require.LessOrEqual(t, len(reasons[1]), 1024)
		require.NotContains(t, reasons[1], "\x02")
	})
}
