package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func tags(t testing.TB, expr string) message.Filter {
	t.Helper()
	f, err := message.Tags(expr)
	require.NoError(t, err)
	return f
}

// "Aa" and "BB" have the same Java hash: the queue entry cannot tell them apart,
// the record can.
func TestReadFilterSameHash(t *testing.T) {
	require.Equal(t, message.TagHash("Aa"), message.TagHash("BB"))
	s := open(t, t.TempDir())
	q := message.Queue{Topic: "t"}
	for _, tag := range []string{"Aa", "BB", "", "c", "Aa"} {
		put(t, s, &message.Message{Topic: "t", Tag: tag})
	}
	for _, c := range []struct {
		expr string
		want []int64
	}{{"Aa", []int64{0, 4}}, {"BB", []int64{1}}, {"c || BB", []int64{1, 3}}, {"none", nil}, {"*", []int64{0, 1, 2, 3, 4}}} {
		var got, scanned []int64
		for _, r := range read(t, s, q, 0, tags(t, c.expr)) {
			got = append(got, r.Offset())
		}
		require.Equal(t, c.want, got, c.expr)
		next, err := s.Scan(q, 0, message.Limit{}, tags(t, c.expr), func(r *message.Record) error {
			scanned = append(scanned, r.Offset())
			return nil
		})
		require.NoError(t, err)
		require.EqualValues(t, 5, next, "what the filter leaves out is passed")
		require.Equal(t, c.want, scanned, c.expr)
	}
	// A watch wakes for the hash and leaves the text to the reader.
	w := s.Watch(tags(t, "Aa"), q)
	defer w.Close()
	next(t, w)
	put(t, s, &message.Message{Topic: "t", Tag: "c"})
	put(t, s, &message.Message{Topic: "t", Tag: "BB"})
	next(t, w)
	b, err := s.Read(ctx, q, 5, message.Limit{}, tags(t, "Aa"))
	require.NoError(t, err)
	require.Empty(t, b.Records)
	require.EqualValues(t, 7, b.Next)
	soon, cancel := context.WithCancel(ctx)
	cancel()
	_, err = w.Next(soon)
	require.ErrorIs(t, err, context.Canceled, "nothing woke it for the tag c")
}

