package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

// until is a handler that prints messages and calls stop at the nth.
func until(n int, stop func()) consumer.Handler {
	return consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		fmt.Println(string(d.Body()))
		if n--; n == 0 {
			stop()
		}
		return nil
	})
}

// What a consumer may take, and what it tells.
func ExampleOption() {
	s, done := withOrders()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	given := make(chan message.Queue, 10)
	c := consumer.NewPush(s, "billing",
		consumer.WithWorkers(1),               // handlers at once
		consumer.WithReadBatch(100),           // read at a time
		consumer.WithPrefetch(1000, 1<<20),    // read ahead of each queue
		consumer.WithSpan(500),                // beyond the lowest unsettled one
		consumer.WithRate(1000, 100),          // a second
		consumer.WithTimeout(time.Minute),     // of a handler
		consumer.WithStopTimeout(time.Minute), // for handlers that run at the end
		consumer.WithDrainLimit(time.Minute),  // for a queue that goes to another member
		consumer.WithStrategy(group.Circle()),
		consumer.WithMember("worker-1"),
		consumer.OnCorrupt(consumer.SkipCorrupt),
		consumer.OnEvent(func(e consumer.Event) {
			if e.Kind == consumer.QueueGiven {
				given <- e.Queue
			}
		}),
		consumer.WithInterceptor(func(next consumer.Handler) consumer.Handler { // around every handler
			return func(ctx context.Context, ds []*consumer.Delivery) error {
				return next(ctx, ds)
			}
		}),
	)
	if err := c.Subscribe("orders", nil, until(3, stop)); err != nil {
		panic(err)
	}
	fmt.Println(c.Run(ctx))
	fmt.Println((<-given).Topic)
	// Output:
	// order 0
	// order 1
	// order 2
	// <nil>
	// orders
}

// How long a message waits after its first, its second and its third failure.
func ExampleBackoff() {
	for _, b := range []consumer.Backoff{
		consumer.Levels(),
		consumer.Steps(time.Second, time.Minute),
		consumer.Exponential(5*time.Second, 2*time.Hour, 2),
	} {
		fmt.Println(b(1), b(2), b(3))
	}
	// Output:
	// 10s 30s 1m0s
	// 1s 1m0s 1m0s
	// 5s 10s 20s
}

func ExampleWithMaxAttempts() {
	s, done := openExample()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	if _, err := s.Put(ctx, &message.Message{Topic: "bills", Body: []byte("bill 7")}); err != nil {
		panic(err)
	}
	c := consumer.NewPush(s, "billing", consumer.WithMaxAttempts(2), consumer.WithRetry(consumer.Steps(time.Millisecond)))
	_ = c.Subscribe("bills", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		if d.Attempt() == 2 {
			stop()
		}
		return errors.New("no such account")
	}))
	_ = c.Run(ctx)
	for d, err := range s.DeadLetters().All(context.Background(), "billing") {
		fmt.Println(string(d.Record.Body()), d.Reason, err)
	}
	// Output: bill 7 no such account <nil>
}

// A group that starts today wants no messages of yesterday; its retries are its own.
func ExampleWithStart() {
	s, done := withOrders()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	c := consumer.NewPush(s, "alerts", consumer.WithStart(message.Last()), consumer.WithRetryStart(message.First()),
		consumer.WithYoungQueues(0), // RocketMQ reads a young queue from its beginning all the same
		consumer.OnEvent(func(e consumer.Event) {
			if e.Kind == consumer.QueueGiven && e.Queue == (message.Queue{Topic: "orders"}) {
				_, _ = s.Put(ctx, &message.Message{Topic: "orders", Body: []byte("news")})
			}
		}))
	_ = c.Subscribe("orders", nil, until(1, stop))
	fmt.Println(c.Run(ctx))
	// Output:
	// news
	// <nil>
}

// Every instance gets every message and keeps its own place in a file.
func ExampleWithMode() {
	s, done := withOrders()
	defer done()
	dir, err := os.MkdirTemp("", "offsets-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	for _, options := range [][]consumer.Option{
		{consumer.WithInstance("shop-1")},
		{consumer.WithInstance("10.0.0.5@DEFAULT"), consumer.WithRocketMQOffsets("broker-a")}, // in the Java client's form
	} {
		ctx, stop := context.WithCancel(context.Background())
		c := consumer.NewPush(s, "caches", append(options, consumer.WithMode(group.Broadcasting),
			consumer.WithLocalOffsets(dir), consumer.WithStart(message.First()), consumer.WithOrder(consumer.PerQueue),
			consumer.WithLocalOrder(), consumer.WithMaxAttempts(1),
			consumer.OnDrop(func(d *consumer.Delivery, err error) { fmt.Println("dropped:", string(d.Body()), err) }))...)
		_ = c.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
			if d.Offset() == 2 {
				stop()
				return errors.New("the cache is full")
			}
			return nil
		}))
		fmt.Println(c.Run(ctx))
	}
	// Output:
	// dropped: order 2 the cache is full
	// <nil>
	// dropped: order 2 the cache is full
	// <nil>
}

// No file and no past: what comes after the start, every time.
func ExampleWithAlwaysLast() {
	s, done := withOrders()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	c := consumer.NewPush(s, "screens", consumer.WithMode(group.Broadcasting), consumer.WithAlwaysLast(),
		consumer.OnEvent(func(e consumer.Event) {
			if e.Kind == consumer.QueueGiven && e.Queue == (message.Queue{Topic: "orders"}) {
				_, _ = s.Put(ctx, &message.Message{Topic: "orders", Body: []byte("news")})
			}
		}))
	_ = c.Subscribe("orders", nil, until(1, stop))
	fmt.Println(c.Run(ctx))
	// Output:
	// news
	// <nil>
}

// Order by something else than the sharding key.
func ExampleWithKey() {
	s, done := withOrders()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	c := consumer.NewPush(s, "billing", consumer.WithOrder(consumer.PerKey),
		consumer.WithKey(func(d *consumer.Delivery) string { return "one line for all" }))
	_ = c.Subscribe("orders", nil, until(3, stop))
	fmt.Println(c.Run(ctx))
	// Output:
	// order 0
	// order 1
	// order 2
	// <nil>
}

func ExampleFilterFunc() {
	s, done := withOrders()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	f := consumer.FilterFunc("last", func(r *message.Record) bool { return string(r.Body()) == "order 2" })
	c := consumer.NewPush(s, "billing")
	_ = c.Subscribe("orders", f, until(1, stop))
	fmt.Println(c.Run(ctx))
	// Output:
	// order 2
	// <nil>
}
