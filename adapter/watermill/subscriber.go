package watermill

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wm "github.com/ThreeDotsLabs/watermill/message"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// again is how long a message rests that was not acknowledged.
const again = time.Millisecond

// errGoing ends a handler whose subscription is over; its message stays unsettled.
var errGoing = errors.New("the subscription is over")

// Subscriber is a Watermill subscriber: each Subscribe is a member of the group.
type Subscriber struct {
	topics
	c Config

	mu      sync.Mutex
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup
	err     error // the first failure of a subscription
}

// NewSubscriber returns a subscriber of a store, which stays the caller's to close.
func NewSubscriber(s *store.Store, c Config) *Subscriber {
	c = c.normalise()
	ctx, cancel := context.WithCancel(context.Background())
	return &Subscriber{topics: topics{s, c.Queues}, c: c, ctx: ctx, cancel: cancel}
}

// SubscribeInitialize makes the topic, so that its messages wait for subscribers.
func (s *Subscriber) SubscribeInitialize(topic string) error { return s.ensure(s.ctx, topic) }

// Subscribe joins the group and returns its messages, one at a time for each
// queue: the next one comes when the one before is acknowledged. The channel is
// closed when ctx ends or the subscriber closes.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *wm.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, fmt.Errorf("watermill: subscribe to %q: %w", topic, store.ErrClosed)
	}
	if err := s.ensure(ctx, topic); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	out := make(chan *wm.Message)
	push := consumer.NewPush(s.s, GroupOf(s.c.Group, topic), consumer.WithOrder(consumer.PerQueue), consumer.WithBatch(1), consumer.WithSuspension(again))
	h := &hand{ctx: ctx, out: out}
	if err := push.Subscribe(topic, nil, consumer.One(h.over)); err != nil {
		cancel()
		return nil, fmt.Errorf("watermill: subscribe to %q: %w", topic, err)
	}
	s.running.Go(func() {
		defer close(out)
		defer cancel()
		defer stop()
		if err := push.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			s.failed(topic, err)
		}
	})
	return out, nil
}

func (s *Subscriber) failed(topic string, err error) {
	s.c.Logger.Error("subscription ended", err, watermill.LogFields{"topic": topic})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, fmt.Errorf("watermill: subscription to %q: %w", topic, err))
}

// GroupOf is the store's name for a subscriber's group on a topic: all members of
// one of the store's groups subscribe to the same topics, and Watermill's need not.
func GroupOf(group, topic string) string {
	name := group + "_" + topic
	if message.CheckGroup(name) == nil {
		return name
	}
	sum := sha256.Sum256([]byte(topic))
	return group + "_" + hex.EncodeToString(sum[:12])
}

// Close ends all subscriptions and waits for them. It returns why one ended early.
// A second call does nothing.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.running.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.err
	s.err = nil
	return err
}

// hand gives messages of one subscription to whoever reads its channel.
type hand struct {
	ctx context.Context
	out chan<- *wm.Message
}

// over delivers one message until it is acknowledged.
func (h *hand) over(_ context.Context, d *consumer.Delivery) error {
	m, err := unmarshal(d.Record)
	if err != nil {
		return consumer.DeadLetter(err.Error())
	}
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	m.SetContext(ctx)
	select {
	case h.out <- m:
	case <-h.ctx.Done():
		return errGoing
	}
	select {
	case <-m.Acked():
		return nil
	case <-m.Nacked():
		return consumer.Suspend(again)
	case <-h.ctx.Done():
		return errGoing
	}
}