func TestReadLimits(t *testing.T) {
	s := open(t, t.TempDir())
	q := message.Queue{Topic: "t"}
	for i := range 100 {
		put(t, s, &message.Message{Topic: "t", Body: make([]byte, 1000), Tag: fmt.Sprint(i % 2)})
	}
	b, err := s.Read(ctx, q, 10, message.Limit{}, nil)
	require.NoError(t, err)
	require.Len(t, b.Records, 32)
	require.EqualValues(t, 42, b.Next)
	b, err = s.Read(ctx, q, 0, message.Limit{Bytes: 1}, nil)
	require.NoError(t, err)
	require.Len(t, b.Records, 1, "the first one whatever its size")
	b, err = s.Read(ctx, q, 0, message.Limit{Bytes: 5 * 1300}, nil)
	require.NoError(t, err)
	require.Len(t, b.Records, 5)
	b, err = s.Read(ctx, q, 100, message.Limit{}, nil)
	require.NoError(t, err)
	require.Empty(t, b.Records)
	require.EqualValues(t, 100, b.Next)
	for _, from := range []int64{-1, 101, 1 << 62} {
		_, err = s.Read(ctx, q, from, message.Limit{}, nil)
		var re *store.RangeError
		require.ErrorAs(t, err, &re)
		require.Equal(t, store.RangeError{Queue: q, Offset: from, End: 100}, *re)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	b, err = s.Read(ended, q, 7, message.Limit{}, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 7, b.Next)
	stop := errors.New("stop")
	n := 0
	next, err := s.Scan(q, 0, message.Limit{Count: 50}, nil, func(r *message.Record) error {
		if n++; n == 4 {
			return stop
		}
		return nil
	})
	require.Equal(t, stop, err)
	require.EqualValues(t, 3, next, "the record at which lend stopped comes again")
}

func TestReadOwnsItsBytes(t *testing.T) {
	s := open(t, t.TempDir())
	q := message.Queue{Topic: "t"}
	put(t, s, &message.Message{Topic: "t", Body: []byte("first")})
	put(t, s, &message.Message{Topic: "t", Body: []byte("second")})
	rs := read(t, s, q, 0, nil)
	copy(rs[0].Body(), "XXXXX")
	again := read(t, s, q, 0, nil)
	require.Equal(t, "first", string(again[0].Body()))
	require.Equal(t, "second", string(rs[1].Body()))
	kept := read(t, s, q, 1, nil)[0]
	require.NoError(t, s.DeleteTopic(ctx, "t"))
	require.Equal(t, "second", string(kept.Body()), "what was read stays")
}

func TestGet(t *testing.T) {
	s := open(t, t.TempDir())
	r0 := put(t, s, &message.Message{Topic: "t", Body: []byte("x")})
	r1 := put(t, s, &message.Message{Topic: "t", Body: []byte("y")})
	r, err := s.Get(ctx, r1.Position)
	require.NoError(t, err)
	require.Equal(t, "y", string(r.Body()))
	for _, position := range []int64{-1, r0.Position + 1, r1.Position - 1, r1.Position + int64(r.Size()), 1 << 60} {
		_, err = s.Get(ctx, position)
		require.ErrorIs(t, err, store.ErrNotFound, position)
	}
	require.NoError(t, s.DeleteTopic(ctx, "t"))
	_, err = s.Get(ctx, r1.Position)
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestOffsetAt(t *testing.T) {
	l := newLab(t, store.WithQueueFileSize(200)) // ten entries a file
	q := message.Queue{Topic: "t"}
	base := l.clock.Now()
	at := func(ms int) time.Time { return base.Add(time.Duration(ms) * time.Millisecond) }
	// Times 0, 0, 10, 10, 20, 20 …
	for i := range 60 {
		l.clock.Set(at(i / 2 * 10))
		put(t, l.s, &message.Message{Topic: "t"})
	}
	check := func() {
		t.Helper()
		for _, c := range []struct {
			ms           int
			lower, upper int64
		}{{-5, 0, 0}, {0, 0, 1}, {5, 2, 1}, {10, 2, 3}, {15, 4, 3}, {290, 58, 59}, {291, 60, 59}} {
			lower, err := l.s.OffsetAt(q, at(c.ms), message.Lower)
			require.NoError(t, err)
			upper, err := l.s.OffsetAt(q, at(c.ms), message.Upper)
			require.NoError(t, err)
			require.Equal(t, [2]int64{c.lower, c.upper}, [2]int64{lower, upper}, c.ms)
		}
	}
	check()
	require.NoError(t, l.s.Checkpoint(ctx))
	require.NoError(t, l.s.Queues().Flush())
	check()
	_, err := l.s.OffsetAt(message.Queue{Topic: "no"}, base, message.Lower)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, l.s.Close())
}

// One goroutine waits for 1,000 queues.
func TestWatchManyQueues(t *testing.T) {
	s := open(t, t.TempDir(), store.WithDurability(message.InCache))
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "t", WriteQueues: 1000}))
	var qs []message.Queue
	for i := range 1000 {
		qs = append(qs, message.Queue{Topic: "t", ID: int32(i)})
	}
	before := runtime.NumGoroutine()
	w := s.Watch(nil, qs...)
	defer w.Close()
	seen := map[message.Queue]bool{}
	for range qs {
		seen[next(t, w)] = true
	}
	require.Len(t, seen, 1000, "each is announced once")
	got := make(chan message.Queue)
	go func() {
		for {
			q, err := w.Next(ctx)
			if err != nil {
				close(got)
				return
			}
			got <- q
		}
	}()
	for _, id := range []int32{999, 0, 512} {
		put(t, s, &message.Message{Topic: "t", QueueID: id})
		require.Equal(t, id, (<-got).ID)
	}
	require.LessOrEqual(t, runtime.NumGoroutine()-before, 2)
	w.Remove(qs[5])
	put(t, s, &message.Message{Topic: "t", QueueID: 5})
	w.Add(nil, qs[5]) // while Next waits
	require.EqualValues(t, 5, (<-got).ID)
	require.NoError(t, w.Close())
	require.NoError(t, w.Close())
	_, open := <-got
	require.False(t, open, "Close ends Next")
	w.Add(nil, qs[0])
	_, err := w.Next(ctx)
	require.ErrorIs(t, err, store.ErrClosed)
}

