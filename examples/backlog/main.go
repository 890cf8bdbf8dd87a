// Backlog helps a group whose topic has one queue, so that one slow consumer holds
// everything up and a second one would find nothing to do. The backlog moves to a
// temporary topic with eight queues, eight consumers work it off, and the group goes
// back to the first topic. The program checks that each message was handled once
// and in order of its key, and that another group of the topic has noticed nothing.
// The exit code is 1 if not.
//
//	go run ./examples/backlog
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/examples/internal/example"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

const (
	narrow  = "orders"
	wide    = "orders-backlog"
	queues  = 8
	orders  = 4000
	users   = 50
	group   = "billing"
	slow    = 100 // so many are handled before somebody helps
	members = queues
)

func main() { example.Main("backlog", run) }

// bills are what was handled.
type bills struct {
	mu              sync.Mutex
	seen            map[int]bool
	last            map[string]int // of each user
	by              map[string]int
	twice, disorder int
}

func (b *bills) handler(name string) consumer.Handler {
	return consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		var user string
		var n int
		if _, err := fmt.Sscanf(string(d.Body()), "%s %d", &user, &n); err != nil {
			return consumer.DeadLetter("not an order")
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.seen[n] {
			b.twice++
		}
		if last, ok := b.last[user]; ok && last > n {
			b.disorder++
		}
		b.seen[n], b.last[user] = true, n
		b.by[name]++
		return nil
	})
}

func (b *bills) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.seen)
}

// work has consumers bill orders of a topic until there are so many in all.
func (b *bills) work(ctx context.Context, s *store.Store, topic string, members, until int, opts ...consumer.Option) error {
	var ps []*consumer.Push
	for n := range members {
		name := fmt.Sprintf("%s-%d", topic, n)
		p := consumer.NewPush(s, group, append(opts, consumer.WithMember(name), consumer.WithOrder(consumer.PerKey))...)
		if err := p.Subscribe(topic, nil, b.handler(name)); err != nil {
			return err
		}
		ps = append(ps, p)
	}
	stop := example.Start(ctx, ps...)
	err := example.Until(ctx, func() bool { return b.count() >= until })
	return errors.Join(err, stop())
}

func run(ctx context.Context, dir string, t *example.Table) (err error) {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := errors.Join(
		s.CreateTopic(ctx, store.Topic{Name: narrow, WriteQueues: 1}),
		s.CreateTopic(ctx, store.Topic{Name: wide, WriteQueues: queues}),
		// Audit is another group of the topic, at its beginning.
		s.Commit(ctx, "audit", map[message.Queue]int64{{Topic: narrow}: 0}),
		send(ctx, s, 0, orders),
	); err != nil {
		return err
	}
	b := &bills{seen: make(map[int]bool), last: make(map[string]int), by: make(map[string]int)}
	if err := b.work(ctx, s, narrow, 1, slow, consumer.WithRate(10*slow, 1)); err != nil {
		return err
	}
	lag, err := s.Lag(ctx, group)
	if err != nil {
		return err
	}
	alone := b.count()
	moved, err := s.Move(ctx, group, narrow, wide, 0)
	if err != nil {
		return err
	}
	t.Claim(int64(moved) == lag.Records, "%d orders handled by one consumer, %d waited, %d moved to %d queues", alone, lag.Records, moved, queues)
	again, err := s.Move(ctx, group, narrow, wide, 0)
	t.Claim(err == nil && again == 0, "a second move finds %d", again)
	if err := b.work(ctx, s, wide, members, orders); err != nil {
		return err
	}
	helped := len(b.by) - 1
	// What is new goes where it always went, and the group goes back to it.
	if err := errors.Join(send(ctx, s, orders, slow), b.work(ctx, s, narrow, 1, orders+slow)); err != nil {
		return err
	}
	left, err := s.Lag(ctx, group, narrow, wide)
	if err != nil {
		return err
	}
	audit, err := s.Lag(ctx, "audit", narrow)
	if err != nil {
		return err
	}
	t.Claim(b.count() == orders+slow && b.twice == 0, "%d orders billed, %d twice", b.count(), b.twice)
	t.Claim(b.disorder == 0, "%d out of the order of their user", b.disorder)
	t.Claim(helped > 1, "%d consumers helped", helped)
	t.Claim(left.Records == 0, "%d orders left to the group in both topics", left.Records)
	t.Claim(audit.Records == orders+slow, "%d orders left to the other group", audit.Records)
	return s.DeleteTopic(ctx, wide)
}

// send sends n orders, each with its user as the key.
func send(ctx context.Context, s *store.Store, from, n int) error {
	p := producer.New(s)
	for i := from; i < from+n; i++ {
		user := fmt.Sprint("user-", i%users)
		p.SendAsync(ctx, &message.Message{Topic: narrow, ShardingKey: user, Body: fmt.Appendf(nil, "%s %d", user, i)}, nil)
	}
	err := p.Close(ctx)
	if f := p.Stats().Failed; f > 0 {
		err = errors.Join(err, fmt.Errorf("%d orders could not be sent", f))
	}
	return err
}
