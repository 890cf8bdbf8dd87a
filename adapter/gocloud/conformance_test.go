package gocloud

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/driver"
	"gocloud.dev/pubsub/drivertest"

	"github.com/embermq/embermq/progress"
	"github.com/embermq/embermq/store"
)

// harness gives the suite topics and groups of a store in a temporary folder.
type harness struct {
	s *store.Store
	n atomic.Int64
}

func newHarness(_ context.Context, t *testing.T) (drivertest.Harness, error) {
	s, err := store.Open(t.TempDir(), store.WithoutGroupCreation())
	return &harness{s: s}, err
}

func (h *harness) CreateTopic(ctx context.Context, _ string) (driver.Topic, func(), error) {
	name := fmt.Sprintf("topic-%d", h.n.Add(1))
	if err := h.s.CreateTopic(ctx, store.Topic{Name: name}); err != nil {
		return nil, nil, err
	}
	return newTopic(h.s, name), func() { _ = h.s.DeleteTopic(context.Background(), name) }, nil
}

func (h *harness) MakeNonexistentTopic(context.Context) (driver.Topic, error) {
	return newTopic(h.s, "nonexistent"), nil
}

func (h *harness) CreateSubscription(ctx context.Context, t driver.Topic, _ string) (driver.Subscription, func(), error) {
	name := fmt.Sprintf("group-%d", h.n.Add(1))
	if err := h.s.Progress().CreateGroup(ctx, progress.Group{Name: name}); err != nil {
		return nil, nil, err
	}
	return newSubscription(h.s, name, t.(*topic).name, time.Second), func() {}, nil
}

func (h *harness) MakeNonexistentSubscription(context.Context) (driver.Subscription, func(), error) {
	return newSubscription(h.s, "nobody", "nonexistent", 0), func() {}, nil
}

func (h *harness) Close()                              { _ = h.s.Close() }
func (h *harness) MaxBatchSizes() (send, ack int)      { return 0, 0 }
func (h *harness) SupportsMultipleSubscriptions() bool { return true }

// TestConformance is the Go CDK's own suite.
func TestConformance(t *testing.T) {
	drivertest.RunConformanceTests(t, newHarness, []drivertest.AsTest{asTest{}})
}

// asTest shows what As gives.
type asTest struct{}

func (asTest) Name() string { return "store" }

func (asTest) TopicCheck(t *pubsub.Topic) error {
	var s *store.Store
	if !t.As(&s) || s == nil {
		return fmt.Errorf("no store behind the topic")
	}
	return nil
}

func (asTest) SubscriptionCheck(b *pubsub.Subscription) error {
	var s *store.Store
	if !b.As(&s) || s == nil {
		return fmt.Errorf("no store behind the subscription")
	}
	return nil
}

func (asTest) TopicErrorCheck(t *pubsub.Topic, err error) error { return nil }

func (asTest) SubscriptionErrorCheck(b *pubsub.Subscription, err error) error { return nil }

func (asTest) MessageCheck(*pubsub.Message) error { return nil }

func (asTest) BeforeSend(func(any) bool) error { return nil }

func (asTest) AfterSend(func(any) bool) error { return nil }

// A user's way through the portable types.
func TestPortable(t *testing.T) {
	ctx := t.Context()
	s, err := store.Open(t.TempDir())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "orders"}))
	require.NoError(t, s.Progress().CreateGroup(ctx, progress.Group{Name: "billing"}))
	topic, sub := OpenTopic(s, "orders"), OpenSubscription(s, "billing", "orders", 0)
	require.NoError(t, topic.Send(ctx, &pubsub.Message{Body: []byte("paid"), Metadata: map[string]string{"id": "42"}}))
	m, err := sub.Receive(ctx)
	require.NoError(t, err)
	require.Equal(t, "paid", string(m.Body))
	require.Equal(t, map[string]string{"id": "42"}, m.Metadata)
	m.Ack()
	require.NoError(t, topic.Shutdown(ctx))
	require.NoError(t, sub.Shutdown(ctx))
}
