package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// On a real store, over a restart: failures come again, the last one is a dead
// letter, and what is settled does not come again.
func TestPushOnStore(t *testing.T) {
	for _, order := range []consumer.Order{consumer.Unordered, consumer.PerQueue, consumer.PerKey} {
		t.Run(order.String(), func(t *testing.T) {
			dir := t.TempDir()
			var mu sync.Mutex
			calls := make(map[string]int)
			serve := func(put bool, enough func() bool) consumer.PushStats {
				s, err := store.Open(dir)
				require.NoError(t, err)
				defer func() { require.NoError(t, s.Close()) }()
				for i := 0; put && i < 40; i++ {
					_, err := s.Put(t.Context(), &message.Message{Topic: "orders", QueueID: int32(i % 4),
						ShardingKey: fmt.Sprint(i % 8), Body: []byte(fmt.Sprint(i))})
					require.NoError(t, err)
				}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				p := consumer.NewPush(s, "billing", consumer.WithOrder(order), consumer.WithMaxAttempts(3),
					consumer.WithRetry(consumer.Steps(time.Millisecond)), consumer.WithSuspension(time.Millisecond))
				require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
					mu.Lock()
					defer mu.Unlock()
					id := string(d.Body())
					calls[id]++
					if enough() {
						stop()
					}
					switch {
					case id == "13":
						return errors.New("never")
					case d.Offset()%5 == 2 && d.Topic() == d.Queue().Topic && d.Attempt() == 1:
						return errors.New("once")
					}
					return nil
				})))
				require.NoError(t, p.Run(ctx))
				return p.Stats()
			}
			st := serve(true, func() bool { return len(calls) == 40 && calls["13"] == 3 })
			if st.Dead == 0 {
				require.NotZero(t, st.Retried+st.Failed)
			}
			before := len(calls)
			require.Equal(t, 40, before)
			require.Equal(t, 3, calls["13"])
			for id, n := range calls {
				require.LessOrEqual(t, n, 3, id)
			}
			s, err := store.Open(dir)
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			_, end, err := s.Bounds(message.Queue{Topic: "%DLQ%billing"})
			require.NoError(t, err)
			require.EqualValues(t, 1, end)
			for id := range int32(4) {
				at, ok, err := s.Committed(t.Context(), "billing", message.Queue{Topic: "orders", ID: id})
				require.NoError(t, err)
				require.True(t, ok)
				require.LessOrEqual(t, at, int64(10))
			}
		})
	}
}

// A dead letter that is sent again to its group alone is handled as a message of the
// topic that it came from; if it dies again, it still knows that place.
func TestRedriveToTheGroup(t *testing.T) {
	s, err := store.Open(t.TempDir())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	sent, err := s.Put(t.Context(), &message.Message{Topic: "orders", QueueID: 2, Tag: "red", Body: []byte("1")})
	require.NoError(t, err)
	serve := func(err error) (d *consumer.Delivery) {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		f, ferr := message.Tags("red")
		require.NoError(t, ferr)
		p := consumer.NewPush(s, "billing")
		require.NoError(t, p.Subscribe("orders", f, consumer.One(func(_ context.Context, got *consumer.Delivery) error {
			d = got
			stop()
			return err
		})))
		require.NoError(t, p.Run(ctx))
		require.NotNil(t, d, "not handled")
		return d
	}
	again := func() {
		t.Helper()
		for l, err := range s.DeadLetters().All(t.Context(), "billing") {
			require.NoError(t, err)
			require.Equal(t, sent.Queue, l.Origin)
			require.Equal(t, sent.Offset, l.OriginOffset)
			require.Equal(t, "no", l.Reason)
		}
		n, err := s.DeadLetters().Redrive(t.Context(), "billing", store.Redrive{To: message.PrefixRetry + "billing"})
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
	serve(consumer.DeadLetter("no"))
	again()
	serve(consumer.DeadLetter("no"))
	again()
	d := serve(nil)
	require.Equal(t, "orders", d.Topic())
	require.Equal(t, 1, d.Attempt())
	require.Zero(t, s.DeadLetters().Count("billing"))
}
