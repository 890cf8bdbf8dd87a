package store_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func ExampleStore_Timers() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	var waiting message.Receipt
	for _, id := range []string{"cart-1", "cart-2", "cart-3"} {
		var err error
		waiting, err = s.Put(ctx, &message.Message{Topic: "carts", UniqueID: id, Delay: time.Hour})
		if err != nil {
			log.Fatal(err)
		}
	}
	timers := s.Timers()
	fmt.Println(timers.Len(), timers.Count("carts"))
	r, err := s.Get(ctx, waiting.Position)
	if err != nil {
		log.Fatal(err)
	}
	due, ok, err := timers.Waiting(&r)
	fmt.Println(due.After(time.Now()), ok, err)

	fmt.Println(timers.Cancel(ctx, "cart-1"))
	fmt.Println(timers.Cancel(ctx, "cart-9"))
	fmt.Println(timers.Reschedule(ctx, "cart-3", time.Now().Add(time.Minute)))
	for t, err := range timers.Pending("carts", time.Time{}, time.Time{}) {
		fmt.Println(t.ID, err)
	}
	// Output:
	// 3 3
	// true true <nil>
	// cancelled <nil>
	// unknown <nil>
	// rescheduled <nil>
	// cart-3 <nil>
	// cart-2 <nil>
}

// A message that is seen only when it is committed.
func ExampleStore_Halves() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	halves := s.Halves()
	prepare := func(id string) message.HalfID {
		_, half, err := halves.Prepare(ctx, &message.Message{Topic: "transfers", UniqueID: id, Body: []byte("7 to Ann")}, "bank", message.HalfOptions{})
		if err != nil {
			log.Fatal(err)
		}
		return half
	}
	good, bad := prepare("good"), prepare("bad")
	fmt.Println(halves.Len(), halves.Count("transfers"))
	h, err := halves.Get(good)
	fmt.Println(h.Group, err)
	r, how, err := halves.Commit(ctx, good)
	fmt.Println(r.Queue, how, err)
	how, err = halves.Rollback(ctx, bad)
	fmt.Println(how, err)
	_, how, err = halves.Commit(ctx, bad) // the first verdict counts
	fmt.Println(how, err)
	// Output:
	// 2 2
	// bank <nil>
	// transfers/0 Committed <nil>
	// RolledBack <nil>
	// RolledBack <nil>
}

// Somebody is asked about halves whose verdict did not come. What nobody decides is
// given up, and waits for a person.
func ExampleWithTransactions() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir, store.WithTransactions(store.Transactions{Timeout: time.Millisecond, Interval: time.Millisecond, MaxChecks: 1}))
	defer s.Close()
	ctx := context.Background()
	asked := make(chan message.HalfID, 1)
	stop, err := s.Halves().OnCheck("bank", func(_ context.Context, h *message.Half) (message.Decision, error) {
		asked <- h.ID
		return message.Undecided, nil
	}, message.CheckOptions{})
	if err != nil {
		log.Fatal(err)
	}
	_, id, err := s.Halves().Prepare(ctx, &message.Message{Topic: "transfers"}, "bank", message.HalfOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("asked:", <-asked == id)
	var how message.Decision
	for err = store.ErrBusy; errors.Is(err, store.ErrBusy); { // until it is given up
		_, how, err = s.Halves().Recover(ctx, id, message.RolledBack)
	}
	stop()
	fmt.Println(how, err, s.Halves().GivenUp())
	for h := range s.Halves().All() {
		fmt.Println("left:", h.ID)
	}
	// Output:
	// asked: true
	// RolledBack <nil> 0
}

func ExampleStore_DeadLetters() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	q := message.Queue{Topic: "bills"}
	for _, id := range []string{"bill-1", "bill-2"} {
		if _, err := s.Put(ctx, &message.Message{Topic: q.Topic, UniqueID: id}); err != nil {
			log.Fatal(err)
		}
	}
	_, claim := join(ctx, s, group.Clustering, q)
	for i := range int64(2) {
		v := message.Verdict{Queue: q, Offset: i, Kind: message.DeadLetter, Reason: "no such account"}
		if err := s.Settle(ctx, claim, v); err != nil { // a handler's consumer.DeadLetter
			log.Fatal(err)
		}
	}

	dead := s.DeadLetters()
	for d, err := range dead.All(ctx, "billing") {
		fmt.Println(d.ID, d.Origin, d.Reason, err)
	}
	age, err := dead.Age(ctx, "billing")
	fmt.Println(age < time.Hour, err)
	d, err := dead.Get(ctx, "billing", "bill-1")
	fmt.Println(d.OriginOffset, err)
	fmt.Println(dead.Redrive(ctx, "billing", store.Redrive{Max: 1})) // the account is there now
	fmt.Println(dead.Delete(ctx, "billing", nil))
	fmt.Println(dead.Count("billing"))
	// Output:
	// bill-1 bills/0 no such account <nil>
	// bill-2 bills/0 no such account <nil>
	// true <nil>
	// 0 <nil>
	// 1 <nil>
	// 1 <nil>
	// 0
}
