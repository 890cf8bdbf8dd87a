package progress

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

// full has ten thousand queues and some groups that read all of them.
func full(t testing.TB, queues, groups int) (*Progress, []message.Queue) {
	t.Helper()
	bounds := func(message.Queue) (int64, int64, error) { return 0, 1 << 40, nil }
	p, err := Open(bg, newDB(t), Options{Bounds: bounds, Manual: true,
		SyncLog: func(context.Context) error { return nil }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	qs := make([]message.Queue, queues)
	all := make(map[message.Queue]int64, queues)
	for i := range qs {
		qs[i] = queue(fmt.Sprintf("topic-%d", i/4), int32(i%4))
		all[qs[i]] = 1
	}
	for g := range groups {
		require.NoError(t, p.Commit(bg, fmt.Sprintf("group-%d", g), all))
	}
	require.NoError(t, p.Flush(bg))
	return p, qs
}

func TestSteadyCommitAllocatesNothing(t *testing.T) {
	p, qs := full(t, 8, 1)
	offset := int64(1)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		offset++
		if err := p.Commit(bg, "group-0", map[message.Queue]int64{qs[0]: offset, qs[5]: offset}); err != nil {
			t.Error(err)
		}
		p.Committed("group-0", qs[3])
		p.Guards(qs[0], time.Time{})
	}))
}

func TestMemoryOfManyQueues(t *testing.T) {
	p, qs := full(t, 10_000, 4)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	again, err := Open(bg, p.db, p.o)
	require.NoError(t, err)
	runtime.GC()
	runtime.ReadMemStats(&after)
	perRow := float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / float64(4*len(qs))
	t.Logf("%.0f bytes a committed offset", perRow)
	require.Less(t, perRow, 200.0)
	require.NoError(t, again.Close())
}

func BenchmarkCommit(b *testing.B) {
	p, qs := full(b, 10_000, 3)
	offset := int64(1)
	b.ReportAllocs()
	for b.Loop() {
		offset++
		if err := p.Commit(bg, "group-1", map[message.Queue]int64{qs[int(offset)%len(qs)]: offset}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGuards(b *testing.B) {
	p, qs := full(b, 10_000, 3)
	now, i := time.Now(), 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		p.Guards(qs[i%len(qs)], now)
	}
}

// One batch with an offset of each of ten thousand queues.
func BenchmarkFlush(b *testing.B) {
	p, qs := full(b, 10_000, 3)
	all := make(map[message.Queue]int64, len(qs))
	offset := int64(1)
	b.ReportAllocs()
	for b.Loop() {
		offset++
		for _, q := range qs {
			all[q] = offset
		}
		if err := p.Commit(bg, "group-1", all); err != nil {
			b.Fatal(err)
		}
		if err := p.Flush(bg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	p, _ := full(b, 10_000, 3)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(bg, p.db, p.o); err != nil {
			b.Fatal(err)
		}
	}
}