// A watch outlives the queue: it hears of its death and of the next one.
func TestWatchDeletedAndMissingTopics(t *testing.T) {
	s := open(t, t.TempDir())
	q := message.Queue{Topic: "t"}
	w := s.Watch(nil, q)
	defer w.Close()
	next(t, w)
	_, err := s.Read(ctx, q, 0, message.Limit{}, nil)
	require.ErrorIs(t, err, store.ErrNotFound)
	for range 3 {
		put(t, s, &message.Message{Topic: "t"})
		next(t, w)
		start, end, err := s.Bounds(q)
		require.NoError(t, err)
		for end-start == 0 { // it may have been told of the new queue alone
			next(t, w)
			start, end, err = s.Bounds(q)
			require.NoError(t, err)
		}
		require.NoError(t, s.DeleteTopic(ctx, "t"))
		next(t, w)
		_, err = s.Read(ctx, q, start, message.Limit{}, nil)
		for err == nil { // or of the message and then of the deletion
			next(t, w)
			_, err = s.Read(ctx, q, start, message.Limit{}, nil)
		}
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	// A queue that a topic grows.
	put(t, s, &message.Message{Topic: "u"})
	grown := message.Queue{Topic: "u", ID: 7}
	v := s.Watch(nil, grown)
	defer v.Close()
	next(t, v)
	require.NoError(t, s.UpdateTopic(ctx, store.Topic{Name: "u", WriteQueues: 8, ReadQueues: 8}))
	require.Equal(t, grown, next(t, v))
}

func TestFollow(t *testing.T) {
	s, err := store.Open(t.TempDir())
	require.NoError(t, err)
	q := message.Queue{Topic: "t"}
	put(t, s, &message.Message{Topic: "t", Tag: "a"})
	c, cancel := context.WithCancel(ctx)
	defer cancel()
	n := int64(0)
	for r, err := range s.Follow(c, q, 0, tags(t, "a")) {
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			require.Nil(t, r)
			break
		}
		require.Equal(t, 2*n, r.Offset())
		if n++; n == 20 {
			cancel()
			continue
		}
		put(t, s, &message.Message{Topic: "t", Tag: "b"})
		put(t, s, &message.Message{Topic: "t", Tag: "a"})
	}
	require.EqualValues(t, 20, n)
	for _, err := range s.Follow(ctx, q, 1000, nil) {
		require.ErrorIs(t, err, store.ErrOutOfRange)
	}
	deleted := make(chan error, 1)
	follow := func() {
		for _, err := range s.Follow(ctx, q, 0, nil) {
			if err != nil {
				deleted <- err
			}
		}
	}
	go follow()
	require.NoError(t, s.DeleteTopic(ctx, "t"))
	require.ErrorIs(t, <-deleted, store.ErrNotFound)
	r := put(t, s, &message.Message{Topic: "t"})
	q2 := r.Queue
	end := make(chan error, 1)
	go func() {
		for _, err := range s.Follow(ctx, q2, r.Offset, nil) {
			if err != nil {
				end <- err
			}
		}
	}()
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-end, store.ErrClosed)
}

