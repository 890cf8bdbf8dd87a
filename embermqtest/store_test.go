package embermqtest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/embermqtest"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

// consume runs a push consumer until the test calls stop.
func consume(t *testing.T, s *embermqtest.Store, h func(d *consumer.Delivery) error) (stop func()) {
	t.Helper()
	c := consumer.NewPush(s, "billing", consumer.WithClock(s.Clock()))
	require.NoError(t, c.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error { return h(d) })))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

func TestHandlerIsTested(t *testing.T) {
	s := embermqtest.New(t)
	p := producer.New(s, producer.WithClock(s.Clock()))
	for range 100 {
		_, err := p.Send(t.Context(), &message.Message{Topic: "orders", Body: []byte("paid")})
		require.NoError(t, err)
	}
	stop := consume(t, s, func(*consumer.Delivery) error { return nil })
	s.Delivered(t, "billing", "orders", 100)
	stop()
	require.NoError(t, p.Close(t.Context()))
}

// A message that fails comes back after ten seconds, which take no time here.
func TestRetryInVirtualTime(t *testing.T) {
	s := embermqtest.New(t)
	_, err := s.Put(t.Context(), &message.Message{Topic: "orders", Body: []byte("x")})
	require.NoError(t, err)
	attempts := make(chan int, 10)
	stop := consume(t, s, func(d *consumer.Delivery) error {
		attempts <- d.Attempt()
		if d.Attempt() < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	require.Equal(t, 1, <-attempts)
	s.Delivered(t, "billing", "orders", 1) // settled by the retry that waits
	s.Advance(10 * time.Second)
	require.Equal(t, 2, <-attempts)
	s.Eventually(t, "the second retry waits", func() bool { return s.Timers().Len() == 1 })
	s.Advance(30 * time.Second)
	require.Equal(t, 3, <-attempts)
	stop()
}

func TestCrashes(t *testing.T) {
	s := embermqtest.New(t, store.WithDurability(message.InCache))
	put := func(body string, d message.Durability) {
		_, err := s.Put(t.Context(), &message.Message{Topic: "orders", Body: []byte(body), Durability: d})
		require.NoError(t, err)
	}
	put("on disk", message.OnDisk)
	put("in cache", message.InCache)
	s = s.Kill()
	require.Equal(t, []string{"on disk", "in cache"}, s.Bodies(t, "orders"))

	lost := 0
	for seed := range uint64(20) {
		put("in cache too", message.InCache)
		before := s.Bodies(t, "orders")
		s = s.PowerCut(seed)
		got := s.Bodies(t, "orders")
		require.Equal(t, before[:len(got)], got)
		require.True(t, slices.Contains(got, "on disk"))
		lost += len(before) - len(got)
	}
	require.Positive(t, lost, "no power cut has ever taken anything")
}

func TestDelayedMessage(t *testing.T) {
	s := embermqtest.New(t)
	_, err := s.Put(t.Context(), &message.Message{Topic: "orders", Delay: 40 * 24 * time.Hour, Body: []byte("later")})
	require.NoError(t, err)
	require.Empty(t, s.Bodies(t, "orders"))
	s.Advance(40 * 24 * time.Hour)
	s.Eventually(t, "the message is there", func() bool { return len(s.Bodies(t, "orders")) == 1 })
}
