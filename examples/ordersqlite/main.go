// Ordersqlite takes orders into a SQLite database and sends a message about each, so
// that there is a message if and only if there is an order. The message is prepared,
// the order's row and a marker go into one transaction of SQLite, the message is
// committed. The process dies at every point in between; after the next start the
// database itself says what became of an order. Shipping reads the messages and
// keeps its place in the same database, in the transaction that makes a shipment,
// so each order is shipped once although a delivery is repeated. The program checks
// both tables against the messages. The exit code is 1 if they disagree.
//
//	cd examples/ordersqlite && go run .
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/examples/internal/example"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
	"github.com/embermq/embermq/txn/sqltx"
)

const (
	topic  = "orders"
	group  = "orders" // of the producers
	orders = 40
)

// fates of an order, one after the other.
var fates = []string{"fine", "refused", "dies before the transaction", "dies after the transaction"}

func fate(n int) string { return fates[n%len(fates)] }

func main() { example.Main("ordersqlite", run) }

// shop is the process: a store and a database.
type shop struct {
	s  *store.Store
	db *sql.DB
	r  *sqltx.Resource
}

func openShop(ctx context.Context, dir string, opts ...store.Option) (*shop, error) {
	s, err := store.Open(filepath.Join(dir, "store"), opts...)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(dir, "shop.db")))
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	db.SetMaxOpenConns(1) // SQLite has one writer
	h := &shop{s: s, db: db}
	if h.r, err = sqltx.New(db, s.Halves(), sqltx.Options{}); err == nil {
		err = h.r.Create(ctx)
	}
	if err == nil {
		_, err = db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY); CREATE TABLE IF NOT EXISTS shipments (id TEXT)")
	}
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *shop) close() error { return errors.Join(h.s.Close(), h.db.Close()) }

// inTx runs f in a transaction, which is rolled back when f fails.
func (h *shop) inTx(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

var errRefused = errors.New("not in stock")

// place takes an order, as far as its fate allows. It returns the id of its message.
func (h *shop) place(ctx context.Context, id, fate string) (message.HalfID, error) {
	m := &message.Message{Topic: topic, Keys: []string{id}, Body: []byte(id)}
	_, half, err := h.s.Halves().Prepare(ctx, m, group, message.HalfOptions{})
	if err != nil || fate == "dies before the transaction" {
		return half, err
	}
	err = h.insert(ctx, id, half, fate == "refused")
	switch {
	case errors.Is(err, errRefused):
		_, err = h.s.Halves().Rollback(ctx, half)
	case err == nil && fate != "dies after the transaction":
		_, _, err = h.s.Halves().Commit(ctx, half)
	}
	return half, err
}

// insert is the application's transaction: the order and the marker of its message.
func (h *shop) insert(ctx context.Context, id string, half message.HalfID, refuse bool) error {
	return h.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO orders (id) VALUES (?)", id); err != nil {
			return err
		}
		if refuse {
			return errRefused
		}
		return h.r.Mark(ctx, tx, half)
	})
}

// ship makes shipments of orders until all of them were read. Every tenth delivery
// fails after its transaction was committed.
func (h *shop) ship(ctx context.Context) (failed int64, err error) {
	var failures atomic.Int64
	c := consumer.NewPush(h.s, "shipping", consumer.WithOrder(consumer.PerQueue), consumer.WithSuspension(time.Millisecond),
		consumer.WithDeduper(consumer.DedupeInTransaction(h.r)))
	err = c.Subscribe(topic, nil, consumer.One(func(ctx context.Context, d *consumer.Delivery) error {
		err := h.inTx(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, "INSERT INTO shipments (id) VALUES (?)", string(d.Body())); err != nil {
				return err
			}
			return h.r.Advance(ctx, tx, "shipping", d.Queue(), d.Offset(), d.Offset()+1)
		})
		if err == nil && d.Offset()%10 == 3 {
			failures.Add(1)
			err = errors.New("the answer is lost") // it comes again and is passed over
		}
		return err
	}))
	if err != nil {
		return 0, err
	}
	stop := example.Start(ctx, c)
	done := func() bool {
		lag, err := h.s.Lag(ctx, "shipping", topic)
		return err == nil && lag.Records == 0
	}
	err = errors.Join(example.Until(ctx, done), stop())
	return failures.Load(), err
}

// list returns the ids in a table, sorted.
func (h *shop) list(ctx context.Context, table string) (ids []string, err error) {
	rows, err := h.db.QueryContext(ctx, "SELECT id FROM "+table+" ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func run(ctx context.Context, dir string, t *example.Table) (err error) {
	h, err := openShop(ctx, dir)
	if err != nil {
		return err
	}
	halves := make([]message.HalfID, orders)
	var want []string
	for n := range halves {
		id := fmt.Sprintf("order-%02d", n)
		if halves[n], err = h.place(ctx, id, fate(n)); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", id, err), h.close())
		}
		if f := fate(n); f == "fine" || f == "dies after the transaction" {
			want = append(want, id)
		}
	}
	if err := h.close(); err != nil {
		return err
	}

	// The next start. The database is asked soon, for the example's sake.
	h, err = openShop(ctx, dir, store.WithTransactions(store.Transactions{Timeout: 20 * time.Millisecond}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	pending := h.s.Halves().Len()
	t.Claim(pending == orders/2, "%d of %d messages have no verdict after the start", pending, orders)
	if _, err := h.s.Halves().Attach(group, h.r, message.CheckOptions{}); err != nil {
		return err
	}
	if err := example.Until(ctx, func() bool { return h.s.Halves().Len() == 0 }); err != nil {
		return err
	}
	right := make(map[string]int)
	for n, half := range halves {
		how, err := h.s.Halves().State(half)
		if err != nil {
			return err
		}
		if ordered := slices.Contains(want, fmt.Sprintf("order-%02d", n)); ordered == (how == message.Committed) {
			right[fate(n)]++
		}
	}
	for _, f := range fates {
		t.Claim(right[f] == orders/len(fates), "%-28s %d of %d decided as the database says", f+":", right[f], orders/len(fates))
	}
	// The transaction of one that was given up comes after all, and is refused.
	err = h.insert(ctx, "order-02", halves[2], false)
	t.Claim(errors.Is(err, message.ErrFenced), "too late: %v", err)

	failed, err := h.ship(ctx)
	if err != nil {
		return err
	}
	placed, err := h.list(ctx, "orders")
	if err != nil {
		return err
	}
	shipped, err := h.list(ctx, "shipments")
	if err != nil {
		return err
	}
	t.Claim(slices.Equal(placed, want), "%d orders in the database", len(placed))
	t.Claim(slices.Equal(shipped, want), "%d shipments, each order once, although %d deliveries were repeated", len(shipped), failed)
	return nil
}
