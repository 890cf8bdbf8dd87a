// Ordered sends the steps of three orders, and two consumers of one group work on
// them. The steps of one order go to one queue by their sharding key, and the
// consumers keep the order of a queue. The program checks that every order went
// through its steps in sequence, although one step failed and had to be tried
// again, and that both consumers had a share. The exit code is 1 if not.
//
//	go run ./examples/ordered
package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/examples/internal/example"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

const topic = "orders"

var (
	orders = []string{"order-1", "order-2", "order-3"}
	steps  = []string{"created", "paid", "packed", "shipped", "received"}
)

func main() { example.Main("ordered", run) }

// book notes what was handled, by order and by consumer.
type book struct {
	mu     sync.Mutex
	steps  map[string][]string
	worked map[string]int
	failed int
}

func (b *book) count() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n1 := range b.worked {
		n += n1
	}
	return n
}

// handler books steps for one consumer. The bank does not answer when order-2 is
// paid for the first time.
func (b *book) handler(name string) consumer.Handler {
	return consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		order, step, _ := strings.Cut(string(d.Body()), " ")
		b.mu.Lock()
		defer b.mu.Unlock()
		if order == "order-2" && step == "paid" && d.Attempt() == 1 {
			b.failed++
			return errors.New("the bank does not answer") // what is behind it waits
		}
		b.steps[order] = append(b.steps[order], step)
		b.worked[name]++
		return nil
	})
}

func run(ctx context.Context, dir string, t *example.Table) (err error) {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.CreateTopic(ctx, store.Topic{Name: topic, WriteQueues: 4}); err != nil {
		return err
	}

	b := &book{steps: make(map[string][]string), worked: make(map[string]int)}
	var members []*consumer.Push
	for _, name := range []string{"ann", "ben"} {
		c := consumer.NewPush(s, "shipping", consumer.WithMember(name),
			consumer.WithOrder(consumer.PerQueue), consumer.WithSuspension(10*time.Millisecond))
		if err := c.Subscribe(topic, nil, b.handler(name)); err != nil {
			return err
		}
		members = append(members, c)
	}
	stop := example.Start(ctx, members...)
	defer func() { err = errors.Join(err, stop()) }()
	shared := func() bool {
		return example.QueuesOf(members[0], topic) == 2 && example.QueuesOf(members[1], topic) == 2
	}
	if err := example.Until(ctx, shared); err != nil {
		return err
	}

	if err := send(ctx, s); err != nil {
		return err
	}
	all := len(orders) * len(steps)
	if err := example.Until(ctx, func() bool { return b.count() >= all }); err != nil {
		return err
	}
	if err := stop(); err != nil {
		return err
	}
	for _, id := range orders {
		t.Claim(slices.Equal(b.steps[id], steps), "%s: %s", id, strings.Join(b.steps[id], ", "))
	}
	t.Claim(b.count() == all, "%d of %d messages handled once", b.count(), all)
	t.Claim(b.failed == 1, "%d failed and was tried again in its place", b.failed)
	t.Claim(b.worked["ann"] > 0 && b.worked["ben"] > 0, "ann handled %d, ben %d", b.worked["ann"], b.worked["ben"])
	return nil
}

// send sends the first step of every order, then the second, and so on.
func send(ctx context.Context, s *store.Store) error {
	p := producer.New(s)
	for _, step := range steps {
		for _, id := range orders {
			m := &message.Message{Topic: topic, ShardingKey: id, Body: fmt.Appendf(nil, "%s %s", id, step)}
			if _, err := p.Send(ctx, m); err != nil {
				return err
			}
		}
	}
	return p.Close(ctx)
}
