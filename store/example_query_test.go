package store_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func ExampleStore_Find() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	for _, body := range []string{"created", "paid"} {
		if _, err := s.Put(ctx, &message.Message{Topic: "orders", Keys: []string{"42"}, Body: []byte(body)}); err != nil {
			log.Fatal(err)
		}
	}
	for r, err := range s.Find(ctx, index.Query{Topic: "orders", Key: "42", By: index.ByKey}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(r.Body()))
	}
	// Output:
	// paid
	// created
}

func ExampleStore_FindAll() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	if _, err := s.Put(ctx, &message.Message{Topic: "reminders", UniqueID: "pay-42", Delay: time.Hour}); err != nil {
		log.Fatal(err)
	}
	// Where has it gone? Consumers do not see it yet.
	for h, err := range s.FindAll(ctx, index.Query{Topic: "reminders", Key: "pay-42", By: index.ByUniqueID}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(h.Queue, h.State)
	}
	// Output: reminders/0 waiting
}

func ExampleStore_Between() {
	s, remove := exampleStore()
	defer remove()
	exampleOrders(s)
	n := 0
	for _, err := range s.Between(context.Background(), "orders", time.Now().Add(-time.Hour), time.Time{}) {
		if err != nil {
			log.Fatal(err)
		}
		n++
	}
	fmt.Println(n)
	// Output: 3
}

// One message, by each of its places.
func ExampleStore_At() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	r, err := s.Put(ctx, &message.Message{Topic: "orders", Body: []byte("paid")})
	if err != nil {
		log.Fatal(err)
	}
	byOffset, err := s.At(ctx, r.Queue, r.Offset)
	fmt.Println(string(byOffset.Body()), err)
	byPosition, err := s.Get(ctx, r.Position)
	fmt.Println(string(byPosition.Body()), err)
	byID, err := s.ByOffsetID(ctx, message.OffsetID(netip.AddrPort{}, r.Position))
	fmt.Println(string(byID.Body()), err)
	// Output:
	// paid <nil>
	// paid <nil>
	// paid <nil>
}

func ExampleStore_QueueCount() {
	s, remove := exampleStore()
	defer remove()
	if err := s.CreateTopic(context.Background(), store.Topic{Name: "orders", WriteQueues: 8}); err != nil {
		log.Fatal(err)
	}
	n, err := s.QueueCount("orders")
	fmt.Println(n, err)
	// Output: 8 <nil>
}

func ExampleStore_DeleteTopic() {
	s, remove := exampleStore()
	defer remove()
	q := exampleOrders(s)
	ctx := context.Background()
	if err := s.DeleteTopic(ctx, "orders"); err != nil {
		log.Fatal(err)
	}
	_, err := s.Read(ctx, q, 0, message.Limit{}, nil)
	fmt.Println(errors.Is(err, store.ErrNotFound))
	// Output: true
}
