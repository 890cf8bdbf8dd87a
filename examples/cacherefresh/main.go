// Cacherefresh keeps a cache in each of three instances of a service. A change of a
// price is broadcast: every instance gets every message and changes its own cache.
// One instance is down for a while and catches up from its own place. The program
// checks that all caches equal the source at the end, that no change was applied
// twice, and that what an instance could not apply was told. The exit code is 1 if
// not.
//
//	go run ./examples/cacherefresh
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/examples/internal/example"
	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

const (
	topic    = "prices"
	articles = 20
	changes  = 300 // in each of the two halves of the run
)

func main() { example.Main("cacherefresh", run) }

// instance is one process of the service, with its cache.
type instance struct {
	name string
	push *consumer.Push
	stop func() error

	mu      sync.Mutex
	prices  map[string]int
	applied int
	dropped int
}

// start begins to follow the changes. dir is where instances keep their places.
func (i *instance) start(ctx context.Context, s *store.Store, dir string) error {
	i.push = consumer.NewPush(s, "price-caches", consumer.WithMode(group.Broadcasting),
		consumer.WithInstance(i.name), consumer.WithLocalOffsets(dir),
		consumer.WithOrder(consumer.PerKey), consumer.WithLocalOrder(),
		consumer.WithMaxAttempts(2), consumer.WithSuspension(time.Millisecond),
		consumer.OnDrop(func(*consumer.Delivery, error) { i.count(&i.dropped) }))
	if err := i.push.Subscribe(topic, nil, consumer.One(i.apply)); err != nil {
		return err
	}
	i.stop = example.Start(ctx, i.push)
	// Without a place of its own an instance begins with what comes next.
	return example.Until(ctx, func() bool { return example.QueuesOf(i.push, topic) == store.DefaultTopicQueues })
}

func (i *instance) apply(_ context.Context, d *consumer.Delivery) error {
	article, price, _ := strings.Cut(string(d.Body()), " ")
	n, err := strconv.Atoi(price)
	if err != nil {
		return fmt.Errorf("a price reads %q", price) // the second time OnDrop hears of it
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.prices[article] = n
	i.applied++
	return nil
}

func (i *instance) count(n *int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	*n++
}

func (i *instance) seen() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.applied + i.dropped
}

func run(ctx context.Context, dir string, t *example.Table) (err error) {
	s, err := store.Open(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.CreateTopic(ctx, store.Topic{Name: topic}); err != nil {
		return err
	}
	all := make([]*instance, 3)
	for n := range all {
		i := &instance{name: fmt.Sprint("node-", n), prices: make(map[string]int)}
		if err := i.start(ctx, s, filepath.Join(dir, "places")); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, i.stop()) }()
		all[n] = i
	}
	source := make(map[string]int)
	p := producer.New(s)
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	reach := func(n int, is ...*instance) error {
		for _, i := range is {
			if err := example.Until(ctx, func() bool { return i.seen() >= n }); err != nil {
				return fmt.Errorf("%s has seen %d of %d: %w", i.name, i.seen(), n, err)
			}
		}
		return nil
	}

	if err := errors.Join(send(ctx, p, source, 0), reach(changes, all...)); err != nil {
		return err
	}
	late := all[2]
	if err := late.stop(); err != nil {
		return err
	}
	before := late.seen()
	// A message that nobody understands, and the second half.
	if _, err := p.Send(ctx, &message.Message{Topic: topic, ShardingKey: "x", Body: []byte("article-0 dear")}); err != nil {
		return err
	}
	if err := errors.Join(send(ctx, p, source, changes), reach(2*changes+1, all[:2]...)); err != nil {
		return err
	}
	missed := 2*changes + 1 - late.seen()
	if err := errors.Join(late.start(ctx, s, filepath.Join(dir, "places")), reach(2*changes+1, late)); err != nil {
		return err
	}
	for _, i := range all {
		if err := i.stop(); err != nil {
			return err
		}
		t.Claim(maps.Equal(i.prices, source), "%s: %d prices as at the source", i.name, len(i.prices))
		t.Claim(i.applied == 2*changes && i.dropped == 1, "%s: %d changes applied, each once, %d dropped and told", i.name, i.applied, i.dropped)
	}
	t.Claim(before == changes && missed == changes+1, "%s was down after %d changes and caught up %d", late.name, before, missed)
	return nil
}

// send changes prices at the source, from the nth change on, and tells of them.
func send(ctx context.Context, p *producer.Producer, source map[string]int, n int) error {
	for i := n; i < n+changes; i++ {
		article := fmt.Sprint("article-", i%articles)
		source[article] = i
		m := &message.Message{Topic: topic, ShardingKey: article, Body: fmt.Appendf(nil, "%s %d", article, i)}
		if _, err := p.Send(ctx, m); err != nil {
			return err
		}
	}
	return nil
}
