// Peakshaving takes a burst of ten times what its consumer may handle in a second.
// The producer is done at once; the consumer works at its set rate, so that what
// is behind it (a database, say) sees no peak. Then three more consumers of the
// group help, and the rest goes as much faster. The program checks the rate, the
// time, and that each message was handled once. The exit code is 1 if not.
//
//	go run ./examples/peakshaving
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
	topic   = "requests"
	queues  = 8
	rate    = 400 // a second, of one consumer
	burst   = 10 * rate
	spare   = 10 // what a consumer may do at once after a pause
	helpers = 3
)

func main() { example.Main("peakshaving", run) }

// backend is what must not see the peak.
type backend struct {
	mu    sync.Mutex
	calls map[string][]time.Time // by consumer
	seen  map[string]int
}

func (b *backend) handler(name string) consumer.Handler {
	return consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.calls[name] = append(b.calls[name], time.Now())
		b.seen[string(d.Body())]++
		return nil
	})
}

func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.seen)
}

// excess is how many calls of a consumer in a row came beyond its rate, at the worst:
// of any stretch of its calls, those above spare and what its time allows.
func excess(calls []time.Time) float64 {
	worst, credit := 0.0, float64(spare)
	for i, at := range calls {
		if i > 0 {
			credit = min(spare, credit+rate*at.Sub(calls[i-1]).Seconds())
		}
		credit--
		worst = max(worst, -credit)
	}
	return worst
}

func run(ctx context.Context, dir string, t *example.Table) (err error) {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.CreateTopic(ctx, store.Topic{Name: topic, WriteQueues: queues}); err != nil {
		return err
	}
	b := &backend{calls: make(map[string][]time.Time), seen: make(map[string]int)}
	join := func(name string) (stop func() error, err error) {
		c := consumer.NewPush(s, "backend", consumer.WithMember(name), consumer.WithWorkers(1), consumer.WithRate(rate, spare))
		err = c.Subscribe(topic, nil, b.handler(name))
		return example.Start(ctx, c), err
	}

	began := time.Now()
	stop, err := join("first")
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	if err := send(ctx, s); err != nil {
		return err
	}
	sent, left := time.Since(began), burst-b.count()
	if err := example.Until(ctx, func() bool { return b.count() >= rate }); err != nil {
		return err
	}
	alone := time.Since(began)
	for n := range helpers {
		stop, err := join(fmt.Sprint("helper-", n))
		defer func() { _ = stop() }()
		if err != nil {
			return err
		}
	}
	if err := example.Until(ctx, func() bool { return b.count() == burst }); err != nil {
		return fmt.Errorf("%d of %d handled: %w", b.count(), burst, err)
	}
	took := time.Since(began)

	b.mu.Lock()
	defer b.mu.Unlock()
	round := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	t.Claim(left > burst/2, "%d messages sent in %v; %d of them waited then", burst, round(sent), left)
	twice := 0
	for _, n := range b.seen {
		twice += n - 1
	}
	t.Claim(len(b.seen) == burst && twice == 0, "%d handled, %d of them twice", len(b.seen), twice)
	t.Claim(alone >= time.Duration(rate-spare-1)*time.Second/rate, "alone the first consumer needed %v for %d", round(alone), rate)
	for name, calls := range b.calls {
		// A call is noted a moment after it was allowed, by more or less.
		t.Claim(excess(calls) < rate/10, "%-8s  handled %4d, at most %.0f more at a time than %d a second", name, len(calls), excess(calls), rate)
	}
	t.Claim(len(b.calls) == 1+helpers && took < burst/rate*time.Second, "%d consumers needed %v, one would have needed %v",
		len(b.calls), round(took), burst/rate*time.Second)
	return nil
}

// send sends the burst.
func send(ctx context.Context, s *store.Store) error {
	p := producer.New(s)
	for n := range burst {
		p.SendAsync(ctx, &message.Message{Topic: topic, Body: fmt.Append(nil, n)}, nil)
	}
	if err := p.Close(ctx); err != nil {
		return err
	}
	if f := p.Stats().Failed; f > 0 {
		return fmt.Errorf("%d messages could not be sent", f)
	}
	return nil
}
