package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// BenchmarkTransactions puts prepare and commit beside an OnDisk put, 64 producers
// each. The two take turns, because a disk is not the same a minute later;
// "of-put" is the median of the ratios of the turns.
func BenchmarkTransactions(b *testing.B) {
	const producers, turn = 64, 4000
	s, err := store.Open(b.TempDir())
	require.NoError(b, err)
	put := putter(s, benchMessage("orders", 1<<10))
	transact := func() func() error {
		m := benchMessage("orders", 1<<10)
		return func() error {
			_, id, err := s.Halves().Prepare(ctx, m, "g", message.HalfOptions{})
			if err == nil {
				_, _, err = s.Halves().Commit(ctx, id)
			}
			return err
		}
	}
	rate := func(op func() func() error, n int) float64 {
		begun := time.Now()
		produce(b, producers, n, op)
		return float64(n) / time.Since(begun).Seconds()
	}
	var ratios, rates []float64
	var syncs [2]int64
	for left := b.N; left > 0; left -= turn {
		n := max(producers, min(turn, left))
		before := s.Stats().Log.Syncs
		tx := rate(transact, n)
		between := s.Stats().Log.Syncs
		ratios, rates = append(ratios, tx/rate(put, n)), append(rates, tx)
		syncs[0], syncs[1] = syncs[0]+between-before, syncs[1]+s.Stats().Log.Syncs-between
	}
	slices.Sort(ratios)
	slices.Sort(rates)
	b.ReportMetric(ratios[len(ratios)/2], "of-put")
	b.ReportMetric(rates[len(rates)/2], "tx/s")
	b.ReportMetric(2*float64(b.N)/float64(syncs[0]), "tx-group")
	b.ReportMetric(float64(b.N)/float64(syncs[1]), "put-group")
	require.NoError(b, s.Close())
}
