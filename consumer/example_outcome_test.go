package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
)

// Two of a batch are done; the third, and what is behind it, comes again.
func ExampleFirstDone() {
	s, done := withOrders()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	c := consumer.NewPush(s, "billing", consumer.WithBatch(3), consumer.WithOrder(consumer.PerQueue))
	_ = c.Subscribe("orders", nil, func(_ context.Context, ds []*consumer.Delivery) error {
		for i, d := range ds {
			fmt.Println(string(d.Body()), "at attempt", d.Attempt())
			if string(d.Body()) == "order 2" {
				if d.Attempt() == 1 {
					return consumer.FirstDone(i, consumer.Suspend(time.Millisecond)) // 10 ms is the least
				}
				stop()
			}
		}
		return nil
	})
	_ = c.Run(ctx)
	// Output:
	// order 0 at attempt 1
	// order 1 at attempt 1
	// order 2 at attempt 1
	// order 2 at attempt 2
}

// Messages are settled when the handler says so.
func ExampleWithManualCommit() {
	s, done := withOrders()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	c := consumer.NewPush(s, "sums", consumer.WithManualCommit(), consumer.WithOrder(consumer.PerQueue))
	taken := 0
	_ = c.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		if taken++; taken < 3 {
			return nil // go on
		}
		stop()
		return consumer.Commit
	}))
	_ = c.Run(ctx)
	fmt.Println(s.Committed(context.Background(), "sums", message.Queue{Topic: "orders"}))
	// Output: 3 true <nil>
}

// An order was sent twice, and is handled once.
func ExampleWithDeduper() {
	s, done := openExample()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	for _, body := range []string{"order 42", "order 42", "the end"} {
		if _, err := s.Put(ctx, &message.Message{Topic: "orders", IdempotencyKey: body, Body: []byte(body)}); err != nil {
			panic(err)
		}
	}
	c := consumer.NewPush(s, "billing", consumer.WithOrder(consumer.PerQueue),
		consumer.WithDeduper(consumer.DedupeInMemory(consumer.DedupeOptions{Window: time.Hour, Key: func(d *consumer.Delivery) string {
			return d.Topic() + consumer.DedupeKey(d) // without this function: the key alone
		}})))
	_ = c.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		fmt.Println(string(d.Body()))
		if string(d.Body()) == "the end" {
			stop()
		}
		return nil
	}))
	_ = c.Run(ctx)
	// Output:
	// order 42
	// the end
}

// What was handled is remembered in the store: it is not handled again although the
// group went back to the beginning.
func ExampleDedupeInStore() {
	s, done := withOrders()
	defer done()
	for _, fresh := range []int{3, 1} {
		ctx, stop := context.WithCancel(context.Background())
		deduper, err := consumer.DedupeInStore(ctx, s, "handled", consumer.DedupeOptions{})
		if err != nil {
			panic(err)
		}
		c := consumer.NewPush(s, "billing", consumer.WithDeduper(deduper), consumer.WithOrder(consumer.PerQueue))
		_ = c.Subscribe("orders", nil, until(fresh, stop))
		fmt.Println(c.Run(ctx))
		if err := s.ResetOffsets(context.Background(), "billing", "orders", message.First()); err != nil {
			panic(err)
		}
		if _, err := s.Put(context.Background(), &message.Message{Topic: "orders", Body: []byte("a new order")}); err != nil {
			panic(err)
		}
	}
	// Output:
	// order 0
	// order 1
	// order 2
	// <nil>
	// a new order
	// <nil>
}

// The application's database knows what had its effect.
func ExampleDedupeInTransaction() {
	s, done := withOrders()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	effects := int64(2) // the database: how many messages of the queue had their effect
	offset := consumer.OffsetFunc(func(string, message.Queue) (int64, bool, error) { return effects, true, nil })
	c := consumer.NewPush(s, "billing", consumer.WithOrder(consumer.PerQueue),
		consumer.WithDeduper(consumer.DedupeInTransaction(offset)))
	_ = c.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		effects = d.Offset() + 1 // in one transaction with the effect
		fmt.Println(string(d.Body()))
		stop()
		return nil
	}))
	_ = c.Run(ctx)
	// Output: order 2
}

func ExamplePush_Pause() {
	s, done := withOrders()
	defer done()
	ctx := context.Background()
	handled := make(chan string)
	c := consumer.NewPush(s, "billing")
	_ = c.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		handled <- string(d.Body())
		return nil
	}))
	c.Pause(message.Queue{Topic: "orders", ID: consumer.AllQueues}) // before Run, or at any time
	c.SetWorkers(1)
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	c.Resume(message.Queue{Topic: "orders", ID: consumer.AllQueues})
	for range 3 {
		fmt.Println(<-handled)
	}
	fmt.Println(c.Unsubscribe("orders"), c.Close(ctx), <-ended)
	// Output:
	// order 0
	// order 1
	// order 2
	// <nil> <nil> <nil>
}

func ExamplePull_Pause() {
	s, done := withOrders()
	defer done()
	ctx := context.Background()
	q := message.Queue{Topic: "orders"}
	p := consumer.NewPull(s, "billing", consumer.WithCommitInterval(time.Minute))
	_ = p.Subscribe("orders", nil)
	ds, err := p.Poll(ctx, 1)
	fmt.Println(len(ds), len(p.Assignment()), p.Stats().Moved, err)
	p.Pause(q) // until the printer has paper again
	p.Resume(q)
	ds, err = p.Poll(ctx, 10)
	fmt.Println(len(ds), err)
	_ = p.Commit(ctx, nil)
	fmt.Println(p.Committed(ctx, q))
	fmt.Println(p.Unsubscribe("orders"), p.Close(ctx))
	// Output:
	// 1 4 0 <nil>
	// 2 <nil>
	// 3 true <nil>
	// <nil> <nil>
}

func ExampleLeaser_Extend() {
	s, done := withOrders()
	defer done()
	ctx := context.Background()
	l := consumer.NewLeaser(s, "labels", consumer.WithHandBack()) // what is not settled goes back at Close
	_ = l.Subscribe("orders", nil)
	ls, err := l.Receive(ctx, 10)
	fmt.Println(len(ls), err)
	fmt.Println(l.Extend(ctx, time.Hour, ls[0].Receipt)) // it takes longer
	fmt.Println(l.DeadLetter(ctx, "no such order", ls[1].Receipt))
	fmt.Println(l.Unsubscribe("orders"), l.Close(ctx))
	fmt.Println(errors.Is(l.Ack(ctx, ls[2].Receipt), message.ErrClosed), s.DeadLetters().Count("labels"))
	// Output:
	// 3 <nil>
	// <nil>
	// <nil>
	// <nil> <nil>
	// true 1
}
