package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
)

// seen notes what handlers got.
type seen struct {
	mu   sync.Mutex
	list []string
	at   []time.Time
}

func (s *seen) add(d *consumer.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, string(d.Body()))
	s.at = append(s.at, time.Now())
}

func (s *seen) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

func (s *seen) count() int { return len(s.all()) }

func (s *seen) handle(_ context.Context, d *consumer.Delivery) error {
	s.add(d)
	return nil
}

// sleep lets d pass in a bubble, and what is due then happen.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func numbers(n int) (out []string) {
	for i := range n {
		out = append(out, strconv.Itoa(i))
	}
	return out
}

func sorted(list []string) []string {
	slices.SortFunc(list, func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
	return list
}

// running is a consumer whose Run works.
type running struct {
	*consumer.Push
	result chan error
}

// run starts Run in a goroutine of its own.
func run(p *consumer.Push) *running {
	r := &running{p, make(chan error, 1)}
	go func() { r.result <- p.Run(context.Background()) }()
	return r
}

// stop closes it and expects that all went well.
func (r *running) stop(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, r.Close(context.Background()))
	require.NoError(tb, <-r.result)
}

func TestPushHandlesEverything(t *testing.T) {
	for _, order := range []consumer.Order{consumer.Unordered, consumer.PerQueue, consumer.PerKey} {
		for _, batch := range []int{1, 7} {
			t.Run(fmt.Sprint(order, batch), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake(t, map[string]int{"orders": 4})
					defer f.close(t)
					f.putN(t, "orders", 1000)
					var s seen
					p := consumer.NewPush(f, "billing", consumer.WithOrder(order), consumer.WithBatch(batch))
					require.NoError(t, p.Subscribe("orders", nil, consumer.One(s.handle)))
					r := run(p)
					synctest.Wait()
					require.Equal(t, numbers(1000), sorted(s.all()))
					f.putN(t, "orders", 4)
					synctest.Wait()
					require.Equal(t, 1004, s.count())
					r.stop(t)
					for id := range int32(4) {
						require.EqualValues(t, 251, f.committed("billing", message.Queue{Topic: "orders", ID: id}))
					}
				})
			})
		}
	}
}

func TestPushRetriesAndDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.put(t, &message.Message{Topic: "orders", Body: []byte("x"), UniqueID: "0123"})
		var s seen
		var attempts []int
		p := consumer.NewPush(f, "billing")
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
			s.add(d)
			attempts = append(attempts, d.Attempt())
			require.Equal(t, "orders", d.Topic())
			require.Equal(t, "0123", d.OriginID())
			return errors.New("no")
		})))
		began := time.Now()
		r := run(p)
		sleep(24 * time.Hour)
		require.Equal(t, 17, s.count())
		require.Equal(t, 17_140*time.Second, s.at[16].Sub(began).Truncate(time.Second))
		require.Equal(t, []string{"x"}, f.bodies("%DLQ%billing"))
		for i, n := range attempts {
			require.Equal(t, i+1, n)
		}
		r.stop(t)
		require.EqualValues(t, 1, f.committed("billing", message.Queue{Topic: "orders"}))
		require.EqualValues(t, 16, f.committed("billing", message.Queue{Topic: "%RETRY%billing"}))
	})
}

// eager calls the consumer while its Run is still asking for a watch.
type eager struct {
	*fake
	call func()
}

func (e *eager) Watch(flt message.Filter, qs ...message.Queue) message.Watch {
	e.call()
	synctest.Wait()
	return e.fake.Watch(flt, qs...)
}

// Who calls while Run begins makes nobody work before there is something to wait on.
func TestPushIsCalledWhileItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &eager{fake: newFake(t, map[string]int{"orders": 1})}
		defer f.close(t)
		f.put(t, &message.Message{Topic: "orders", Body: []byte("x")})
		var s seen
		p := consumer.NewPush(f, "billing")
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
			s.add(d)
			return nil
		})))
		f.call = func() { p.Resume(message.Queue{Topic: "orders", ID: consumer.AllQueues}) }
		r := run(p)
		sleep(time.Second)
		require.Equal(t, 1, s.count())
		r.stop(t)
	})
}
