package consumer_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
)

func TestPushSuspendsInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 4)
		var s seen
		var attempts []int
		p := consumer.NewPush(f, "billing", consumer.WithOrder(consumer.PerQueue))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
			s.add(d)
			attempts = append(attempts, d.Attempt())
			if string(d.Body()) == "1" && d.Attempt() < 20 {
				return errNo
			}
			if string(d.Body()) == "2" && d.Attempt() == 1 {
				return consumer.Suspend(time.Hour)
			}
			return nil
		})))
		began := time.Now()
		r := run(p)
		sleep(10 * time.Second)
		require.Equal(t, 11, f.attempts("billing", orders(0), 1))
		sleep(time.Minute)
		r.stop(t)
		require.Equal(t, []string{"2", "2", "3"}, s.all()[21:])
		require.Equal(t, 20, attempts[20])
		require.Equal(t, 19*time.Second, s.at[20].Sub(began))
		require.Equal(t, 49*time.Second, s.at[22].Sub(began))
		require.EqualValues(t, 4, f.committed("billing", orders(0)))
		_, err := f.QueueCount("%RETRY%billing")
		require.ErrorIs(t, err, message.ErrNotFound)
	})
}

// Attempts in place survive a restart, and count towards WithMaxAttempts.
func TestPushAttemptsSurvive(t *testing.T) {
	for _, order := range []consumer.Order{consumer.PerQueue, consumer.PerKey} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, map[string]int{"orders": 1})
			f.put(t, &message.Message{Topic: "orders", ShardingKey: "k", Body: []byte("x")})
			f.put(t, &message.Message{Topic: "orders", ShardingKey: "k", Body: []byte("y")})
			var attempts []int
			start := func() *running {
				p := consumer.NewPush(f, "billing", consumer.WithOrder(order), consumer.WithMaxAttempts(5))
				require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
					if string(d.Body()) == "y" {
						return nil
					}
					attempts = append(attempts, d.Attempt())
					return errNo
				})))
				return run(p)
			}
			r := start()
			sleep(2500 * time.Millisecond)
			r.stop(t)
			f = f.reopen(t, 0)
			defer f.close(t)
			r = start()
			sleep(time.Minute)
			r.stop(t)
			require.Equal(t, []int{1, 2, 3, 4, 5}, attempts)
			require.Equal(t, []string{"x"}, f.bodies("%DLQ%billing"))
			require.EqualValues(t, 2, f.committed("billing", orders(0)))
		})
	}
}

// A batch in order goes on behind its first failure, whose followers count no
// attempt.
func TestPushBatchInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 10)
		var s seen
		p := consumer.NewPush(f, "billing", consumer.WithOrder(consumer.PerQueue), consumer.WithBatch(4))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
			s.add(d)
			if string(d.Body()) == "2" && d.Attempt() < 3 {
				return errNo
			}
			if string(d.Body()) == "3" {
				require.Equal(t, 1, d.Attempt())
			}
			return nil
		})))
		r := run(p)
		sleep(time.Minute)
		r.stop(t)
		require.Equal(t, []string{"0", "1", "2", "2", "2", "3", "4", "5", "6", "7", "8", "9"}, s.all())
	})
}

// One key that is stuck for ever holds up nobody else, up to the span.
func TestPushStuckKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		const n = 3000
		for i := range n {
			key := "k" + strconv.Itoa(i%5)
			if i%10 == 7 {
				key = "" // no key, no order
			}
			f.put(t, &message.Message{Topic: "orders", ShardingKey: key, Body: []byte(strconv.Itoa(i))})
		}
		stuck := make(chan struct{})
		var mu sync.Mutex
		got := make(map[string][]int)
		p := consumer.NewPush(f, "billing", consumer.WithOrder(consumer.PerKey), consumer.WithBatch(3))
		require.NoError(t, p.Subscribe("orders", nil, func(_ context.Context, ds []*consumer.Delivery) error {
			key, _ := ds[0].Property(message.PropShardingKey)
			for _, d := range ds {
				i, _ := strconv.Atoi(string(d.Body()))
				if i == 0 {
					<-stuck
				}
				k, _ := d.Property(message.PropShardingKey)
				require.Equal(t, key, k)
				mu.Lock()
				got[key] = append(got[key], i)
				mu.Unlock()
			}
			return nil
		}))
		r := run(p)
		sleep(time.Second)
		mu.Lock()
		require.Empty(t, got["k0"])
		require.Equal(t, 1996, got["k1"][len(got["k1"])-1])
		mu.Unlock()
		st := p.Stats().Queues[0]
		require.EqualValues(t, 2000, st.Next)
		require.EqualValues(t, 0, st.Lowest)
		require.Equal(t, 400, st.Messages)
		close(stuck)
		sleep(time.Second)
		r.stop(t)
		total := 0
		for key, list := range got {
			total += len(list)
			require.True(t, key == "" || slices.IsSorted(list), "key %q: %v", key, list)
		}
		require.Equal(t, n, total)
		require.EqualValues(t, n, f.committed("billing", orders(0)))
	})
}

