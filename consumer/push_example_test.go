package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

// openExample opens a store in a new folder.
func openExample() (*store.Store, func()) {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	s, err := store.Open(dir)
	if err != nil {
		panic(err)
	}
	return s, func() {
		_ = s.Close()
		_ = os.RemoveAll(dir)
	}
}

func ExampleNewPush() {
	s, done := openExample()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	p := producer.New(s)
	if _, err := p.Send(ctx, &message.Message{Topic: "orders", ShardingKey: "42", Body: []byte("paid")}); err != nil {
		panic(err)
	}

	c := consumer.NewPush(s, "billing")
	err := c.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		fmt.Printf("%s, attempt %d\n", d.Body(), d.Attempt())
		stop() // one is enough for an example
		return nil
	}))
	fmt.Println(err, c.Run(ctx))
	// Output:
	// paid, attempt 1
	// <nil> <nil>
}

func ExampleWithOrder() {
	s, done := openExample()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	p := producer.New(s)
	for i := range 3 {
		m := &message.Message{Topic: "orders", ShardingKey: "42", Body: fmt.Appendf(nil, "step %d", i)}
		if _, err := p.Send(ctx, m); err != nil {
			panic(err)
		}
	}
	c := consumer.NewPush(s, "billing", consumer.WithOrder(consumer.PerKey), consumer.WithSuspension(time.Millisecond))
	failed := false
	_ = c.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		if string(d.Body()) == "step 1" && !failed {
			failed = true
			return errors.New("the bank does not answer") // later steps wait for it
		}
		fmt.Printf("%s, attempt %d\n", d.Body(), d.Attempt())
		if string(d.Body()) == "step 2" {
			stop()
		}
		return nil
	}))
	_ = c.Run(ctx)
	// Output:
	// step 0, attempt 1
	// step 1, attempt 2
	// step 2, attempt 1
}

func ExamplePartial() {
	s, done := openExample()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	var batch []*message.Message
	for _, body := range []string{"good", "bad", "busy"} {
		batch = append(batch, &message.Message{Topic: "orders", Body: []byte(body)})
	}
	if _, err := s.PutBatch(ctx, batch); err != nil {
		panic(err)
	}
	c := consumer.NewPush(s, "billing", consumer.WithBatch(10))
	_ = c.Subscribe("orders", nil, func(_ context.Context, ds []*consumer.Delivery) error {
		failed := make(map[int]error)
		for i, d := range ds {
			switch {
			case string(d.Body()) == "bad":
				failed[i] = consumer.DeadLetter("not an order")
			case string(d.Body()) == "busy" && d.Attempt() == 1:
				failed[i] = consumer.RetryAfter(time.Millisecond)
			default:
				fmt.Printf("%s, attempt %d\n", d.Body(), d.Attempt())
			}
		}
		if len(ds) == 1 {
			stop()
		}
		return consumer.Partial(failed)
	})
	_ = c.Run(ctx)
	fmt.Println(c.Stats().Dead, "dead letter")
	// Output:
	// good, attempt 1
	// busy, attempt 2
	// 1 dead letter
}
