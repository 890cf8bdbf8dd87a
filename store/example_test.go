package store_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// exampleStore opens a store in a directory of its own.
func exampleStore() (s *store.Store, remove func()) {
	dir, err := os.MkdirTemp("", "ember")
	if err != nil {
		log.Fatal(err)
	}
	if s, err = store.Open(dir); err != nil {
		log.Fatal(err)
	}
	return s, func() {
		if err := s.Close(); err != nil {
			log.Fatal(err)
		}
		_ = os.RemoveAll(dir)
	}
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "ember")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir, store.WithRetention(24*time.Hour))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("new:", s.Stats().Recovery.New)
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	if s, err = store.Open(dir); err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	fmt.Println("closed cleanly:", s.Stats().Recovery.Clean)
	// Output:
	// new: true
	// closed cleanly: true
}

func ExampleOpenReadOnly() {
	dir, err := os.MkdirTemp("", "ember")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Put(context.Background(), &message.Message{Topic: "orders", Body: []byte("paid")}); err != nil {
		log.Fatal(err)
	}
	// Beside the process that writes, which may be another one.
	reader, err := store.OpenReadOnly(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	b, err := reader.Read(context.Background(), message.Queue{Topic: "orders"}, 0, message.Limit{}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", b.Records[0].Body())
	// Output: paid
}

func ExampleStore_Put() {
	s, remove := exampleStore()
	defer remove()
	r, err := s.Put(context.Background(), &message.Message{Topic: "orders", QueueID: 2, Tag: "paid", Keys: []string{"42"}, Body: []byte("12.50")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Queue, r.Offset) // it is on disk now
	// Output: orders/2 0
}

func ExampleStore_PutBatch() {
	s, remove := exampleStore()
	defer remove()
	// After a crash both are there or none.
	rs, err := s.PutBatch(context.Background(), []*message.Message{
		{Topic: "orders", Body: []byte("shipped")},
		{Topic: "mails", QueueID: 1, Body: []byte("your order is on its way")},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(rs[0].Queue, rs[1].Queue)
	// Output: orders/0 mails/1
}

func ExampleStore_PutAsync() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	var pending []*message.Pending
	for i := range 1000 {
		pending = append(pending, s.PutAsync(ctx, &message.Message{Topic: "orders", Body: fmt.Append(nil, i)}))
	}
	for _, p := range pending {
		if _, err := p.Wait(ctx); err != nil {
			log.Fatal(err)
		}
	}
	_, end, err := s.Bounds(message.Queue{Topic: "orders"})
	fmt.Println(end, err)
	// Output: 1000 <nil>
}

func exampleOrders(s *store.Store) message.Queue {
	for _, tag := range []string{"paid", "shipped", "paid"} {
		if _, err := s.Put(context.Background(), &message.Message{Topic: "orders", Tag: tag}); err != nil {
			log.Fatal(err)
		}
	}
	return message.Queue{Topic: "orders"}
}

func ExampleStore_Read() {
	s, remove := exampleStore()
	defer remove()
	q := exampleOrders(s)
	paid, err := message.Tags("paid")
	if err != nil {
		log.Fatal(err)
	}
	b, err := s.Read(context.Background(), q, 0, message.Limit{Count: 10}, paid)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range b.Records {
		fmt.Println(r.Offset(), r.Tag())
	}
	fmt.Println("next", b.Next)
	// Output:
	// 0 paid
	// 2 paid
	// next 3
}

func ExampleStore_Scan() {
	s, remove := exampleStore()
	defer remove()
	next, err := s.Scan(exampleOrders(s), 1, message.Limit{}, nil, func(r *message.Record) error {
		fmt.Println(r.Offset(), r.Tag()) // r is lent: Clone keeps it
		return nil
	})
	fmt.Println("next", next, err)
	// Output:
	// 1 shipped
	// 2 paid
	// next 3 <nil>
}

func ExampleStore_Follow() {
	s, remove := exampleStore()
	defer remove()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for r, err := range s.Follow(ctx, exampleOrders(s), 0, nil) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(r.Offset(), r.Tag())
		if r.Offset() == 2 {
			cancel() // or the loop waits for the next message
		}
	}
	// Output:
	// 0 paid
	// 1 shipped
	// 2 paid
	// context canceled
}

func ExampleStore_Watch() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	if err := s.CreateTopic(ctx, store.Topic{Name: "orders"}); err != nil {
		log.Fatal(err)
	}
	w := s.Watch(nil, message.Queue{Topic: "orders", ID: 0}, message.Queue{Topic: "orders", ID: 1})
	defer w.Close()
	for range 2 { // each queue is announced once
		if _, err := w.Next(ctx); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := s.Put(ctx, &message.Message{Topic: "orders", QueueID: 1}); err != nil {
		log.Fatal(err)
	}
	q, err := w.Next(ctx)
	fmt.Println(q, err)
	// Output: orders/1 <nil>
}

func ExampleStore_Commit() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	q := exampleOrders(s)
	if err := s.Commit(ctx, "billing", map[message.Queue]int64{q: 2}); err != nil {
		log.Fatal(err)
	}
	offset, ok, err := s.Committed(ctx, "billing", q)
	fmt.Println(offset, ok, err)
	if err := s.ResetOffsets(ctx, "billing", "orders", message.First()); err != nil {
		log.Fatal(err)
	}
	offset, ok, err = s.Committed(ctx, "billing", q)
	fmt.Println(offset, ok, err)
	// Output:
	// 2 true <nil>
	// 0 true <nil>
}

func ExampleStore_UpdateTopic() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	if err := s.CreateTopic(ctx, store.Topic{Name: "orders", WriteQueues: 8}); err != nil {
		log.Fatal(err)
	}
	// Shrink without losing anything: write to fewer queues, let consumers drain,
	// then read fewer.
	for _, t := range []store.Topic{{Name: "orders", WriteQueues: 2}, {Name: "orders", ReadQueues: 2}} {
		if err := s.UpdateTopic(ctx, t); err != nil {
			log.Fatal(err)
		}
	}
	for _, t := range s.Topics() {
		fmt.Println(t.Name, t.ReadQueues, t.WriteQueues)
	}
	// Output: orders 2 2
}

func ExampleStore_OffsetAt() {
	s, remove := exampleStore()
	defer remove()
	q := exampleOrders(s)
	offset, err := s.OffsetAt(q, time.Now().Add(-time.Hour), message.Lower)
	fmt.Println(offset, err)
	// Output: 0 <nil>
}

func ExampleStore_Check() {
	s, remove := exampleStore()
	defer remove()
	exampleOrders(s)
	r, err := s.Check(context.Background())
	fmt.Println(r.OK(), r.Entries, err)
	// Output: true 3 <nil>
}

func ExampleStore_Sync() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	for range 100 {
		if _, err := s.Put(ctx, &message.Message{Topic: "orders", Durability: message.InCache}); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(s.Sync(ctx)) // a power cut takes none of them from here on
	// Output: <nil>
}
