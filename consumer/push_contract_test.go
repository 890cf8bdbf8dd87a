package consumer_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// Without options 20 handlers run, with one message each, and no more than 1,000
// messages are read ahead.
func TestPushDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 3000)
		hold := make(chan struct{})
		var batches atomic.Int64
		p := consumer.NewPush(f, "billing")
		require.NoError(t, p.Subscribe("orders", nil, func(_ context.Context, ds []*consumer.Delivery) error {
			if len(ds) != 1 {
				batches.Add(1)
			}
			<-hold
			return nil
		}))
		r := run(p)
		sleep(time.Minute)
		require.Equal(t, 20, p.Stats().Running)
		require.LessOrEqual(t, p.Stats().Read, int64(1000))
		close(hold)
		synctest.Wait()
		require.EqualValues(t, 3000, p.Stats().Done)
		require.Zero(t, batches.Load())
		r.stop(t)
	})
}

// Paused, a queue keeps what was read of it and reads no message twice.
func TestPushPauseKeepsWhatWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		f.putN(t, "orders", 10)
		hold := make(chan struct{})
		var s seen
		p := consumer.NewPush(f, "billing", consumer.WithWorkers(1))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
			<-hold
			s.add(d)
			return nil
		})))
		r := run(p)
		synctest.Wait()
		p.Pause(orders(0))
		close(hold)
		sleep(time.Minute)
		require.Equal(t, []string{"0"}, s.all(), "the handler that ran has finished")
		st := p.Stats()
		require.Equal(t, 9, st.Queues[0].Messages)
		require.EqualValues(t, 10, st.Read)
		p.Resume(orders(0))
		synctest.Wait()
		require.Equal(t, numbers(10), sorted(s.all()))
		require.EqualValues(t, 10, p.Stats().Read)
		r.stop(t)
	})
}

// A reset while a handler works makes what the handler settles void: its message
// comes again, and no commit of before moves the group.
func TestPushResetWhileConsuming(t *testing.T) {
	onStore(t, 1, func(t *testing.T, s *store.Store) {
		fill(t, s, 1, 5)
		hold := make(chan struct{})
		var got seen
		first := true
		p := consumer.NewPush(s, "g", consumer.WithOrder(consumer.PerQueue))
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
			got.add(d)
			if string(d.Body()) == "3" && first {
				first = false
				<-hold
			}
			return nil
		})))
		r := run(p)
		sleep(time.Second)
		require.Equal(t, numbers(4), got.all())
		require.NoError(t, s.ResetOffsets(ctxb, "g", "orders", message.At(1)))
		sleep(time.Second)
		at, _, err := s.Committed(ctxb, "g", orders(0))
		require.NoError(t, err)
		require.EqualValues(t, 1, at, "the reset counts although a handler works")
		close(hold)
		sleep(time.Second)
		require.Equal(t, []string{"0", "1", "2", "3", "1", "2", "3", "4"}, got.all())
		r.stop(t)
		at, _, err = s.Committed(ctxb, "g", orders(0))
		require.NoError(t, err)
		require.EqualValues(t, 5, at)
	})
}

// Dead letters are a topic: another group may subscribe to it.
func TestPushSubscribesToDeadLetters(t *testing.T) {
	onStore(t, 1, func(t *testing.T, s *store.Store) {
		fill(t, s, 1, 3)
		var got seen
		p := consumer.NewPush(s, "g")
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
			if string(d.Body()) == "1" {
				return consumer.DeadLetter("no such account")
			}
			return nil
		})))
		care := consumer.NewPush(s, "care")
		require.NoError(t, care.Subscribe(message.PrefixDead+"g", nil, consumer.One(got.handle)))
		a, b := run(p), run(care)
		sleep(time.Second)
		require.Equal(t, []string{"1"}, got.all())
		a.stop(t)
		b.stop(t)
		require.EqualValues(t, 1, s.DeadLetters().Count("g"), "reading does not remove it")
	})
}
