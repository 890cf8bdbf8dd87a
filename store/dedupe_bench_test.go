package store_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// BenchmarkPutDedupe puts messages with ever new keys into a store without the
// option, into one with it, and into one that knows a million keys already;
// "again" puts one key, which is stored once.
func BenchmarkPutDedupe(b *testing.B) {
	const many = 1_000_000
	for _, c := range []struct {
		name  string
		fill  int
		again bool
		opts  []store.Option
	}{
		{name: "off"},
		{name: "on", opts: []store.Option{store.WithDedupe(time.Hour, 1<<26)}},
		{name: "on/known=1M", fill: many, opts: []store.Option{store.WithDedupe(time.Hour, 1<<26)}},
		{name: "full=1M", fill: many, opts: []store.Option{store.WithDedupe(time.Hour, many)}},
		{name: "again", fill: many, again: true, opts: []store.Option{store.WithDedupe(time.Hour, many)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s, err := store.Open(b.TempDir(), append(c.opts, store.WithDurability(message.InCache))...)
			require.NoError(b, err)
			b.Cleanup(func() { require.NoError(b, s.Close()) })
			m := &message.Message{Topic: "t", Body: make([]byte, 100)}
			n := 0
			put := func() {
				m.IdempotencyKey = "order-" + strconv.Itoa(n)
				n++
				if _, err := s.Put(ctx, m); err != nil {
					b.Fatal(err)
				}
			}
			for range c.fill {
				put()
			}
			b.ReportAllocs()
			for b.Loop() {
				if c.again {
					n = many - 1
				}
				put()
			}
		})
	}
}
