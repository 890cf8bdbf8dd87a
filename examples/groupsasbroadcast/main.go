// Groupsasbroadcast gives every instance of a service all messages without a
// broadcasting group: each instance has a clustering group of its own. That costs
// progress in the store for every instance, and brings what broadcasting does not
// have: failed messages come again, what fails for good is a dead letter of that
// instance, and how far each one is behind can be asked. The program checks all of
// that, and that an instance which restarts misses nothing. The exit code is 1 if
// not.
//
//	go run ./examples/groupsasbroadcast
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/examples/internal/example"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

const (
	topic    = "settings"
	messages = 200 // in each of two parts
	bad      = "137"
)

func main() { example.Main("groupsasbroadcast", run) }

// instance is one process of the service.
type instance struct {
	group string // its own
	flaky bool   // every tenth message fails at first, and one for ever

	mu      sync.Mutex
	got     map[string]int
	retried int
}

func (i *instance) handle(_ context.Context, d *consumer.Delivery) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	body := string(d.Body())
	if i.flaky && (body == bad || body[len(body)-1] == '0' && d.Attempt() == 1) {
		return errors.New("the disk is full")
	}
	if d.Attempt() > 1 {
		i.retried++
	}
	i.got[body]++
	return nil
}

func (i *instance) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.got)
}

// work handles messages until the instance has so many.
func (i *instance) work(ctx context.Context, s *store.Store, until int) error {
	c := consumer.NewPush(s, i.group, consumer.WithRetry(consumer.Steps(5*time.Millisecond)), consumer.WithMaxAttempts(3))
	if err := c.Subscribe(topic, nil, consumer.One(i.handle)); err != nil {
		return err
	}
	stop := example.Start(ctx, c)
	err := example.Until(ctx, func() bool { return i.count()+int(s.DeadLetters().Count(i.group)) >= until })
	return errors.Join(err, stop())
}

func run(ctx context.Context, dir string, t *example.Table) (err error) {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	instances := []*instance{{group: "settings-berlin"}, {group: "settings-oslo", flaky: true}, {group: "settings-rome"}}
	for _, i := range instances {
		i.got = make(map[string]int)
	}
	rome := instances[2]
	both := func(is []*instance, until int) error {
		var wg sync.WaitGroup
		errs := make([]error, len(is))
		for n, i := range is {
			wg.Go(func() { errs[n] = i.work(ctx, s, until) })
		}
		wg.Wait()
		return errors.Join(errs...)
	}

	if err := errors.Join(send(ctx, s, 0), both(instances, messages)); err != nil {
		return err
	}
	// Rome is down while the second part comes.
	if err := errors.Join(send(ctx, s, messages), both(instances[:2], 2*messages)); err != nil {
		return err
	}
	var behind [3]int64
	for n, i := range instances {
		lag, err := s.Lag(ctx, i.group, topic)
		if err != nil {
			return err
		}
		behind[n] = lag.Records
	}
	t.Claim(behind == [3]int64{0, 0, messages}, "behind while rome is down: berlin %d, oslo %d, rome %d", behind[0], behind[1], behind[2])
	if err := rome.work(ctx, s, 2*messages); err != nil {
		return err
	}

	for _, i := range instances {
		twice, dead := 0, s.DeadLetters().Count(i.group)
		for _, n := range i.got {
			twice += n - 1
		}
		want := int64(0)
		if i.flaky {
			want = 1
		}
		t.Claim(int64(len(i.got))+want == 2*messages && dead == want && twice == 0,
			"%-15s  %d of %d messages, %d twice, %d as a dead letter", i.group, len(i.got), 2*messages, twice, dead)
		t.Claim(i.flaky == (i.retried > 0), "%-15s  %d came again after a failure", i.group, i.retried)
	}
	for l, err := range s.DeadLetters().All(ctx, "settings-oslo") {
		if err != nil {
			return err
		}
		t.Claim(string(l.Record.Body()) == bad && l.Attempts == 3, "oslo's dead letter is message %s, after %d attempts", l.Record.Body(), l.Attempts)
	}
	return nil
}

// send sends a part.
func send(ctx context.Context, s *store.Store, from int) error {
	p := producer.New(s)
	for n := from; n < from+messages; n++ {
		if _, err := p.Send(ctx, &message.Message{Topic: topic, Body: fmt.Append(nil, n)}); err != nil {
			return err
		}
	}
	return p.Close(ctx)
}
