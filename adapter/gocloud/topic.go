package gocloud

import (
	"context"
	"fmt"
	"net/url"

	"gocloud.dev/gcerrors"
	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/driver"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

// propMetadata holds a message's metadata, percent-encoded: a property is neither
// empty nor holds every byte.
const propMetadata = "GOCLOUD_METADATA"

// OpenTopic returns a topic to send to. The store stays the caller's to close, after
// the topic's Shutdown.
func OpenTopic(s *store.Store, name string) *pubsub.Topic {
	return pubsub.NewTopic(newTopic(s, name), nil)
}

// topic is the driver's side.
type topic struct {
	s    *store.Store
	name string
	p    *producer.Producer
}

func newTopic(s *store.Store, name string) *topic {
	return &topic{s: s, name: name, p: producer.New(s)}
}

// SendBatch stores messages, all or none.
func (t *topic) SendBatch(ctx context.Context, ms []*driver.Message) error {
	if err := exists(t.s, t.name); err != nil {
		return err
	}
	out := make([]*message.Message, len(ms))
	for i, m := range ms {
		out[i] = &message.Message{Topic: t.name, Body: m.Body}
		if len(m.Metadata) > 0 {
			v := make(url.Values, len(m.Metadata))
			for name, value := range m.Metadata {
				v.Set(name, value)
			}
			out[i].Properties = map[string]string{propMetadata: v.Encode()}
		}
		if m.BeforeSend != nil {
			if err := m.BeforeSend(as(out[i])); err != nil {
				return err
			}
		}
	}
	rs, err := t.p.SendBatch(ctx, out)
	if err != nil {
		return err
	}
	for i, m := range ms {
		if m.AfterSend != nil {
			if err := m.AfterSend(as(rs[i])); err != nil {
				return err
			}
		}
	}
	return nil
}

// exists is an error unless the topic does. The store itself would make it.
func exists(s *store.Store, topic string) error {
	if _, _, err := s.Bounds(message.Queue{Topic: topic}); err != nil {
		return fmt.Errorf("gocloud: topic %q: %w", topic, err)
	}
	return nil
}

// as converts to a pointer to T.
func as[T any](v T) func(any) bool {
	return func(i any) bool {
		p, ok := i.(*T)
		if ok {
			*p = v
		}
		return ok
	}
}

func (t *topic) IsRetryable(err error) bool             { return retryable(err) }
func (t *topic) ErrorAs(err error, i any) bool          { return errorAs(err, i) }
func (t *topic) ErrorCode(err error) gcerrors.ErrorCode { return code(err) }

// As gives a *store.Store.
func (t *topic) As(i any) bool { return as(t.s)(i) }

// Close ends the topic's producer.
func (t *topic) Close() error { return t.p.Close(context.Background()) }
