package producer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

// Every message of a key goes to one queue, unless something else is wanted.
func ExampleSelector() {
	s, done := openExample()
	defer done()
	room := func(q message.Queue) string { return []string{"west", "east"}[q.ID%2] }
	last := func(qs []message.Queue, _ *message.Message) (message.Queue, error) { return qs[len(qs)-1], nil }
	for _, selector := range []producer.Selector{
		producer.ByKey(), producer.ByJavaKey(), producer.ByFunc(last),
	} {
		p := producer.New(s, producer.WithSelector(selector))
		r, err := p.Send(context.Background(), &message.Message{Topic: "orders", ShardingKey: "42"})
		fmt.Println(r.Queue, err)
	}
	for _, selector := range []producer.Selector{
		producer.RoundRobin(), producer.Random(), producer.InRooms(room, "east"),
	} {
		p := producer.New(s, producer.WithSelector(selector))
		r, err := p.Send(context.Background(), &message.Message{Topic: "orders", ShardingKey: "42"})
		fmt.Println(r.Queue.ID < 4, err)
	}
	p := producer.New(s, producer.WithCallerQueue())
	r, err := p.Send(context.Background(), &message.Message{Topic: "orders", QueueID: 2})
	fmt.Println(r.Queue, err)
	// Output:
	// orders/3 <nil>
	// orders/2 <nil>
	// orders/3 <nil>
	// true <nil>
	// true <nil>
	// true <nil>
	// orders/2 <nil>
}

// What a producer may take, of time, of attempts and of memory.
func ExampleOption() {
	s, done := openExample()
	defer done()
	p := producer.New(s,
		producer.WithTimeout(time.Second),  // of a send, all attempts together
		producer.WithRetries(5),            // when the engine is busy
		producer.WithInFlight(1000, 1<<20), // of SendAsync
		producer.WithRefusal(),             // ErrBusy instead of waiting for room
		producer.WithMaxBody(100),
		producer.WithMaxBatch(1000), producer.WithSplit(), // a larger batch goes as several
		producer.WithCompression(message.Zstd, 50),
		producer.WithUniqueID(),
	)
	ctx := context.Background()
	_, err := p.Send(ctx, &message.Message{Topic: "orders", Body: make([]byte, 101)})
	fmt.Println(errors.Is(err, store.ErrTooLarge))
	var batch []*message.Message
	for range 30 {
		batch = append(batch, &message.Message{Topic: "orders", Body: make([]byte, 90)})
	}
	rs, err := p.SendBatch(ctx, batch)
	fmt.Println(len(rs), err)
	r, err := s.At(ctx, rs[0].Queue, 0)
	fmt.Println(len(r.UniqueID()), len(r.Body()), err) // readers get bodies inflated
	// Output:
	// true
	// 30 <nil>
	// 32 90 <nil>
}

// Everything that is sent passes these.
func ExampleWithInterceptor() {
	s, done := openExample()
	defer done()
	p := producer.New(s,
		producer.WithInterceptor(producer.Interceptor{
			Before: func(ctx context.Context, m *message.Message) (context.Context, error) {
				if m.Tag == "" {
					return ctx, errors.New("every message of ours has a tag")
				}
				return ctx, nil
			},
			After: func(_ context.Context, m *message.Message, r message.Receipt, err error) {
				fmt.Printf("%q %v\n", m.Tag, err)
			},
		}),
		producer.WithTrace(func(_ context.Context, c message.Carrier) { // an OpenTelemetry propagator's Inject
			c.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		}),
		producer.LogSends(slog.New(slog.NewTextHandler(io.Discard, nil))),
		producer.OnSendFailure(func(_ context.Context, m *message.Message, err error) { fmt.Println("lost:", m.Topic, err) }),
	)
	ctx := context.Background()
	r, err := p.Send(ctx, &message.Message{Topic: "orders", Tag: "paid"})
	if err != nil {
		panic(err)
	}
	stored, err := s.At(ctx, r.Queue, r.Offset)
	if err != nil {
		panic(err)
	}
	trace, ok := message.ParseTraceparent(message.CarrierOfRecord(&stored).Get("traceparent"))
	fmt.Println(trace.SpanID, ok)
	_, err = p.Send(ctx, &message.Message{Topic: "orders"})
	fmt.Println(err != nil)
	// Output:
	// "paid" <nil>
	// b7ad6b7169203331 true
	// "" every message of ours has a tag
	// lost: orders every message of ours has a tag
	// true
}

// A step that could not be sent stops the later steps of its key, until somebody says
// how to go on.
func ExampleWithHeldKeys() {
	s, done := openExample()
	defer done()
	p := producer.New(&outage{Store: s}, producer.WithHeldKeys(), producer.WithRetries(0))
	send := func(body string) error {
		sent := make(chan error)
		p.SendAsync(context.Background(), &message.Message{Topic: "orders", ShardingKey: "42", Body: []byte(body)},
			func(_ message.Receipt, err error) { sent <- err })
		return <-sent
	}
	fmt.Println(errors.Is(send("created"), store.ErrDiskFull))
	fmt.Println(errors.Is(send("paid"), producer.ErrPrecedingFailed))
	p.Resume("orders", "42")
	fmt.Println(send("created"), send("paid"))
	// Output:
	// true
	// true
	// <nil> <nil>
}

func ExampleOpenSpool() {
	s, done := openExample()
	defer done()
	dir, err := os.MkdirTemp("", "spool-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	spool, err := producer.OpenSpool(dir, 1<<20)
	if err != nil {
		panic(err)
	}
	p := producer.New(&outage{Store: s}, producer.WithSpool(spool), producer.WithResend(time.Hour))
	_, err = p.Send(context.Background(), &message.Message{Topic: "orders"})
	fmt.Println(strings.Contains(err.Error(), "spool"), errors.Is(err, producer.ErrSpooled))
	fmt.Println(p.Close(context.Background()), spool.Close())

	spool, err = producer.OpenSpool(dir, 1<<20) // the next process has what is left
	if err != nil {
		panic(err)
	}
	fmt.Println(spool.Len(), spool.Torn(), spool.Refused())
	fmt.Println(spool.Close())
	// Output:
	// true true
	// <nil> <nil>
	// 1 0 0
	// <nil>
}
