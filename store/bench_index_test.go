package store_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// BenchmarkIndexCost puts the same messages with a key and without: what the
// index costs a Put. Compare the two in one run.
func BenchmarkIndexCost(b *testing.B) {
	for _, keys := range []struct {
		name string
		keys []string
	}{{"keys=0", nil}, {"keys=1", []string{"order-4711"}}} {
		b.Run(keys.name, func(b *testing.B) {
			s, err := store.Open(b.TempDir(), store.WithDurability(message.InCache))
			require.NoError(b, err)
			m := &message.Message{Topic: "orders", Body: make([]byte, 1024), Keys: keys.keys}
			ctx := context.Background()
			b.SetBytes(1024)
			for b.Loop() {
				if _, err := s.Put(ctx, m); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			require.NoError(b, s.Close())
		})
	}
}