// After a crash a consumer passes over what is settled above a gap, and delivers
// no message of a key behind a later one.
func TestPushKeysAfterCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		for i := range 100 {
			f.put(t, &message.Message{Topic: "orders", ShardingKey: strconv.Itoa(i % 10), Body: []byte(strconv.Itoa(i))})
		}
		stuck := make(chan struct{})
		var first, again seen
		s := &first
		start := func() *running {
			p := consumer.NewPush(f, "billing", consumer.WithOrder(consumer.PerKey))
			require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(ctx context.Context, d *consumer.Delivery) error {
				if string(d.Body()) == "13" && s == &first {
					<-stuck
					return ctx.Err()
				}
				s.add(d)
				return nil
			})))
			return run(p)
		}
		r := start()
		sleep(time.Second)
		f.close(t) // the store is gone
		synctest.Wait()
		close(stuck)
		require.ErrorIs(t, <-r.result, message.ErrClosed)
		require.Len(t, first.all(), 91)
		f = f.reopen(t, 30)
		defer f.close(t)
		s = &again
		r = start()
		sleep(time.Second)
		r.stop(t)
		require.EqualValues(t, 100, f.committed("billing", orders(0)))
		list := again.all()
		require.LessOrEqual(t, len(list), 9+30)
		for i := range 10 {
			last := -1
			for _, body := range list {
				if n, _ := strconv.Atoi(body); n%10 == i {
					require.Greater(t, n, last)
					last = n
				}
			}
		}
		require.Contains(t, list, "13")
	})
}

func TestPushManualCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 10)
		var s seen
		rolled := false
		p := consumer.NewPush(f, "billing", consumer.WithOrder(consumer.PerQueue), consumer.WithManualCommit(), consumer.WithPrefetch(2, 1<<20))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
			s.add(d)
			switch body := string(d.Body()); {
			case body == "2":
				return consumer.Commit
			case body == "6" && !rolled:
				rolled = true
				return consumer.Rollback
			case body == "7":
				return consumer.Commit
			}
			return nil
		})))
		r := run(p)
		sleep(500 * time.Millisecond)
		require.EqualValues(t, 3, f.committed("billing", orders(0)))
		sleep(time.Minute)
		require.EqualValues(t, 8, f.committed("billing", orders(0)))
		require.Equal(t, "0 1 2 3 4 5 6 3 4 5 6 7 8 9", strings.Join(s.all(), " "))
		r.stop(t)
		require.EqualValues(t, 8, f.committed("billing", orders(0)), "what was not committed is not settled")
	})
}

// Two consumers, three ids of five messages each: every id in its order, with
// failures and with a second member coming and going.
func TestPushOrderAcrossMembers(t *testing.T) {
	for _, order := range []consumer.Order{consumer.PerQueue, consumer.PerKey} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, map[string]int{"orders": 4})
			defer f.close(t)
			for i := range 60 {
				id := i % 12
				f.put(t, &message.Message{Topic: "orders", QueueID: int32(id % 4), ShardingKey: strconv.Itoa(id), Body: []byte(fmt.Sprint(id, " ", i/12))})
			}
			var s seen
			start := func() *running {
				p := consumer.NewPush(f, "billing", consumer.WithOrder(order))
				require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
					time.Sleep(100 * time.Millisecond)
					if d.Offset()%5 == 3 && d.Attempt() == 1 {
						return errNo
					}
					s.add(d)
					return nil
				})))
				return run(p)
			}
			a := start()
			sleep(350 * time.Millisecond)
			b := start()
			sleep(500 * time.Millisecond)
			b.stop(t)
			sleep(time.Minute)
			a.stop(t)
			last := make(map[string]string)
			for _, body := range s.all() {
				id, step, _ := strings.Cut(body, " ")
				require.Greater(t, step, last[id])
				last[id] = step
			}
			require.Equal(t, 60, s.count())
		})
	}
}
