// Ordertimeout cancels orders that were not paid in time. With each order goes a
// message that is delivered later; whoever pays takes it back. The program checks
// that paid orders stay, that the others are cancelled, none too early, also when
// the store was closed at that time, and that an extension counts. The exit code is
// 1 if not.
//
//	go run ./examples/ordertimeout
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
	"github.com/embermq/embermq/schedule"
	"github.com/embermq/embermq/store"
)

const (
	topic  = "order-timeouts"
	orders = 120
	delay  = 400 * time.Millisecond
)

func main() { example.Main("ordertimeout", run) }

type state int

const (
	open state = iota
	paid
	cancelled
)

// order is one, with the timer that is to cancel it.
type order struct {
	state state
	timer message.TimerID
	due   time.Time
	ended time.Time // when it was cancelled
}

// shop has the orders.
type shop struct {
	mu     sync.Mutex
	orders map[string]*order
}

// place takes an order and sends the message that will cancel it.
func (h *shop) place(ctx context.Context, p *producer.Producer, id string) error {
	due := time.Now().Add(delay)
	r, err := p.Send(ctx, &message.Message{Topic: topic, Keys: []string{id}, Body: []byte(id), DeliverAt: due})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.orders[id] = &order{timer: r.Timer, due: due}
	return nil
}

// pay takes the message back. One that has been delivered meanwhile finds that the
// order is paid, or was first.
func (h *shop) pay(ctx context.Context, s *store.Store, id string) (schedule.Outcome, error) {
	h.mu.Lock()
	o := h.orders[id]
	if o.state == open {
		o.state = paid
	}
	h.mu.Unlock()
	return s.Timers().Cancel(ctx, o.timer)
}

// expire is the handler of the timeouts.
func (h *shop) expire(_ context.Context, d *consumer.Delivery) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.orders[string(d.Body())]
	if o == nil {
		return consumer.DeadLetter("no such order")
	}
	if o.state == open {
		o.state, o.ended = cancelled, time.Now()
	}
	return nil
}

func (h *shop) count(s state) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.orders {
		if o.state == s {
			n++
		}
	}
	return n
}

// survey counts the messages that wait, and those that were delivered.
func survey(s *store.Store) (waiting, due int64, err error) {
	n, err := s.QueueCount(topic)
	if err != nil {
		return 0, 0, err
	}
	waiting = s.Timers().Count(topic)
	for id := range int32(n) {
		_, end, err := s.Bounds(message.Queue{Topic: topic, ID: id})
		if err != nil {
			return 0, 0, err
		}
		due += end
	}
	return waiting, due, nil
}

func run(ctx context.Context, dir string, t *example.Table) (err error) {
	h := &shop{orders: make(map[string]*order)}
	taken, moved := 0, 0
	if err := func() (err error) {
		s, err := store.Open(dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		p := producer.New(s)
		for n := range orders {
			id := fmt.Sprint("order-", n)
			if err := h.place(ctx, p, id); err != nil {
				return err
			}
			// Every third order is paid; every third one after it gets twice the time.
			var how schedule.Outcome
			switch o := h.orders[id]; n % 3 {
			case 0:
				if how, err = h.pay(ctx, s, id); how == schedule.Cancelled {
					taken++
				}
			case 1:
				o.due = o.due.Add(delay)
				if how, err = s.Timers().Reschedule(ctx, o.timer, o.due); how == schedule.Rescheduled {
					moved++
				}
			}
			if err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
		}
		t.Claim(taken == orders/3 && moved == orders/3, "%d orders paid and their messages taken back, %d got more time", taken, moved)
		waiting, due, err := survey(s)
		if err != nil {
			return err
		}
		// One that is delivered between the two counts is in both.
		t.Claim(waiting <= orders*2/3 && waiting+due >= orders*2/3, "%d messages wait when the store is closed, %d are due", waiting, due)
		return p.Close(ctx)
	}(); err != nil {
		return err
	}

	// What is due while nobody is there comes after the next Open.
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	c := consumer.NewPush(s, "shop")
	if err := c.Subscribe(topic, nil, consumer.One(h.expire)); err != nil {
		return err
	}
	stop := example.Start(ctx, c)
	defer func() { err = errors.Join(err, stop()) }()
	if err := example.Until(ctx, func() bool { return h.count(cancelled) == orders*2/3 }); err != nil {
		return fmt.Errorf("%d orders cancelled: %w", h.count(cancelled), err)
	}
	if err := stop(); err != nil {
		return err
	}
	early := 0
	for _, o := range h.orders {
		// A due time is kept in whole milliseconds.
		if o.state == cancelled && o.ended.Before(o.due.Truncate(time.Millisecond)) {
			early++
		}
	}
	t.Claim(h.count(paid) == orders/3, "%d paid orders stay", h.count(paid))
	t.Claim(h.count(cancelled) == orders*2/3 && early == 0, "%d unpaid orders cancelled, %d of them too early", h.count(cancelled), early)
	t.Claim(s.Timers().Len() == 0, "%d messages wait at the end", s.Timers().Len())
	return nil
}
