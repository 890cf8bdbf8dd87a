package store_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// 10,000 messages in flight cost one goroutine's stack at most two goroutines
// more and one allocation each.
func TestPutAsyncInFlight(t *testing.T) {
	if raceEnabled {
		t.Skip("LOUD SKIP: pools drop at random under the race detector")
	}
	const n = 10_000
	s := open(t, t.TempDir(), store.WithDurability(message.InCache))
	m := &message.Message{Topic: "t", Tag: "a", Keys: []string{"k1", "k2"}, Body: make([]byte, 100)}
	put(t, s, m)
	pending := make([]*message.Pending, n)
	flight := func() {
		for i := range pending {
			pending[i] = s.PutAsync(ctx, m)
		}
	}
	wait := func() {
		for _, p := range pending {
			_, err := p.Wait(ctx)
			require.NoError(t, err)
		}
	}
	flight()
	wait()
	before := runtime.NumGoroutine()
	flight()
	during := runtime.NumGoroutine()
	wait()
	require.LessOrEqual(t, during-before, 2)
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pools
	// The pools grow until they hold as many groups as were ever in flight at once,
	// which a busy machine decides: the steady state is the least of some runs.
	allocs := math.Inf(1)
	runs := 0
	for ; runs < 20 && allocs/n >= 1.02; runs++ {
		allocs = min(allocs, testing.AllocsPerRun(1, func() {
			flight()
			wait()
		}))
	}
	t.Logf("%.3f allocations a message", allocs/n)
	require.Less(t, allocs/n, 1.02)
	rs := readAll(t, s, message.Queue{Topic: "t"})
	require.Len(t, rs, 1+(2+2*runs)*n)
}

func TestPutAsyncOrderAndErrors(t *testing.T) {
	s, err := store.Open(t.TempDir())
	require.NoError(t, err)
	var ps []*message.Pending
	m := &message.Message{Topic: "t"}
	for i := range 500 {
		m.Body = fmt.Appendf(m.Body[:0], "%d", i) // m is the caller's again at once
		ps = append(ps, s.PutAsync(ctx, m))
	}
	bad := s.PutAsync(ctx, &message.Message{Topic: "t", QueueID: 9})
	_, err = bad.Wait(ctx)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, s.Sync(ctx), "a barrier for everything that was queued")
	for i, p := range ps {
		select {
		case <-p.Done():
		default:
			t.Fatalf("put %d was not on disk after Sync", i)
		}
		r, err := p.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, i, r.Offset)
	}
	for i, r := range readAll(t, s, message.Queue{Topic: "t"}) {
		require.Equal(t, fmt.Sprint(i), string(r.Body()))
	}
	// Close answers what is in flight, one way or the other.
	for range 500 {
		ps = append(ps, s.PutAsync(ctx, m))
	}
	require.NoError(t, s.Close())
	for _, p := range ps[500:] {
		_, err := p.Wait(ctx)
		require.NoError(t, err)
	}
	_, err = s.PutAsync(ctx, m).Wait(ctx)
	require.ErrorIs(t, err, store.ErrClosed)
}

// In an OnDisk store an InCache message may be put without a sync and is then
// not readable; whoever waits for it starts the sync.
func TestInCacheInOnDiskStore(t *testing.T) {
	m := &message.Message{Topic: "t", Tag: "a", Durability: message.InCache}
	q := message.Queue{Topic: "t"}
	t.Run("nobody waits", func(t *testing.T) {
		l := newLab(t)
		put(t, l.s, m)
		_, end, err := l.s.Bounds(q)
		require.NoError(t, err)
		require.Zero(t, end)
		l.run()
		_, end, _ = l.s.Bounds(q)
		require.Zero(t, end, "not before it is due")
		l.advance(500 * time.Millisecond)
		_, end, _ = l.s.Bounds(q)
		require.EqualValues(t, 1, end)
		require.NoError(t, l.s.Close())
	})
	t.Run("Sync", func(t *testing.T) {
		l := newLab(t)
		put(t, l.s, m)
		require.NoError(t, l.s.Sync(ctx))
		require.Len(t, read(t, l.s, q, 0, nil), 1)
		require.NoError(t, l.s.Close())
	})
	t.Run("an OnDisk message behind it", func(t *testing.T) {
		l := newLab(t)
		put(t, l.s, m)
		put(t, l.s, &message.Message{Topic: "t"})
		require.Len(t, read(t, l.s, q, 0, nil), 2)
		require.NoError(t, l.s.Close())
	})
	// The log's own clock would sync after half a second: a watch must be faster
	// on a clock that stands still.
	still := func(t *testing.T) *store.Store { return openStill(t) }
	t.Run("a watch that comes later", func(t *testing.T) {
		s := still(t)
		put(t, s, m)
		w := s.Watch(nil, q)
		defer w.Close()
		next(t, w) // the announcement of the queue
		next(t, w)
		require.Len(t, read(t, s, q, 0, nil), 1)
	})
	t.Run("a watch that sleeps", func(t *testing.T) {
		s := still(t)
		require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "t"}))
		w := s.Watch(nil, q)
		defer w.Close()
		next(t, w)
		woken := make(chan error, 1)
		go func() {
			_, err := w.Next(ctx)
			woken <- err
		}()
		for !w.(interface{ Waiting() bool }).Waiting() {
			runtime.Gosched()
		}
		put(t, s, m)
		require.NoError(t, <-woken)
		require.Len(t, read(t, s, q, 0, nil), 1)
	})
	t.Run("Follow", func(t *testing.T) {
		s := still(t)
		put(t, s, m)
		for r, err := range s.Follow(ctx, q, 0, nil) {
			require.NoError(t, err)
			require.Equal(t, "a", r.Tag())
			break
		}
	})
}

func TestDurabilityPerMessage(t *testing.T) {
	l := newLab(t, store.WithDurability(message.InCache))
	q := message.Queue{Topic: "t"}
	synced := func() int64 { return l.s.Log().Synced() }
	put(t, l.s, &message.Message{Topic: "t", Durability: message.OnDisk})
	at := synced()
	r := put(t, l.s, &message.Message{Topic: "t"})
	require.Equal(t, at, synced(), "the store's own durability")
	require.Equal(t, at, r.Position)
	require.Len(t, read(t, l.s, q, 0, nil), 2, "an InCache store shows what the kernel has")
	rs, err := l.s.PutBatch(ctx, []*message.Message{{Topic: "t"}, {Topic: "t", Durability: message.OnDisk}})
	require.NoError(t, err)
	require.Greater(t, synced(), rs[1].Position, "a batch is as durable as its most demanding message")
	require.NoError(t, l.s.Close())
}

func TestPutContext(t *testing.T) {
	s := open(t, t.TempDir())
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := s.Put(ended, &message.Message{Topic: "t"})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.PutAsync(ended, &message.Message{Topic: "t"}).Wait(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, s.Topics())
}

func TestPutEmptyBatch(t *testing.T) {
	s := open(t, t.TempDir())
	rs, err := s.PutBatch(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, rs)
	rs, err = s.PutBatch(ctx, []*message.Message{{Topic: "t"}})
	require.NoError(t, err)
	r, err := s.Get(ctx, rs[0].Position)
	require.NoError(t, err)
	_, grouped := r.Group()
	require.False(t, grouped, "one message is no group")
	_, err = s.PutBatch(ctx, []*message.Message{{Topic: "t"}, nil})
	var ie *store.InvalidError
	require.True(t, errors.As(err, &ie))
}

func next(t testing.TB, w message.Watch) message.Queue {
	t.Helper()
	c, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	q, err := w.Next(c)
	require.NoError(t, err)
	return q
}
