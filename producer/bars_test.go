package producer_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

var bars = flag.Bool("bars", false, "measure Send beside Put, and SendAsync beside Send, and print a table")

// TestBars prints what a producer costs over its engine:
//
//	go test ./producer -run '^TestBars$' -bars -v
//
// The two take many short turns, and a ratio is the median of the ratios of the
// turns: a shared machine is not the same a minute later. It asserts nothing
// about time.
func TestBars(t *testing.T) {
	if !*bars {
		t.Skip("run with -bars")
	}
	ctx := context.Background()
	for _, d := range []message.Durability{message.InCache, message.OnDisk} {
		for _, size := range []int{100, 1024} {
			s := openStore(t, store.WithDurability(d))
			p := newProducer(t, s)
			m := benchMessage(size)
			turns, n := 101, 5000
			if d == message.OnDisk {
				turns, n = 21, 50
			}
			compare(t, fmt.Sprintf("Send/Put %v %d", d, size), turns, n,
				func(n int) { each(t, n, func() error { _, err := p.Send(ctx, m); return err }) },
				func(n int) {
					m := *m // the same bytes: round robin is part of them
					each(t, n, func() error {
						m.QueueID = (m.QueueID + 1) % 4
						_, err := s.Put(ctx, &m)
						return err
					})
				})
		}
	}
	for _, opts := range [][]producer.Option{nil, {producer.WithLinger(time.Millisecond, 64<<10)}} {
		s := openStore(t)
		p := newProducer(t, s, opts...)
		m := benchMessage(1024)
		compare(t, fmt.Sprintf("Send/SendAsync OnDisk 1024, linger %v", opts != nil), 11, 200,
			func(n int) { each(t, n, func() error { _, err := p.Send(ctx, m); return err }) },
			func(n int) {
				var wg sync.WaitGroup
				wg.Add(n)
				for range n {
					p.SendAsync(ctx, m, func(_ message.Receipt, err error) {
						if err != nil {
							t.Error(err)
						}
						wg.Done()
					})
				}
				wg.Wait()
			})
	}
}

func each(t *testing.T, n int, f func() error) {
	t.Helper()
	for range n {
		if err := f(); err != nil {
			require.NoError(t, err)
		}
	}
}

// compare prints the median of a, of b and of a/b.
func compare(t *testing.T, name string, turns, n int, a, b func(n int)) {
	t.Helper()
	var as, bs, ratios []float64
	a(n)
	b(n)
	for range turns {
		began := time.Now()
		a(n)
		x := float64(time.Since(began)) / float64(n)
		began = time.Now()
		b(n)
		y := float64(time.Since(began)) / float64(n)
		as, bs, ratios = append(as, x), append(bs, y), append(ratios, x/y)
	}
	for _, v := range [][]float64{as, bs, ratios} {
		slices.Sort(v)
	}
	mid := turns / 2
	fmt.Printf("%-42s %10.0f ns %10.0f ns  ratio %.3f\n", name, as[mid], bs[mid], ratios[mid])
}
