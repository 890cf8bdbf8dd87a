package watermill

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	wm "github.com/ThreeDotsLabs/watermill/message"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

// Publisher is a Watermill publisher. It may be used by several goroutines.
type Publisher struct {
	topics
	p      *producer.Producer
	key    func(topic string, m *wm.Message) string
	closed atomic.Bool
}

// NewPublisher returns a publisher to a store, which stays the caller's to close.
func NewPublisher(s *store.Store, c Config) *Publisher {
	c = c.normalise()
	var opts []producer.Option
	if c.Key != nil {
		opts = append(opts, producer.WithSelector(producer.ByKey()))
	}
	return &Publisher{topics: topics{s, c.Queues}, p: producer.New(s, opts...), key: c.Key}
}

// Publish stores messages, all or none. The topic is made when it is missing.
func (p *Publisher) Publish(topic string, ms ...*wm.Message) error {
	if p.closed.Load() {
		return fmt.Errorf("watermill: publish to %q: %w", topic, store.ErrClosed)
	}
	if len(ms) == 0 {
		return nil
	}
	ctx := ms[0].Context()
	if err := p.ensure(ctx, topic); err != nil {
		return err
	}
	out := make([]*message.Message, len(ms))
	for i, m := range ms {
		out[i] = marshal(topic, m)
		if p.key != nil {
			out[i].ShardingKey = p.key(topic, m)
		}
	}
	var err error
	if len(out) == 1 {
		_, err = p.p.Send(ctx, out[0])
	} else {
		_, err = p.p.SendBatch(ctx, out)
	}
	if err != nil {
		return fmt.Errorf("watermill: publish to %q: %w", topic, err)
	}
	return nil
}

// Close ends the publisher. A second call does nothing.
func (p *Publisher) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	return p.p.Close(context.Background())
}

// ensure makes the topic with its queues. Another call that was faster is as good.
func (t *topics) ensure(ctx context.Context, topic string) error {
	if _, _, err := t.s.Bounds(message.Queue{Topic: topic}); err == nil {
		return nil
	}
	err := t.s.CreateTopic(ctx, store.Topic{Name: topic, ReadQueues: t.queues, WriteQueues: t.queues})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("watermill: make topic %q: %w", topic, err)
	}
	return nil
}
