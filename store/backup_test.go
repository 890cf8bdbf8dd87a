package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// small makes segments that a test fills quickly.
func small() []store.Option {
	return []store.Option{store.WithSegmentSize(256 << 10), store.WithMaxUnsynced(64 << 10), store.WithDurability(message.InCache)}
}

// bodies reads every message of a topic's queues, by queue and offset.
func allBodies(t testing.TB, s *store.Store, topic string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	n, err := s.QueueCount(topic)
	require.NoError(t, err)
	for i := range n {
		q := message.Queue{Topic: topic, ID: int32(i)}
		start, end, err := s.Bounds(q)
		require.NoError(t, err)
		for start < end {
			b, err := s.Read(t.Context(), q, start, message.Limit{Count: 1000}, nil)
			require.NoError(t, err)
			for _, r := range b.Records {
				out[fmt.Sprint(q, r.Offset())] = string(r.Body())
			}
			start = b.Next
		}
	}
	return out
}

func checked(t testing.TB, s *store.Store) {
	t.Helper()
	report, err := s.Check(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Damages)
}

func TestBackupBesideAWriter(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	s := must(store.Open(dir, small()...))
	defer func() { require.NoError(t, s.Close()) }()
	ctx, stop := context.WithCancel(t.Context())
	var acked atomic.Int64
	warm := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // some hundred thousand a second
		for i := 0; ctx.Err() == nil; i++ {
			_, err := s.Put(context.Background(), &message.Message{Topic: "orders", QueueID: int32(i % 4), Body: fmt.Appendf(nil, "%d %0200d", i, i)})
			if err != nil {
				t.Error(err)
				return
			}
			if acked.Store(int64(i + 1)); i == 5000 {
				close(warm)
			}
		}
	})
	defer wg.Wait()
	defer stop()
	<-warm
	q := message.Queue{Topic: "orders"}
	require.NoError(t, s.Commit(ctx, "billing", map[message.Queue]int64{q: 1000}))
	timer, err := s.Put(ctx, &message.Message{Topic: "later", Delay: time.Hour, Body: []byte("x")})
	require.NoError(t, err)

	before, began := acked.Load(), time.Now()
	first, err := s.Backup(ctx, to)
	require.NoError(t, err)
	t.Logf("%.0f messages a second while the backup ran", float64(acked.Load()-before)/time.Since(began).Seconds())
	require.Equal(t, first.End-first.Start, first.Copied)
	restored := restore(t, to, before)
	offset, ok, err := restored.Committed(ctx, "billing", q)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, int64(1000), offset)
	waiting := 0
	for p, err := range restored.Timers().Pending("", time.Time{}, time.Time{}) {
		require.NoError(t, err)
		require.Equal(t, timer.Timer, p.ID)
		waiting++
	}
	require.Equal(t, 1, waiting)
	require.NoError(t, restored.Close())

	before = acked.Load()
	second, err := s.Backup(ctx, to)
	require.NoError(t, err)
	require.Equal(t, second.End-first.End, second.Copied)
	require.LessOrEqual(t, second.Written, second.Copied+1<<20)
	require.NoError(t, restore(t, to, before).Close())

	before = acked.Load()
	forked := filepath.Join(filepath.Dir(dir), filepath.Base(dir)+"-fork")
	defer func() { require.NoError(t, os.RemoveAll(forked)) }()
	require.NoError(t, s.Fork(ctx, forked))
	linked(t, dir, forked)
	f := must(store.Open(forked))
	require.GreaterOrEqual(t, int64(len(allBodies(t, f, "orders"))), before)
	_, err = f.Put(ctx, &message.Message{Topic: "orders", Body: []byte("only in the fork")})
	require.NoError(t, err)
	checked(t, f)
	require.NoError(t, f.Close())
	stop()
	wg.Wait()
	checked(t, s)
	require.Len(t, allBodies(t, s, "orders"), int(acked.Load()))
}

