// Bank moves money from Bob to Smith, who are customers of two banks. Bob's bank
// books a transfer and sends a message about it in one transaction, as a half
// message: Smith's bank sees it only if Bob's has booked. One transfer is committed,
// one rolled back, and about one the bank forgets to tell, so that it is asked.
// Smith's bank fails, is tried again, and is closed for so long that one transfer
// becomes a dead letter, which somebody sends again by hand. The program checks
// every step, and that the balances agree at the end. The exit code is 1 if not.
//
//	go run ./examples/bank
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
	topic    = "transfers"
	group    = "smiths-bank"
	start    = 100 // Bob's balance; Smith's is zero
	attempts = 3
)

func main() { example.Main("bank", run) }

var (
	errShort  = errors.New("balance too low")
	errClosed = errors.New("the bank is closed")
)

// account stands for a bank's database: a balance, and by id what was booked.
type account struct {
	mu      sync.Mutex
	balance int
	booked  map[string]int
	closed  bool
	visits  map[string]int // how often each transfer was brought
}

func newAccount(balance int) *account {
	return &account{balance: balance, booked: make(map[string]int), visits: make(map[string]int)}
}

// book changes the balance, once for each id, however often it is called.
func (a *account) book(id string, amount int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.visits[id]++
	switch _, done := a.booked[id]; {
	case done:
		return nil
	case a.closed:
		return errClosed
	case a.balance+amount < 0:
		return errShort
	}
	a.balance += amount
	a.booked[id] = amount
	return nil
}

func (a *account) knows(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.booked[id]
	return ok
}

func (a *account) setClosed(closed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = closed
}

func run(ctx context.Context, dir string, t *example.Table) (err error) {
	// Ask soon about halves without a verdict; an application waits longer.
	s, err := store.Open(dir, store.WithTransactions(store.Transactions{Timeout: 50 * time.Millisecond, Interval: 50 * time.Millisecond}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	bob, smith := newAccount(start), newAccount(0)
	asked := make(chan string, 16)
	p, err := producer.NewTx(s.Halves(), "bobs-bank", func(_ context.Context, h *message.Half) (message.Decision, error) {
		id := h.Message.Keys[0]
		asked <- id
		if bob.knows(id) {
			return message.Committed, nil
		}
		return message.RolledBack, nil
	}, producer.TxOptions{})
	if err != nil {
		return err
	}
	defer p.Close()
	smiths := consumer.NewPush(s, group, consumer.WithMaxAttempts(attempts), consumer.WithRetry(consumer.Steps(5*time.Millisecond)))
	if err := smiths.Subscribe(topic, nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error { return receive(smith, d) })); err != nil {
		return err
	}
	stop := example.Start(ctx, smiths)
	defer func() { err = errors.Join(err, stop()) }()
	pay := func(id string, amount int, after error) (message.Decision, error) {
		m := &message.Message{Topic: topic, Keys: []string{id}, Body: fmt.Appendf(nil, "%s %d", id, amount)}
		_, how, err := p.Send(ctx, m, func(context.Context, message.HalfID) error {
			return errors.Join(bob.book(id, -amount), after)
		})
		return how, err
	}

	// The first: committed. Smith's bank fails once, see receive.
	how, err := pay("t1", 30, nil)
	if err := errors.Join(err, example.Until(ctx, func() bool { return smith.knows("t1") })); err != nil {
		return err
	}
	t.Claim(how == message.Committed, "t1, 30: %v, booked by smith's bank at attempt %d", how, smith.visits["t1"])

	// The second: Bob has not so much.
	how, err = pay("t2", 500, nil)
	t.Claim(how == message.RolledBack && errors.Is(err, errShort), "t2, 500: %v, %v", how, err)

	// The third: booked, but the answer is lost. And Smith's bank is closed.
	smith.setClosed(true)
	how, err = pay("t3", 20, fmt.Errorf("no answer: %w", producer.ErrUndecided))
	t.Claim(how == message.Undecided && errors.Is(err, producer.ErrUndecided), "t3, 20: %v at first", how)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case id := <-asked:
		t.Claim(id == "t3", "the store has asked bob's bank about %s", id)
	}
	if err := example.Until(ctx, func() bool { return s.DeadLetters().Count(group) == 1 }); err != nil {
		return err
	}
	for l, err := range s.DeadLetters().All(ctx, group) {
		if err != nil {
			return err
		}
		t.Claim(l.Attempts == attempts, "%q is a dead letter after %d attempts", l.Record.Body(), l.Attempts)
	}
	t.Claim(bob.balance+smith.balance == start-20, "20 are on their way: bob %d, smith %d", bob.balance, smith.balance)

	// Somebody opens the bank and sends the dead letter again, to this group alone.
	smith.setClosed(false)
	sent, err := s.DeadLetters().Redrive(ctx, group, store.Redrive{To: message.PrefixRetry + group})
	if err := errors.Join(err, example.Until(ctx, func() bool { return smith.knows("t3") }), stop()); err != nil {
		return err
	}
	t.Claim(sent == 1 && s.DeadLetters().Count(group) == 0, "%d dead letter sent again, %d left", sent, s.DeadLetters().Count(group))
	t.Claim(bob.balance == 50 && smith.balance == 50, "bob has %d, smith has %d", bob.balance, smith.balance)
	t.Claim(!smith.knows("t2") && smith.visits["t2"] == 0, "smith's bank never saw t2")
	t.Claim(s.Halves().Len() == 0, "%d transfers wait for a verdict", s.Halves().Len())
	return nil
}

// receive books what a message brings. The line is bad when t1 comes first.
func receive(smith *account, d *consumer.Delivery) error {
	var id string
	var amount int
	if _, err := fmt.Sscanf(string(d.Body()), "%s %d", &id, &amount); err != nil {
		return consumer.DeadLetter("not a transfer")
	}
	if id == "t1" && d.Attempt() == 1 {
		smith.mu.Lock()
		defer smith.mu.Unlock()
		smith.visits[id]++
		return errors.New("the line is bad")
	}
	return smith.book(id, amount)
}