func TestGroups(t *testing.T) {
	dir := t.TempDir()
	man := clock.NewManual(time.UnixMilli(1_700_000_000_000))
	e := env.Real()
	e.Clock = man
	s, err := store.Open(dir, store.WithEnvironment(e))
	require.NoError(t, err)
	q := func(i int32) message.Queue { return message.Queue{Topic: "t", ID: i} }
	for i := range 40 {
		put(t, s, &message.Message{Topic: "t", QueueID: int32(i % 4)})
		man.Advance(time.Second)
	}
	committed := func(group string) (os [4]int64) {
		for i := range os {
			o, ok, err := s.Committed(ctx, group, q(int32(i)))
			require.NoError(t, err)
			if os[i] = o; !ok {
				os[i] = -1
			}
		}
		return os
	}
	require.Equal(t, [4]int64{-1, -1, -1, -1}, committed("g"))
	require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{q(0): 3}))
	require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{q(0): 2, q(1): 5, q(3): 10}))
	require.Equal(t, [4]int64{3, 5, -1, 10}, committed("g"))
	err = s.Commit(ctx, "g", map[message.Queue]int64{q(2): 1, q(1): 11})
	var re *store.RangeError
	require.ErrorAs(t, err, &re)
	require.Equal(t, [4]int64{3, 5, -1, 10}, committed("g"), "all or none")
	require.ErrorIs(t, s.Commit(ctx, "g", map[message.Queue]int64{{Topic: "no"}: 0}), store.ErrNotFound)
	require.ErrorIs(t, s.Commit(ctx, "bad/name", map[message.Queue]int64{q(0): 0}), store.ErrInvalidName)
	require.NoError(t, s.Progress().Clone(ctx, "g", "h", "t"))
	require.Equal(t, committed("g"), committed("h"))

	require.NoError(t, s.ResetOffsets(ctx, "h", "t", message.First()))
	require.Equal(t, [4]int64{0, 0, 0, 0}, committed("h"))
	require.NoError(t, s.ResetOffsets(ctx, "h", "t", message.Last()))
	require.Equal(t, [4]int64{10, 10, 10, 10}, committed("h"))
	require.NoError(t, s.ResetOffsets(ctx, "h", "t", message.At(4)))
	require.Equal(t, [4]int64{4, 4, 4, 4}, committed("h"))
	require.NoError(t, s.ResetOffsets(ctx, "h", "t", message.AtTime(time.UnixMilli(1_700_000_000_000).Add(18*time.Second))))
	require.Equal(t, [4]int64{5, 5, 4, 4}, committed("h"))
	require.ErrorIs(t, s.ResetOffsets(ctx, "h", "t", message.At(11)), store.ErrOutOfRange)
	require.ErrorIs(t, s.ResetOffsets(ctx, "h", "no", message.First()), store.ErrNotFound)
	require.Equal(t, [4]int64{5, 5, 4, 4}, committed("h"))

	names := func() (names []string) {
		for _, g := range s.Progress().Groups() {
			names = append(names, g.Name)
		}
		return names
	}
	require.Equal(t, []string{"g", "h"}, names())
	require.Len(t, s.Progress().Offsets("g"), 3)
	require.NoError(t, s.Close())
	s, err = store.Open(dir, store.WithEnvironment(e), store.WithoutGroupCreation())
	require.NoError(t, err)
	require.Equal(t, []string{"g", "h"}, names())
	require.Equal(t, [4]int64{3, 5, -1, 10}, committed("g"))
	require.Equal(t, [4]int64{5, 5, 4, 4}, committed("h"))
	require.ErrorIs(t, s.Commit(ctx, "new", map[message.Queue]int64{q(0): 0}), store.ErrNotFound)
	require.NoError(t, s.Close())

	// On disk at return with WithDurableSettle; after Sync without.
	s, err = store.Open(dir, store.WithEnvironment(e), store.WithDurableSettle())
	require.NoError(t, err)
	require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{q(0): 7}))
	require.NoError(t, s.Abandon())
	s, err = store.Open(dir, store.WithEnvironment(e))
	require.NoError(t, err)
	require.EqualValues(t, 7, committed("g")[0])
	require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{q(0): 8}))
	require.NoError(t, s.Sync(ctx))
	require.NoError(t, s.Abandon())
	s = open(t, dir, store.WithEnvironment(e))
	require.EqualValues(t, 8, committed("g")[0])
}

// A message that the bounds of its queue show can be read.
func TestBoundsAreReadable(t *testing.T) {
	s := open(t, t.TempDir(), store.WithDurability(message.InCache))
	put(t, s, &message.Message{Topic: "t"})
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 20_000 && err == nil; i++ {
			_, err = s.Put(ctx, &message.Message{Topic: "t", Body: []byte("x")})
		}
		done <- err
	}()
	for {
		q := message.Queue{Topic: "t"}
		_, end, err := s.Bounds(q)
		require.NoError(t, err)
		b, err := s.Read(ctx, q, end-1, message.Limit{Count: 1}, nil)
		require.NoError(t, err)
		require.Len(t, b.Records, 1)
		select {
		case err := <-done:
			require.NoError(t, err)
			return
		default:
		}
	}
}
