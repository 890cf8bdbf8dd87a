package watermill_test

import (
	"context"
	"fmt"
	"os"

	wm "github.com/ThreeDotsLabs/watermill/message"

	"github.com/embermq/embermq/adapter/watermill"
	"github.com/embermq/embermq/store"
)

func Example() {
	dir, err := os.MkdirTemp("", "watermill-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir)
	if err != nil {
		panic(err)
	}
	defer s.Close()
	c := watermill.Config{Group: "billing"}
	p, sub := watermill.NewPublisher(s, c), watermill.NewSubscriber(s, c)
	fmt.Println(p.Publish("orders", wm.NewMessage("42", []byte("paid")))) // it is on disk now
	messages, err := sub.Subscribe(context.Background(), "orders")
	if err != nil {
		panic(err)
	}
	m := <-messages
	fmt.Println(m.UUID, string(m.Payload))
	m.Ack()
	fmt.Println(sub.Close(), p.Close())
	fmt.Println(watermill.GroupOf("billing", "orders"))
	// Output:
	// <nil>
	// 42 paid
	// <nil> <nil>
	// billing_orders
}
