// Fanout sends orders once and lets three departments work on them: stock,
// points and marketing. Each is a consumer group of its own: it reads every order,
// at its own speed, from where it has committed. The program checks that the books
// of all three agree with what was sent, although stock stops half way and goes
// on, and that nobody saw an order twice. The exit code is 1 if not.
//
//	go run ./examples/fanout
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

const (
	topic  = "orders"
	orders = 5000
	users  = 100
	// patience bounds the whole run, so that a hanging one fails.
	patience = time.Minute
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fanout:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dir, err := os.MkdirTemp("", "embermq-fanout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	total, err := sendOrders(ctx, s)
	if err != nil {
		return err
	}
	stock, points, marketing := newLedger(), newLedger(), newLedger()
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i, d := range []struct {
		group string
		l     *ledger
		stop  int
	}{{"stock", stock, orders / 2}, {"points", points, orders}, {"marketing", marketing, orders}} {
		wg.Go(func() { errs[i] = work(ctx, s, d.group, d.l, d.stop) })
	}
	wg.Wait()
	// Stock stopped half way. It goes on from its committed offsets.
	half := stock.count()
	errs = append(errs, work(ctx, s, "stock", stock, orders))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Printf("%d orders, %d items in all; stock stopped after %d\n", orders, total, half)
	for name, l := range map[string]*ledger{"stock": stock, "points": points, "marketing": marketing} {
		fmt.Printf("%-10s %d orders, %d items, %d twice, %d out of order\n", name, l.count(), l.items, l.twice, l.disorder)
		if l.count() != orders || l.items != total || l.twice > 0 || l.disorder > 0 {
			return fmt.Errorf("the books of %s do not agree", name)
		}
	}
	if half >= orders {
		return fmt.Errorf("stock did not stop half way")
	}
	return nil
}

// sendOrders sends orders keyed by user and returns how many items they have.
func sendOrders(ctx context.Context, s *store.Store) (total int, err error) {
	p := producer.New(s)
	var failed sync.Map
	for n := range orders {
		items := 1 + n%7
		total += items
		m := &message.Message{
			Topic:       topic,
			ShardingKey: "user-" + strconv.Itoa(n%users),
			Keys:        []string{"order-" + strconv.Itoa(n)},
			Body:        fmt.Appendf(nil, "%d %d", n, items),
		}
		p.SendAsync(ctx, m, func(_ message.Receipt, err error) {
			if err != nil {
				failed.Store(n, err)
			}
		})
	}
	if err := p.Close(ctx); err != nil {
		return 0, err
	}
	failed.Range(func(n, e any) bool {
		err = fmt.Errorf("order %v: %w", n, e.(error))
		return false
	})
	return total, err
}

// ledger is what a department has booked.
type ledger struct {
	seen            map[int]bool
	last            map[string]int // of each user
	items           int
	twice, disorder int
}

func newLedger() *ledger { return &ledger{seen: make(map[int]bool), last: make(map[string]int)} }

func (l *ledger) count() int { return len(l.seen) }

func (l *ledger) book(r *message.Record) error {
	order, items, ok := strings.Cut(string(r.Body()), " ")
	n, err1 := strconv.Atoi(order)
	k, err2 := strconv.Atoi(items)
	if !ok || err1 != nil || err2 != nil {
		return fmt.Errorf("an order reads %q", r.Body())
	}
	if l.seen[n] {
		l.twice++
	}
	user, _ := r.Property(message.PropShardingKey)
	user = strings.Clone(user)
	if last, ok := l.last[user]; ok && last > n {
		l.disorder++
	}
	l.seen[n], l.last[user] = true, n
	l.items += k
	return nil
}

// work books what the group has not committed yet, up to stop orders in all.
func work(ctx context.Context, s *store.Store, group string, l *ledger, stop int) error {
	n, err := s.QueueCount(topic)
	if err != nil {
		return err
	}
	for id := range int32(n) {
		q := message.Queue{Topic: topic, ID: id}
		at, _, err := s.Committed(ctx, group, q)
		if err != nil {
			return err
		}
		for l.count() < stop {
			b, err := s.Read(ctx, q, at, message.Limit{Count: 100}, nil)
			if err != nil {
				return err
			}
			if len(b.Records) == 0 {
				break
			}
			for i := range b.Records {
				if err := l.book(&b.Records[i]); err != nil {
					return err
				}
			}
			at = b.Next
			if err := s.Commit(ctx, group, map[message.Queue]int64{q: at}); err != nil {
				return err
			}
		}
	}
	return nil
}
