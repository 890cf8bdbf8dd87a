package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// ours are the goroutines of this module and of Pebble. Whoever poisons meta
// leaves Pebble's behind on purpose; see internal/kv.
func ours() (n int, text string) {
	buf := make([]byte, 4<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "embermq/embermq/") && !strings.Contains(g, "testing.tRunner") && !strings.Contains(g, "store_test.") {
			n++
			text += g + "\n\n"
		}
	}
	return n, text
}

// Opening, using and closing leaves no goroutine behind, 1,000 times.
func TestThousandOpens(t *testing.T) {
	n := 1000
	if testing.Short() || raceEnabled {
		n = 50
	}
	leaks := goleak.IgnoreCurrent()
	dir := t.TempDir()
	fds := fdCount(t)
	for i := range n {
		s, err := store.Open(dir)
		require.NoError(t, err)
		if i%100 == 0 {
			put(t, s, &message.Message{Topic: "t"})
		}
		require.NoError(t, s.Close())
	}
	require.NoError(t, goleak.Find(leaks))
	// Other tests' files may come and go meanwhile; one a round would be n of them.
	require.Less(t, fdCount(t), fds+n/2)
	s := open(t, dir)
	require.Len(t, readAll(t, s, message.Queue{Topic: "t"}), (n+99)/100)
}

func fdCount(t testing.TB) int {
	es, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Log("LOUD SKIP: no /proc here, open files are not counted")
		return 0
	}
	return len(es)
}

// countingClock counts the timers that are asked for.
type countingClock struct {
	clock.Clock
	timers atomic.Int64
}

func (c *countingClock) After(d time.Duration) (<-chan time.Time, func()) {
	c.timers.Add(1)
	return c.Clock.After(d)
}

// An idle store has at most six goroutines and sets no timer: nothing wakes it.
func TestIdle(t *testing.T) {
	e := env.Real()
	man := clock.NewManual(time.UnixMilli(1_700_000_000_000))
	c := &countingClock{Clock: man}
	e.Clock = c
	before, _ := ours()
	s := open(t, t.TempDir(), store.WithEnvironment(e))
	for i := range 100 {
		put(t, s, &message.Message{Topic: "t", QueueID: int32(i % 4), Keys: []string{"k"}})
	}
	require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{{Topic: "t"}: 1}))
	w := s.Watch(nil, message.Queue{Topic: "t"})
	defer w.Close()
	// Let everything come that is due: syncs, flushes, the checkpoint.
	for range 200 {
		man.Advance(time.Second)
		time.Sleep(time.Millisecond)
	}
	settle(t, func() bool { return s.Stats().Checkpoints > 0 })
	was := c.timers.Load()
	for range 100 {
		man.Advance(10 * time.Second)
		time.Sleep(time.Millisecond)
	}
	require.Equal(t, was, c.timers.Load(), "an idle store sets no timer")
	n, text := ours()
	require.LessOrEqual(t, n-before, 6, text)
	t.Logf("%d goroutines idle", n-before)
}

func settle(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("did not settle")
		}
	}
}

// Everything at once, and then Close in the middle of it: no race, no panic, no
// goroutine left, every error one that the calls name, nothing acknowledged lost.
func TestEverythingAtOnce(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	dir := t.TempDir()
	s, err := store.Open(dir, store.WithSegmentSize(64<<10), store.WithCheckpoint(time.Millisecond, 8<<10),
		store.WithRetention(0), store.WithRetentionBytes(1<<20), store.WithTailMemory(64<<10))
	require.NoError(t, err)
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "stay"}))
	var wg sync.WaitGroup
	acked := make([]atomic.Int64, 4)
	run := func(f func(i int) error) {
		wg.Go(func() {
			for i := 0; ; i++ {
				err := f(i)
				switch {
				case errors.Is(err, store.ErrClosed):
					return
				case err == nil, errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrOutOfRange),
					errors.Is(err, store.ErrExists), errors.Is(err, context.DeadlineExceeded):
				default:
					panic(fmt.Sprintf("%T: %v", err, err))
				}
			}
		})
	}
	for w := range 4 {
		q := message.Queue{Topic: "stay", ID: int32(w)}
		run(func(i int) error {
			m := &message.Message{Topic: "stay", QueueID: q.ID, Tag: "a", Keys: []string{"k"}, Body: make([]byte, 200), Durability: message.Durability(i % 3)}
			if i%3 == 2 {
				p := s.PutAsync(ctx, m)
				r, err := p.Wait(ctx)
				if err == nil {
					acked[w].Store(r.Offset + 1)
				}
				return err
			}
			rs, err := s.PutBatch(ctx, []*message.Message{m, m})
			if err == nil {
				acked[w].Store(rs[1].Offset + 1)
			}
			return err
		})
		run(func(int) error {
			start, end, err := s.Bounds(q)
			if err != nil {
				return err
			}
			_, err = s.Read(ctx, q, start+(end-start)/2, message.Limit{}, nil)
			return err
		})
		run(func(int) error {
			start, _, err := s.Bounds(q)
			if err != nil {
				return err
			}
			_, err = s.Scan(q, start, message.Limit{}, nil, func(r *message.Record) error { _ = r.Tag(); return nil })
			return err
		})
		run(func(int) error {
			_, end, err := s.Bounds(q)
			if err != nil {
				return err
			}
			return s.Commit(ctx, "g", map[message.Queue]int64{q: end})
		})
	}
	wt := s.Watch(nil)
	defer wt.Close()
	run(func(i int) error {
		c, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		wt.Add(nil, message.Queue{Topic: "come", ID: int32(i % 6)})
		_, err := wt.Next(c)
		wt.Remove(message.Queue{Topic: "come", ID: int32(i % 4)})
		return err
	})
	run(func(i int) error {
		switch i % 4 {
		case 0:
			return s.CreateTopic(ctx, store.Topic{Name: "come", WriteQueues: 1 + i%5})
		case 1:
			return s.UpdateTopic(ctx, store.Topic{Name: "come", WriteQueues: 1 + i%6, ReadQueues: 6})
		case 2:
			_, err := s.Put(ctx, &message.Message{Topic: "come"})
			return err
		}
		return s.DeleteTopic(ctx, "come")
	})
	run(func(int) error { return s.Sync(ctx) })
	run(func(int) error { s.Stats(); s.Topics(); return s.ResetOffsets(ctx, "h", "stay", message.Last()) })
	run(func(int) error {
		r, err := s.Check(ctx)
		if err == nil && !r.OK() {
			panic(fmt.Sprint(r.Damages))
		}
		return err
	})
	settle(t, func() bool { return s.Stats().Checkpoints > 5 && acked[3].Load() > 50 })
	require.NoError(t, s.Close())
	wg.Wait()
	require.NoError(t, goleak.Find(leaks))

	s = open(t, dir)
	require.True(t, s.Stats().Recovery.Clean)
	for w := range acked {
		_, end, err := s.Bounds(message.Queue{Topic: "stay", ID: int32(w)})
		require.NoError(t, err)
		require.GreaterOrEqual(t, end, acked[w].Load())
	}
	checkOK(t, s)
}

func TestCloseTwiceAtOnce(t *testing.T) {
	s := must(store.Open(t.TempDir()))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.Close(); err != nil {
				panic(err)
			}
		})
	}
	wg.Wait()
	require.ErrorIs(t, s.Sync(ctx), store.ErrClosed)
}
