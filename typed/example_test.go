package typed_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
	"github.com/embermq/embermq/typed"
)

// asGob encodes values as encoding/gob does.
type asGob[T any] struct{}

func (asGob[T]) Encode(v T) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func (asGob[T]) Decode(body []byte) (v T, err error) {
	err = gob.NewDecoder(bytes.NewReader(body)).Decode(&v)
	return v, err
}

func ExampleTopic_WithCodec() {
	topic := typed.New[order]("orders").WithCodec(asGob[order]{})
	m, err := topic.Message(order{ID: 42, State: "paid"}) // as Send would send it
	fmt.Println(topic.Name(), m.Topic, err)
	// Output: orders orders <nil>
}

// A body that is no order does not become a dead letter here.
func ExampleTopic_OnInvalid() {
	ctx, stop := context.WithCancel(context.Background())
	dir, remove := tempDir()
	defer remove()
	s, err := store.Open(dir)
	if err != nil {
		panic(err)
	}
	defer s.Close()
	if _, err := producer.New(s).Send(ctx, &message.Message{Topic: "orders", Body: []byte("no JSON")}); err != nil {
		panic(err)
	}
	topic := orders.OnInvalid(func(_ context.Context, d *consumer.Delivery, err error) error {
		fmt.Printf("%s is no order\n", d.Body())
		stop()
		return nil
	})
	c := consumer.NewPush(s, "billing")
	_ = c.Subscribe(topic.Name(), nil, topic.Handler(func(context.Context, order, *consumer.Delivery) error { return nil }))
	fmt.Println(c.Run(ctx))
	// Output:
	// no JSON is no order
	// <nil>
}

// The value of a message that was read in another way.
func ExampleTopic_Value() {
	dir, remove := tempDir()
	defer remove()
	s, err := store.Open(dir)
	if err != nil {
		panic(err)
	}
	defer s.Close()
	ctx := context.Background()
	r, err := orders.Send(ctx, producer.New(s), order{ID: 42, State: "paid"})
	if err != nil {
		panic(err)
	}
	p := consumer.NewPull(s, "audit")
	_ = p.Assign(nil, r.Queue)
	ds, err := p.Poll(ctx, 1)
	if err != nil {
		panic(err)
	}
	o, err := orders.Value(ds[0].Record)
	fmt.Println(o.ID, o.State, err, p.Close(ctx))
	// Output: 42 paid <nil> <nil>
}
