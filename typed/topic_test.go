package typed_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
	"github.com/embermq/embermq/typed"
)

type order struct {
	ID    int    `json:"id"`
	State string `json:"state"`
}

var orders = typed.New[order]("orders").WithMessage(func(o order, m *message.Message) {
	m.Tag, m.ShardingKey = o.State, fmt.Sprint(o.ID)
})

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, remove := tempDir()
	defer remove()
	s, err := store.Open(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	p := producer.New(s)
	if _, err := orders.Send(ctx, p, order{ID: 42, State: "paid"}); err != nil {
		fmt.Println(err)
	}
	c := consumer.NewPush(s, "billing")
	err = orders.Subscribe(c, nil, func(_ context.Context, o order, d *consumer.Delivery) error {
		fmt.Println(o.ID, o.State, d.Tag())
		stop() // enough for an example
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	if err := c.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: 42 paid paid
}

// unfit has a value that JSON does not take.
type unfit struct{ F func() }

func TestEncodeErrorSendsNothing(t *testing.T) {
	p := senderFunc(func(context.Context, *message.Message) (message.Receipt, error) {
		t.Error("sent")
		return message.Receipt{}, nil
	})
	_, err := typed.New[unfit]("t").Send(t.Context(), p, unfit{F: func() {}})
	var invalid *typed.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, "t", invalid.Topic)
	require.ErrorIs(t, err, message.ErrInvalidMessage)
}

type senderFunc func(context.Context, *message.Message) (message.Receipt, error)

func (f senderFunc) Send(ctx context.Context, m *message.Message) (message.Receipt, error) {
	return f(ctx, m)
}

type upper struct{}

func (upper) Encode(v string) ([]byte, error) {
	if v == "" {
		return nil, errors.New("empty")
	}
	return []byte("<" + v + ">"), nil
}

func (upper) Decode(b []byte) (string, error) {
	if len(b) < 2 || b[0] != '<' {
		return "", errors.New("no bracket")
	}
	return string(b[1 : len(b)-1]), nil
}

// What a user's function sets cannot change where a value goes and what it is.
func TestMessage(t *testing.T) {
	topic := typed.New[string]("t").WithCodec(upper{}).WithMessage(func(v string, m *message.Message) {
		m.Topic, m.Body, m.Tag = "elsewhere", nil, v
	})
	m, err := topic.Message("a")
	require.NoError(t, err)
	require.Equal(t, &message.Message{Topic: "t", Tag: "a", Body: []byte("<a>")}, m)
	_, err = topic.Message("")
	require.ErrorIs(t, err, message.ErrInvalidMessage)
}

func TestBodyThatDoesNotDecode(t *testing.T) {
	s, err := store.Open(t.TempDir())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	for _, body := range []string{`{"id":1}`, `{`, `{"id":2}`} {
		_, err := s.Put(t.Context(), &message.Message{Topic: "orders", Body: []byte(body)})
		require.NoError(t, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var got []int
	var bad []error
	c := consumer.NewPush(s, "billing", consumer.WithOrder(consumer.PerQueue))
	topic := orders.OnInvalid(func(_ context.Context, _ *consumer.Delivery, err error) error {
		bad = append(bad, err)
		return nil
	})
	require.NoError(t, topic.Subscribe(c, nil, func(_ context.Context, o order, _ *consumer.Delivery) error {
		if got = append(got, o.ID); len(got) == 2 {
			stop()
		}
		return nil
	}))
	require.NoError(t, c.Run(ctx))
	require.Equal(t, []int{1, 2}, got)
	require.Len(t, bad, 1)
	require.ErrorIs(t, bad[0], message.ErrInvalidMessage)
}
