package embermqtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/embermqtest"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

// given stands for the *testing.T that a test function is given.
type given struct {
	testing.TB
	cleanups []func()
}

func (g *given) Helper()                  {}
func (g *given) Cleanup(f func())         { g.cleanups = append(g.cleanups, f) }
func (g *given) Context() context.Context { return context.Background() }
func (g *given) Error(args ...any)        { fmt.Println(args...) }
func (g *given) Errorf(s string, a ...any) {
	fmt.Printf(s+"\n", a...)
}
func (g *given) Fatalf(s string, a ...any) { panic(fmt.Sprintf(s, a...)) }

func (g *given) end() {
	for _, f := range slices.Backward(g.cleanups) {
		f()
	}
}

// A handler fails, and gets the message again after ten seconds that take no time.
func ExampleNew() {
	t := &given{} // func TestBilling(t *testing.T)
	defer t.end()
	ctx, stop := context.WithCancel(t.Context())
	s := embermqtest.New(t)

	p := producer.New(s, producer.WithClock(s.Clock()))
	if _, err := p.Send(ctx, &message.Message{Topic: "orders", Body: []byte("paid")}); err != nil {
		t.Fatalf("send: %v", err)
	}
	c := consumer.NewPush(s, "billing", consumer.WithClock(s.Clock()))
	_ = c.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
		fmt.Println(string(d.Body()), "at attempt", d.Attempt())
		if d.Attempt() == 1 {
			return errors.New("the bank does not answer")
		}
		stop()
		return nil
	}))
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	s.Eventually(t, "a retry waits", func() bool { return s.Timers().Len() == 1 })
	s.Advance(10 * time.Second)
	fmt.Println(<-ended)
	s.Delivered(t, "billing", "orders", 1)
	// Output:
	// paid at attempt 1
	// paid at attempt 2
	// <nil>
}

// What a crash leaves.
func ExampleStore_PowerCut() {
	t := &given{}
	defer t.end()
	s := embermqtest.New(t, store.WithDurability(message.InCache))
	put := func(body string, d message.Durability) {
		if _, err := s.Put(t.Context(), &message.Message{Topic: "orders", Body: []byte(body), Durability: d}); err != nil {
			t.Fatalf("put: %v", err)
		}
	}
	put("on disk", message.OnDisk)
	put("in cache", message.InCache)
	s = s.Kill() // the kernel has both
	fmt.Println(s.Bodies(t, "orders"))
	for seed := range uint64(20) {
		s = s.PowerCut(seed) // the first one stays, whatever the seed
	}
	fmt.Println(s.Bodies(t, "orders")[0])
	// Output:
	// [on disk in cache]
	// on disk
}

// The store's own methods, through which the assertions hear of changes.
func ExampleStore_Eventually() {
	t := &given{}
	defer t.end()
	s := embermqtest.New(t)
	q := message.Queue{Topic: "orders"}
	go func() {
		_, _ = s.PutBatch(t.Context(), []*message.Message{{Topic: "orders"}, {Topic: "orders"}})
		_ = s.Commit(t.Context(), "billing", map[message.Queue]int64{q: 2})
	}()
	s.Eventually(t, "the group has both", func() bool {
		n, _, _ := s.Committed(t.Context(), "billing", q)
		return n == 2
	})
	fmt.Println(len(s.Bodies(t, "orders")))
	// Output: 2
}
