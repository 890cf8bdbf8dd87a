package typed

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
)

// Codec turns values of T into bodies and back. It is safe for concurrent use and
// keeps none of what it is given.
type Codec[T any] interface {
	Encode(v T) ([]byte, error)
	Decode(body []byte) (T, error)
}

// JSON encodes as encoding/json does.
type JSON[T any] struct{}

// Encode returns v as JSON.
func (JSON[T]) Encode(v T) ([]byte, error) { return json.Marshal(v) }

// Decode reads one JSON value.
func (JSON[T]) Decode(body []byte) (v T, err error) {
	err = json.Unmarshal(body, &v)
	return v, err
}

// Topic is a topic whose messages hold values of T.
type Topic[T any] struct {
	name    string
	codec   Codec[T]
	prepare func(v T, m *message.Message)
	invalid func(ctx context.Context, d *consumer.Delivery, err error) error
}

// New returns the topic of that name, with bodies in JSON.
func New[T any](name string) *Topic[T] {
	return &Topic[T]{name: name, codec: JSON[T]{}, invalid: bury}
}

// WithCodec returns a copy that encodes in another way.
func (t Topic[T]) WithCodec(c Codec[T]) *Topic[T] {
	t.codec = c
	return &t
}

// WithMessage returns a copy that lets f set what belongs to a value besides its
// body: tag, keys, sharding key, delay.
func (t Topic[T]) WithMessage(f func(v T, m *message.Message)) *Topic[T] {
	t.prepare = f
	return &t
}

// OnInvalid returns a copy that hands deliveries whose body does not decode to f,
// whose result counts as the handler's: nil settles the message.
func (t Topic[T]) OnInvalid(f func(ctx context.Context, d *consumer.Delivery, err error) error) *Topic[T] {
	t.invalid = f
	return &t
}

// Name returns the topic's name.
func (t *Topic[T]) Name() string { return t.name }

// InvalidError says that a value cannot be encoded or a body not be decoded.
type InvalidError struct {
	Topic string
	Err   error // the codec's
}

// Error names the topic and the cause.
func (e *InvalidError) Error() string { return fmt.Sprintf("typed: %s: %v", e.Topic, e.Err) }

// Unwrap returns the codec's error.
func (e *InvalidError) Unwrap() error { return e.Err }

// Is reports whether target is message.ErrInvalidMessage.
func (e *InvalidError) Is(target error) bool { return target == message.ErrInvalidMessage }

// Message makes the message of a value. The error is *InvalidError.
func (t *Topic[T]) Message(v T) (*message.Message, error) {
	body, err := t.codec.Encode(v)
	if err != nil {
		return nil, &InvalidError{Topic: t.name, Err: err}
	}
	m := &message.Message{Topic: t.name, Body: body}
	if t.prepare != nil {
		t.prepare(v, m)
		m.Topic, m.Body = t.name, body
	}
	return m, nil
}

// Value decodes a record. The error is *InvalidError.
func (t *Topic[T]) Value(r *message.Record) (v T, err error) {
	v, err = t.codec.Decode(r.Body())
	if err != nil {
		err = &InvalidError{Topic: t.name, Err: err}
	}
	return v, err
}

// Sender is the part of a producer that Send needs; *producer.Producer is one.
type Sender interface {
	Send(ctx context.Context, m *message.Message) (message.Receipt, error)
}

// Send puts a value. What the receipt promises, and what ctx bounds, is the
// sender's; a value that cannot be encoded is *InvalidError and nothing is sent.
func (t *Topic[T]) Send(ctx context.Context, p Sender, v T) (message.Receipt, error) {
	m, err := t.Message(v)
	if err != nil {
		return message.Receipt{}, err
	}
	return p.Send(ctx, m)
}

// Handler makes a consumer's handler of f, which gets one value at a time with
// its delivery. Its results mean what a consumer.Handler's do.
func (t *Topic[T]) Handler(f func(ctx context.Context, v T, d *consumer.Delivery) error) consumer.Handler {
	return consumer.One(func(ctx context.Context, d *consumer.Delivery) error {
		v, err := t.Value(d.Record)
		if err != nil {
			return t.invalid(ctx, d, err)
		}
		return f(ctx, v, d)
	})
}

// Subscriber is the part of a push consumer that Subscribe needs.
type Subscriber interface {
	Subscribe(topic string, f message.Filter, h consumer.Handler) error
}

// Subscribe subscribes a push consumer to the topic with a handler of values.
func (t *Topic[T]) Subscribe(c Subscriber, filter message.Filter, f func(ctx context.Context, v T, d *consumer.Delivery) error) error {
	return c.Subscribe(t.name, filter, t.Handler(f))
}

// bury sends what does not decode to the dead letters.
func bury(_ context.Context, _ *consumer.Delivery, err error) error {
	return consumer.DeadLetter(err.Error())
}
