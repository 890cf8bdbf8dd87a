// Globalorder keeps one order for everything: the topic has a single queue. Several
// producers send entries of a ledger, and a group of
// two consumers books them. Only one of the two can work at a time; when it leaves,
// the other goes on where it was. The program checks that the entries were booked
// in the order in which they were stored, each once. The exit code is 1 if not.
//
//	go run ./examples/globalorder
package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/examples/internal/example"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

const (
	topic   = "ledger"
	writers = 4
	entries = 2000 // of all writers
	leaves  = 500  // after so many the first consumer leaves
)

func main() { example.Main("globalorder", run) }

// ledger is what was booked: the offsets in the order of the calls.
type ledger struct {
	mu      sync.Mutex
	offsets []int64
	lines   map[string]bool
	by      map[string]int
	overlap int // calls while another one ran
	running bool
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.offsets)
}

// handler books entries; enough is called once there are so many.
func (l *ledger) handler(name string, most int, enough func()) consumer.Handler {
	return consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		l.enter()
		defer l.leave()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.offsets = append(l.offsets, d.Offset())
		l.lines[string(d.Body())] = true
		l.by[name]++
		if len(l.offsets) == most {
			enough()
		}
		return nil
	})
}

func (l *ledger) enter() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running {
		l.overlap++
	}
	l.running = true
}

func (l *ledger) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = false
}

func run(ctx context.Context, dir string, t *example.Table) (err error) {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.CreateTopic(ctx, store.Topic{Name: topic, WriteQueues: 1}); err != nil {
		return err
	}
	l := &ledger{lines: make(map[string]bool), by: make(map[string]int)}
	join := func(name string, most int) (c *consumer.Push, stop func() error, left chan struct{}, err error) {
		c = consumer.NewPush(s, "books", consumer.WithMember(name), consumer.WithOrder(consumer.PerQueue))
		left = make(chan struct{})
		err = c.Subscribe(topic, nil, l.handler(name, most, func() { close(left) }))
		return c, example.Start(ctx, c), left, err
	}
	ann, stopAnn, annLeaves, err := join("ann", leaves)
	if err != nil {
		return err
	}
	defer stopAnn()
	if err := example.Until(ctx, func() bool { return example.QueuesOf(ann, topic) == 1 }); err != nil {
		return err
	}
	_, stopBen, done, err := join("ben", entries)
	if err != nil {
		return err
	}
	defer stopBen()

	sent := make(chan error, 1)
	go func() { sent <- send(ctx, s) }()
	for what, c := range []chan struct{}{annLeaves, done} {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d entries: %w", l.count(), ctx.Err())
		case <-c:
		}
		if what == 0 {
			err = stopAnn()
		}
	}
	if err := errors.Join(err, stopBen(), <-sent); err != nil {
		return err
	}
	disorder := 0
	for i, at := range l.offsets {
		if at != int64(i) {
			disorder++
		}
	}
	t.Claim(len(l.offsets) == entries && len(l.lines) == entries, "%d entries of %d writers, %d different ones", len(l.offsets), writers, len(l.lines))
	t.Claim(disorder == 0, "%d out of the order in which they were stored", disorder)
	t.Claim(l.overlap == 0, "%d booked while another one was", l.overlap)
	t.Claim(l.by["ann"] >= leaves && l.by["ben"] > 0, "ann booked %d and left, ben %d", l.by["ann"], l.by["ben"])
	return nil
}

// send has all writers send their part.
func send(ctx context.Context, s *store.Store) error {
	p := producer.New(s)
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for n := w; n < entries && errs[w] == nil; n += writers {
				_, errs[w] = p.Send(ctx, &message.Message{Topic: topic, Body: strconv.AppendInt(nil, int64(n), 10)})
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, p.Close(ctx))...)
}
