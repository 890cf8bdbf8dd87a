package gocloud

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"gocloud.dev/gcerrors"
	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/batcher"
	"gocloud.dev/pubsub/driver"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/store"
)

// poll is how long a receive waits for a message, as the driver's contract asks.
const poll = time.Second

// OpenSubscription returns a subscription of a group to a topic. A message that is
// not acknowledged within lease is delivered again; zero is one minute. The store
// stays the caller's to close, after the subscription's Shutdown, which gives back
// what was received and not settled.
func OpenSubscription(s *store.Store, group, topic string, lease time.Duration) *pubsub.Subscription {
	o := &batcher.Options{MaxBatchSize: 100, MaxHandlers: 4}
	return pubsub.NewSubscription(newSubscription(s, group, topic, lease), o, o)
}

// subscription is the driver's side.
type subscription struct {
	s            *store.Store
	group, topic string
	lease        time.Duration

	mu sync.Mutex
	l  *consumer.Leaser // made with the first receive: until then the group may be missing
}

func newSubscription(s *store.Store, group, topic string, lease time.Duration) *subscription {
	if lease <= 0 {
		lease = consumer.DefaultInvisible
	}
	return &subscription{s: s, group: group, topic: topic, lease: lease}
}

// leaser joins the group, which must exist, as must the topic.
func (b *subscription) leaser() (*consumer.Leaser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.l != nil {
		return b.l, nil
	}
	if _, ok := b.s.Progress().Group(b.group); !ok {
		return nil, fmt.Errorf("gocloud: group %q: %w", b.group, store.ErrNotFound)
	}
	if err := exists(b.s, b.topic); err != nil {
		return nil, err
	}
	l := consumer.NewLeaser(b.s, b.group, consumer.WithInvisible(b.lease), consumer.WithHandBack(), consumer.WithMaxAttempts(1<<20))
	if err := l.Subscribe(b.topic, nil); err != nil {
		return nil, err
	}
	b.l = l
	return l, nil
}

// ReceiveBatch waits at most a second.
func (b *subscription) ReceiveBatch(ctx context.Context, most int) ([]*driver.Message, error) {
	l, err := b.leaser()
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, poll)
	defer cancel()
	leases, err := l.Receive(wait, most)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := make([]*driver.Message, len(leases))
	for i, lease := range leases {
		metadata, err := metadataOf(&lease)
		if err != nil {
			return nil, err
		}
		out[i] = &driver.Message{
			LoggableID: fmt.Sprintf("%s@%d", lease.Queue(), lease.Offset()),
			Body:       lease.Body(), Metadata: metadata, AckID: lease.Receipt, AsFunc: as(lease),
		}
	}
	return out, nil
}

func metadataOf(l *consumer.Lease) (map[string]string, error) {
	text, ok := l.Property(propMetadata)
	if !ok {
		return nil, nil
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, fmt.Errorf("gocloud: property %s: %w", propMetadata, err)
	}
	out := make(map[string]string, len(values))
	for name := range values {
		out[name] = values.Get(name)
	}
	return out, nil
}

// SendAcks settles messages. One that was settled before is no error.
func (b *subscription) SendAcks(ctx context.Context, ids []driver.AckID) error {
	return b.settle(ids, func(l *consumer.Leaser, receipt string) error { return l.Ack(ctx, receipt) })
}

// SendNacks gives messages back at once.
func (b *subscription) SendNacks(ctx context.Context, ids []driver.AckID) error {
	return b.settle(ids, func(l *consumer.Leaser, receipt string) error { return l.Nack(ctx, 0, receipt) })
}

func (b *subscription) settle(ids []driver.AckID, do func(l *consumer.Leaser, receipt string) error) error {
	l, err := b.leaser()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if err := do(l, id.(string)); err != nil && !errors.Is(err, store.ErrFenced) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (b *subscription) CanNack() bool                          { return true }
func (b *subscription) IsRetryable(err error) bool             { return retryable(err) }
func (b *subscription) ErrorAs(err error, i any) bool          { return errorAs(err, i) }
func (b *subscription) ErrorCode(err error) gcerrors.ErrorCode { return code(err) }

// As gives a *store.Store.
func (b *subscription) As(i any) bool { return as(b.s)(i) }

// Close leaves the group.
func (b *subscription) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.l == nil {
		return nil
	}
	return b.l.Close(context.Background())
}
