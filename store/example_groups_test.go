package store_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/progress"
	"github.com/embermq/embermq/store"
)

func ExampleStore_Progress() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	if err := s.Progress().CreateGroup(ctx, progress.Group{Name: "billing", RetryMax: 3}); err != nil {
		log.Fatal(err)
	}
	g, _ := s.Progress().Group("billing")
	g.Disabled = true // members receive nothing
	if err := s.Progress().UpdateGroup(ctx, g); err != nil {
		log.Fatal(err)
	}
	for _, g := range s.Progress().Groups() {
		fmt.Println(g.Name, g.RetryMax, g.Disabled)
	}
	fmt.Println(s.Progress().DeleteGroup(ctx, "billing"))
	// Output:
	// billing 3 true
	// <nil>
}

func ExampleStore_Lag() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	q := exampleOrders(s)
	if err := s.Commit(ctx, "billing", map[message.Queue]int64{q: 1}); err != nil {
		log.Fatal(err)
	}
	lag, err := s.Lag(ctx, "billing")
	fmt.Println(lag.Records, err)
	// A new group begins where the other one is.
	if err := s.CloneOffsets(ctx, "billing", "audit", "orders"); err != nil {
		log.Fatal(err)
	}
	lag, err = s.Lag(ctx, "audit", "orders")
	fmt.Println(lag.Records, err)
	// Output:
	// 2 <nil>
	// 2 <nil>
}

// A backlog in one queue goes on in eight.
func ExampleStore_Move() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	q := exampleOrders(s)
	if err := s.Commit(ctx, "billing", map[message.Queue]int64{q: 0}); err != nil {
		log.Fatal(err)
	}
	if err := s.CreateTopic(ctx, store.Topic{Name: "orders-wide", WriteQueues: 8}); err != nil {
		log.Fatal(err)
	}
	moved, err := s.Move(ctx, "billing", "orders", "orders-wide", 0)
	fmt.Println(moved, err)
	lag, err := s.Lag(ctx, "billing", "orders")
	fmt.Println(lag.Records, err)
	// Output:
	// 3 <nil>
	// 0 <nil>
}

// join makes the caller a member of a group and returns its claim on a queue. The
// consumers of package consumer do so by themselves.
func join(ctx context.Context, s *store.Store, mode group.Mode, q message.Queue) (*group.Membership, group.Claim) {
	m, err := s.Groups().Join(ctx, group.Member{Group: "billing", Mode: mode, Subscriptions: map[string]string{q.Topic: group.AllMessages}})
	if err != nil {
		log.Fatal(err)
	}
	for {
		change, err := m.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		for _, c := range change.Given {
			if c.Queue == q {
				return m, c
			}
		}
	}
}

func ExampleStore_Settle() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	q := exampleOrders(s)
	_, claim := join(ctx, s, group.Clustering, q)
	err := s.Settle(ctx, claim,
		message.Verdict{Queue: q, Offset: 0, Kind: message.Done},
		message.Verdict{Queue: q, Offset: 1, Kind: message.Retry, After: time.Minute},
		message.Verdict{Queue: q, Offset: 2, Kind: message.DeadLetter, Reason: "no such account"})
	fmt.Println(err)
	at, err := s.Standing(ctx, claim, q)
	fmt.Println(at.Committed, s.Timers().Len(), s.DeadLetters().Count("billing"), err)
	// Output:
	// <nil>
	// 3 1 1 <nil>
}

func ExampleStore_Lease() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	q := exampleOrders(s)
	_, claim := join(ctx, s, group.Shared, q)
	b, err := s.Lease(ctx, claim, nil, message.Limit{Count: 2}, time.Minute, 0)
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range b.Records {
		v := message.Verdict{Queue: q, Offset: l.Record.Offset(), Lease: l.Lease, Kind: message.Done}
		fmt.Println(l.Record.Tag(), s.Settle(ctx, claim, v))
	}
	// Output:
	// paid <nil>
	// shipped <nil>
}

// Who works on what, and what changes.
func ExampleStore_Groups() {
	s, remove := exampleStore()
	defer remove()
	ctx := context.Background()
	heard := make(chan group.Event, 100)
	stop := s.Groups().Listen(func(e group.Event) { heard <- e })
	defer stop()
	m, claim := join(ctx, s, group.Clustering, exampleOrders(s))
	fmt.Println((<-heard).Kind)
	fmt.Println(s.Groups().Groups(), len(s.Groups().Members("billing")), s.Groups().Stats().Members)
	fmt.Println(claim.Queue, claim.Member == m.ID())
	m.Abandon(context.Canceled) // Leave, when handlers shall finish
	// Output:
	// Joined
	// [billing] 1 1
	// orders/0 true
}
