package producer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/schedule"
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

func ExampleProducer_Send() {
	s, done := openExample()
	defer done()
	p := producer.New(s)
	r, err := p.Send(context.Background(), &message.Message{Topic: "orders", ShardingKey: "42", Body: []byte("paid")})
	fmt.Println(r.Queue, r.Offset, err) // on disk now
	// Output: orders/3 0 <nil>
}

func ExampleProducer_SendAsync() {
	s, done := openExample()
	defer done()
	p := producer.New(s)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Add(1)
		m := &message.Message{Topic: "orders", ShardingKey: "42", Body: fmt.Appendf(nil, "step %d", i)}
		p.SendAsync(context.Background(), m, func(r message.Receipt, err error) {
			defer wg.Done()
			fmt.Println(r.Offset, err)
		})
	}
	wg.Wait()
	// Output:
	// 0 <nil>
	// 1 <nil>
	// 2 <nil>
}

func ExampleProducer_SendOneWay() {
	s, done := openExample()
	defer done()
	p := producer.New(s)
	if err := p.SendOneWay(&message.Message{Topic: "logs", Body: []byte("started")}); err != nil {
		fmt.Println(err) // it cannot be sent
	}
	_ = p.Close(context.Background())
	fmt.Println(p.Stats().Sent, p.Stats().Lost)
	// Output: 1 0
}

func ExampleProducer_SendBatch() {
	s, done := openExample()
	defer done()
	p := producer.New(s)
	rs, err := p.SendBatch(context.Background(), []*message.Message{
		{Topic: "orders", ShardingKey: "42", Body: []byte("created")},
		{Topic: "stock", ShardingKey: "apples", Body: []byte("-3")},
	})
	fmt.Println(len(rs), err) // both or none
	// Output: 2 <nil>
}

func ExampleProducer_Request() {
	s, done := openExample()
	defer done()
	p := producer.New(s, producer.WithReplyTimeout(time.Minute))
	if err := s.CreateTopic(context.Background(), store.Topic{Name: "sums", WriteQueues: 1}); err != nil {
		panic(err)
	}
	q := message.Queue{Topic: "sums"}
	go func() { // the other party
		w := s.Watch(nil, q)
		defer w.Close()
		for at := int64(0); at == 0; {
			if _, err := w.Next(context.Background()); err != nil {
				return
			}
			b, err := s.Read(context.Background(), q, at, message.Limit{}, nil)
			if err != nil {
				return
			}
			for _, r := range b.Records {
				_ = producer.Reply(&r, &message.Message{Body: append(r.Body(), " = 4"...)})
			}
			at = b.Next
		}
	}()
	answer, err := p.Request(context.Background(), &message.Message{Topic: "sums", Body: []byte("2 + 2")})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(answer.Body()))
	// Output: 2 + 2 = 4
}

func ExampleWithSpool() {
	s, done := openExample()
	defer done()
	dir, _ := os.MkdirTemp("", "spool-")
	defer os.RemoveAll(dir)
	spool, err := producer.OpenSpool(dir, 0)
	if err != nil {
		panic(err)
	}
	defer spool.Close()
	p := producer.New(&outage{Store: s}, producer.WithSpool(spool))
	_, err = p.Send(context.Background(), &message.Message{Topic: "orders", Body: []byte("paid")})
	fmt.Println(errors.Is(err, producer.ErrSpooled), spool.Len())
	sent, err := p.Resend(context.Background())
	fmt.Println(sent, err, spool.Len())
	// Output:
	// true 1
	// 1 <nil> 0
}

// outage is an engine that is out of room for its first send.
type outage struct {
	*store.Store
	over bool
}

func (o *outage) Put(ctx context.Context, m *message.Message) (message.Receipt, error) {
	if !o.over {
		o.over = true
		return message.Receipt{}, store.ErrDiskFull
	}
	return o.Store.Put(ctx, m)
}

func (o *outage) PutAsync(ctx context.Context, m *message.Message) *message.Pending {
	if !o.over {
		o.over = true
		failed := message.NewPending()
		failed.Resolve(message.Receipt{}, store.ErrDiskFull)
		return failed
	}
	return o.Store.PutAsync(ctx, m)
}

func ExampleProducer_Send_delayed() {
	s, done := openExample()
	defer done()
	p := producer.New(s)
	r, err := p.Send(context.Background(), &message.Message{Topic: "reminders", Delay: time.Hour, Body: []byte("pay")})
	if err != nil {
		panic(err)
	}
	how, err := s.Timers().Cancel(context.Background(), r.Timer) // it was paid
	fmt.Println(how == schedule.Cancelled, err)
	// Output: true <nil>
}

func ExampleTxProducer_Send() {
	s, done := openExample()
	defer done()
	p, err := producer.NewTx(s.Halves(), "bank", nil, producer.TxOptions{})
	if err != nil {
		panic(err)
	}
	defer p.Close()
	pay := func(context.Context, message.HalfID) error { return nil } // commits, or fails and rolls back
	r, how, err := p.Send(context.Background(), &message.Message{Topic: "transfers", Body: []byte("7 to Ann")}, pay)
	fmt.Println(r.Offset, how == message.Committed, err)
	// Output: 0 true <nil>
}

func ExampleWithLinger() {
	s, done := openExample()
	defer done()
	p := producer.New(s, producer.WithLinger(time.Millisecond, 0))
	for i := range 100 {
		p.SendAsync(context.Background(), &message.Message{Topic: "logs", Body: fmt.Append(nil, i)}, nil)
	}
	_ = p.Close(context.Background()) // sends what lingers
	fmt.Println(p.Stats().Sent)
	// Output: 100
}

func ExampleWithDedupe() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir, store.WithDedupe(time.Hour, 100_000))
	if err != nil {
		panic(err)
	}
	defer s.Close()
	p := producer.New(s, producer.WithDedupe(func(m *message.Message) string { return m.Keys[0] }))
	m := &message.Message{Topic: "orders", Keys: []string{"order-42"}, Body: []byte("paid")}
	first, _ := p.Send(context.Background(), m)
	again, err := p.Send(context.Background(), m)
	fmt.Println(again == first, err)
	// Output: true <nil>
}
