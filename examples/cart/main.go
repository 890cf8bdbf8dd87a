// Cart empties a customer's cart after an order. The shop makes the order in its
// database and sends a message about it as one transaction; the carts, a service of
// their own, take what was ordered out. The shop dies between the two steps several
// times. After the next start the store asks it about each message, by the order's
// id, and the orders' table has the answer. The program checks that a cart lost its
// articles if and only if there is an order, and that what was put in later stayed.
// The exit code is 1 if not.
//
//	go run ./examples/cart
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/examples/internal/example"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

const (
	topic  = "ordered"
	orders = 80
)

func main() { example.Main("cart", run) }

// order is what the shop stores and the message carries.
type order struct {
	ID       string
	Customer string
	Articles []string
}

// database stands for the tables of the shop and of the carts: both outlive their
// process.
type database struct {
	mu     sync.Mutex
	orders map[string]order
	carts  map[string]map[string]bool
	asked  map[string]int // check-backs, by the order's id
}

// fates of an order, one after the other.
var (
	errSoldOut = errors.New("sold out")
	fates      = []string{"fine", "sold out", "dies after the order", "dies before the order"}
)

func fate(n int) string { return fates[n%len(fates)] }

// place is the local transaction.
func (db *database) place(o order, fate string) error {
	switch fate {
	case "sold out":
		return errSoldOut
	case "dies before the order":
		panic("the power is gone")
	}
	db.mu.Lock()
	db.orders[o.ID] = o
	db.mu.Unlock()
	if fate == "dies after the order" {
		panic("the power is gone")
	}
	return nil
}

// check is asked about a message without a verdict: is there an order of that id?
func (db *database) check(_ context.Context, h *message.Half) (message.Decision, error) {
	if len(h.Message.Keys) != 1 {
		return message.Undecided, fmt.Errorf("half %s names no order", h.ID)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	id := h.Message.Keys[0]
	db.asked[id]++
	if _, ok := db.orders[id]; ok {
		return message.Committed, nil
	}
	return message.RolledBack, nil
}

// empty takes what was ordered out of a cart; twice does no harm.
func (db *database) empty(_ context.Context, d *consumer.Delivery) error {
	var o order
	if err := json.Unmarshal(d.Body(), &o); err != nil {
		return consumer.DeadLetter(err.Error())
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, a := range o.Articles {
		delete(db.carts[o.Customer], a)
	}
	return nil
}

// shop sends the orders of a range of customers, until the process ends.
func shop(ctx context.Context, dir string, db *database, from, to int) (err error) {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	p, err := producer.NewTx(s.Halves(), "shop", db.check, producer.TxOptions{Queues: s.QueueCount})
	if err != nil {
		return err
	}
	defer p.Close()
	for n := from; n < to; n++ {
		o := order{ID: fmt.Sprint("order-", n), Customer: fmt.Sprint("customer-", n), Articles: []string{"apples", "bread"}}
		body, err := json.Marshal(o)
		if err != nil {
			return err
		}
		db.mu.Lock()
		db.carts[o.Customer] = map[string]bool{"apples": true, "bread": true}
		db.mu.Unlock()
		m := &message.Message{Topic: topic, ShardingKey: o.Customer, Keys: []string{o.ID}, Body: body}
		_, how, err := p.Send(ctx, m, func(context.Context, message.HalfID) error { return db.place(o, fate(n)) })
		// A panic is as good as an end of the process: nobody gives the verdict.
		want := map[string]message.Decision{"fine": message.Committed, "sold out": message.RolledBack}[fate(n)]
		if how != want {
			return fmt.Errorf("%s: %v instead of %v: %w", o.ID, how, want, err)
		}
		db.mu.Lock()
		db.carts[o.Customer]["milk"] = true // while the message is on its way
		db.mu.Unlock()
	}
	return nil
}

func run(ctx context.Context, dir string, t *example.Table) (err error) {
	db := &database{orders: make(map[string]order), carts: make(map[string]map[string]bool), asked: make(map[string]int)}
	if err := errors.Join(shop(ctx, dir, db, 0, orders/2), shop(ctx, dir, db, orders/2, orders)); err != nil {
		return err
	}
	undecided := orders / 2

	// The next start. Asked soon, for the example's sake.
	s, err := store.Open(dir, store.WithTransactions(store.Transactions{Timeout: 20 * time.Millisecond}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	pending := s.Halves().Len()
	t.Claim(pending == int64(undecided), "%d of %d orders have no verdict", pending, orders)
	p, err := producer.NewTx(s.Halves(), "shop", db.check, producer.TxOptions{})
	if err != nil {
		return err
	}
	defer p.Close()
	carts := consumer.NewPush(s, "carts")
	if err := carts.Subscribe(topic, nil, consumer.One(db.empty)); err != nil {
		return err
	}
	stop := example.Start(ctx, carts)
	defer func() { err = errors.Join(err, stop()) }()
	settled := func() bool {
		lag, err := s.Lag(ctx, "carts", topic)
		return s.Halves().Len() == 0 && err == nil && lag.Records == 0
	}
	if err := errors.Join(example.Until(ctx, settled), stop()); err != nil {
		return err
	}

	right := make(map[string]int)
	for n := range orders {
		_, ordered := db.orders[fmt.Sprint("order-", n)]
		left := slices.Sorted(maps.Keys(db.carts[fmt.Sprint("customer-", n)]))
		if ordered && slices.Equal(left, []string{"milk"}) || !ordered && slices.Equal(left, []string{"apples", "bread", "milk"}) {
			right[fate(n)]++
		}
	}
	for _, f := range fates {
		t.Claim(right[f] == orders/len(fates), "shop %-21s  %d of %d carts are right", f+":", right[f], orders/len(fates))
	}
	once := 0
	for _, n := range db.asked {
		if n == 1 {
			once++
		}
	}
	t.Claim(once == undecided && len(db.asked) == undecided, "asked about %d orders by their ids, about %d of them once", len(db.asked), once)
	return nil
}