// linked compares a fork's segments with the original's: the sealed ones are the same
// files, and the last one is not.
func linked(t testing.TB, dir, forked string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(forked, "commitlog", "*"))
	require.NoError(t, err)
	require.Greater(t, len(segments), 2)
	slices.Sort(segments)
	for i, name := range segments {
		ours, err := os.Stat(filepath.Join(dir, "commitlog", filepath.Base(name)))
		require.NoError(t, err)
		theirs, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, i < len(segments)-1, os.SameFile(ours, theirs), "%s of %d", filepath.Base(name), len(segments))
	}
}

// restore opens a copy of a backup and finds at least n messages.
func restore(t testing.TB, from string, n int64) *store.Store {
	t.Helper()
	to := filepath.Join(t.TempDir(), "restored")
	require.NoError(t, store.Restore(t.Context(), from, to))
	s := must(store.Open(to))
	require.Zero(t, s.Stats().Recovery.CutBytes)
	got := allBodies(t, s, "orders")
	require.GreaterOrEqual(t, int64(len(got)), n)
	for i := range n {
		require.Equal(t, fmt.Sprintf("%d %0200d", i, i), got[fmt.Sprint(message.Queue{Topic: "orders", ID: int32(i % 4)}, i/4)])
	}
	checked(t, s)
	return s
}

func TestBackupAfterRetention(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	s := must(store.Open(dir, append(small(), store.WithRetentionBytes(512<<10))...))
	put := func(n int) {
		for i := range n {
			must(s.Put(t.Context(), &message.Message{Topic: "orders", Body: fmt.Appendf(nil, "%01000d", i)}))
		}
		require.NoError(t, s.Sync(t.Context()))
		require.NoError(t, s.Retain())
	}
	put(500)
	_, err := s.Backup(t.Context(), to)
	require.NoError(t, err)
	put(3000)
	require.Positive(t, s.Stats().Expired)
	want := allBodies(t, s, "orders")
	_, err = s.Backup(t.Context(), to)
	require.NoError(t, err)
	require.NoError(t, s.Close())

	restored := filepath.Join(t.TempDir(), "restored")
	require.NoError(t, store.Restore(t.Context(), to, restored))
	r := must(store.Open(restored))
	require.Equal(t, want, allBodies(t, r, "orders"))
	checked(t, r)
	require.NoError(t, r.Close())
}

func TestBackupRefusals(t *testing.T) {
	s := must(store.Open(t.TempDir(), small()...))
	defer s.Close()
	must(s.Put(t.Context(), &message.Message{Topic: "orders", Body: []byte("a")}))
	other := must(store.Open(t.TempDir(), small()...))
	defer other.Close()
	must(other.Put(t.Context(), &message.Message{Topic: "orders", Body: []byte("b, longer")}))

	to := t.TempDir()
	must(s.Backup(t.Context(), to))
	_, err := other.Backup(t.Context(), to)
	require.ErrorIs(t, err, store.ErrMismatch)

	full := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(full, "letter.txt"), []byte("x"), 0o600))
	_, err = s.Backup(t.Context(), full)
	require.ErrorIs(t, err, store.ErrUnknownFormat)
	require.ErrorIs(t, store.Restore(t.Context(), to, full), store.ErrExists)
	require.ErrorIs(t, store.Restore(t.Context(), full, t.TempDir()), store.ErrNotFound)
	require.ErrorIs(t, s.Fork(t.Context(), full), store.ErrExists)

	chunks, err := filepath.Glob(filepath.Join(to, "log-*"))
	require.NoError(t, err)
	require.Len(t, chunks, 1)
	b, err := os.ReadFile(chunks[0])
	require.NoError(t, err)
	for _, damage := range [][]byte{b[:len(b)-1], append(b[:len(b)/2:len(b)/2], append([]byte{b[len(b)/2] ^ 1}, b[len(b)/2+1:]...)...)} {
		require.NoError(t, os.WriteFile(chunks[0], damage, 0o600))
		into := t.TempDir()
		err = store.Restore(t.Context(), to, into)
		require.ErrorIs(t, err, store.ErrCorrupt)
		_, err = store.OpenReadOnly(into)
		require.ErrorIs(t, err, store.ErrNotFound, "a failed Restore left a store")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Backup(ctx, t.TempDir())
	require.ErrorIs(t, err, context.Canceled)
}
