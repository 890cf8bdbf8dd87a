package watermill_test

import (
	"testing"

	wm "github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/adapter/watermill"
	"github.com/embermq/embermq/store"
)

// Both ends must be what a router wants.
var (
	_ wm.Publisher            = (*watermill.Publisher)(nil)
	_ wm.Subscriber           = (*watermill.Subscriber)(nil)
	_ wm.SubscribeInitializer = (*watermill.Subscriber)(nil)
)

// TestPubSub is Watermill's own acceptance suite.
func TestPubSub(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.WithoutIndex())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	withGroup := func(_ *testing.T, group string) (wm.Publisher, wm.Subscriber) {
		c := watermill.Config{Group: group}
		return watermill.NewPublisher(s, c), watermill.NewSubscriber(s, c)
	}
	tests.TestPubSub(t, tests.Features{
		ConsumerGroups:                      true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
		Persistent:                          true,
	}, func(t *testing.T) (wm.Publisher, wm.Subscriber) { return withGroup(t, "suite") }, withGroup)
}

// Any bytes of UUID and metadata come back.
func TestAnyBytes(t *testing.T) {
	s, err := store.Open(t.TempDir())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	p, sub := watermill.NewPublisher(s, watermill.Config{}), watermill.NewSubscriber(s, watermill.Config{})
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	m := wm.NewMessage(string(every), nil)
	m.Metadata.Set(string(every), string(every))
	m.Metadata.Set("", "")
	require.NoError(t, p.Publish("t", m))
	c, err := sub.Subscribe(t.Context(), "t")
	require.NoError(t, err)
	got := <-c
	require.Equal(t, m.UUID, got.UUID)
	require.Equal(t, m.Metadata, got.Metadata)
	require.Empty(t, got.Payload)
	got.Ack()
	require.NoError(t, sub.Close())
	require.NoError(t, sub.Close())
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	require.ErrorIs(t, p.Publish("t", m), store.ErrClosed)
	_, err = sub.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, store.ErrClosed)
}
