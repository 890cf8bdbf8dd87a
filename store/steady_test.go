package store_test

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// A steady Put allocates nothing: what it needs comes from pools that a garbage
// collection empties now and then, which is less than one in a run.
func TestSteadyPutAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop things at random under the race detector")
	}
	for _, d := range []message.Durability{message.InCache, message.OnDisk} {
		t.Run(d.String(), func(t *testing.T) {
			s := open(t, t.TempDir(), store.WithDurability(d))
			m, ctx := benchMessage("orders", 1<<10), context.Background()
			for range 2000 { // tails and pools grow to what they need
				put(t, s, m)
			}
			require.Zero(t, testing.AllocsPerRun(500, func() {
				if _, err := s.Put(ctx, m); err != nil {
					t.Fatal(err)
				}
			}))
		})
	}
}

func TestSteadyScanAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop things at random under the race detector")
	}
	s := open(t, t.TempDir(), store.WithDurability(message.InCache))
	const n = 5000
	fill(t, s, "orders", 1<<10, n)
	f, err := message.Tags("paid || refunded")
	require.NoError(t, err)
	q := message.Queue{Topic: "orders"}
	for name, filter := range map[string]message.Filter{"all": nil, "by tag": f} {
		t.Run(name, func(t *testing.T) {
			took, from := 0, int64(0)
			lend := func(r *message.Record) error {
				if v, ok := r.Property("region"); !ok || v != "north" || r.Tag() != "paid" {
					t.Error("another record")
				}
				took++
				return nil
			}
			require.Zero(t, testing.AllocsPerRun(100, func() {
				next, err := s.Scan(q, from, message.Limit{Count: 64}, filter, lend)
				if err != nil {
					t.Fatal(err)
				}
				if from = next; from == n {
					from = 0
				}
			}))
			require.Greater(t, took, 6000)
		})
	}
}

// An idle store has few goroutines of its own; Pebble's come on top. Those that
// tests of failing disks have left parked are not its.
func TestIdleGoroutines(t *testing.T) {
	before := ourGoroutines()
	s := open(t, t.TempDir())
	for range 10 {
		put(t, s, benchMessage("orders", 100))
		_, err := s.PutAsync(context.Background(), benchMessage("orders", 100)).Wait(context.Background())
		require.NoError(t, err)
	}
	require.NoError(t, s.Commit(context.Background(), "billing", map[message.Queue]int64{{Topic: "orders"}: 1}))
	var ours []string
	for id, created := range ourGoroutines() {
		if _, old := before[id]; !old {
			ours = append(ours, created)
		}
	}
	require.LessOrEqual(t, len(ours), 6, "%q", ours)
}

// ourGoroutines are the goroutines that code of this module has started: their
// first line, and who started them.
func ourGoroutines() map[string]string {
	buf := make([]byte, 8<<20)
	buf = buf[:runtime.Stack(buf, true)]
	ours := make(map[string]string)
	for _, g := range strings.Split(string(buf), "\n\n") {
		id, _, _ := strings.Cut(g, " [")
		_, created, _ := strings.Cut(g, "created by ")
		if strings.HasPrefix(created, "github.com/embermq/embermq/") {
			ours[id] = created
		}
	}
	return ours
}
