package consumer_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// withOrders opens a store in a new folder that holds three orders.
func withOrders() (*store.Store, func()) {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	s, err := store.Open(dir)
	if err != nil {
		panic(err)
	}
	for i := range 3 {
		if _, err := s.Put(context.Background(), &message.Message{Topic: "orders", Body: fmt.Append(nil, "order ", i)}); err != nil {
			panic(err)
		}
	}
	return s, func() {
		_ = s.Close()
		_ = os.RemoveAll(dir)
	}
}

func ExamplePull_Poll() {
	s, done := withOrders()
	defer done()
	ctx := context.Background()
	p := consumer.NewPull(s, "billing")
	_ = p.Subscribe("orders", nil)
	for range 2 {
		ds, err := p.Poll(ctx, 2) // what the Poll before has returned is done now
		for _, d := range ds {
			fmt.Println(string(d.Body()), err)
		}
	}
	fmt.Println(p.Commit(ctx, nil), p.Close(ctx))
	// Output:
	// order 0 <nil>
	// order 1 <nil>
	// order 2 <nil>
	// <nil> <nil>
}

func ExamplePull_All() {
	s, done := withOrders()
	defer done()
	ctx := context.Background()
	p := consumer.NewPull(s, "audit")
	_ = p.Assign(nil, message.Queue{Topic: "orders"})
	_ = p.Seek(ctx, message.Queue{Topic: "orders"}, message.At(1))
	for d, err := range p.All(ctx) {
		fmt.Println(string(d.Body()), err)
		if d.Offset() == 2 {
			break
		}
	}
	_ = p.Close(ctx)
	// Output:
	// order 1 <nil>
	// order 2 <nil>
}

func ExampleLeaser_Receive() {
	s, done := withOrders()
	defer done()
	ctx := context.Background()
	l := consumer.NewLeaser(s, "labels", consumer.WithInvisible(30*time.Second))
	_ = l.Subscribe("orders", nil)
	ls, _ := l.Receive(ctx, 10)
	fmt.Println(l.Nack(ctx, 0, ls[1].Receipt)) // again, at once
	fmt.Println(l.Ack(ctx, ls[2].Receipt, ls[0].Receipt))
	ls, _ = l.Receive(ctx, 10)
	fmt.Println(string(ls[0].Body()), ls[0].Attempt())
	_ = l.Close(ctx)
	// Output:
	// <nil>
	// <nil>
	// order 1 2
}
