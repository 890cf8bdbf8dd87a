package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func withKey(topic, key string) *message.Message {
	return &message.Message{Topic: topic, IdempotencyKey: key, Body: []byte(key)}
}

func lengthOf(t testing.TB, s *store.Store, topic string) (n int64) {
	t.Helper()
	for q := range int32(4) {
		start, end, err := s.Bounds(message.Queue{Topic: topic, ID: q})
		require.NoError(t, err)
		n += end - start
	}
	return n
}

// Every way of putting answers with the receipt of the first, in every order.
func TestDedupeWaysOfPutting(t *testing.T) {
	type way func(s *store.Store, m *message.Message) (message.Receipt, error)
	ways := map[string]way{
		"Put": func(s *store.Store, m *message.Message) (message.Receipt, error) { return s.Put(ctx, m) },
		"PutBatch": func(s *store.Store, m *message.Message) (message.Receipt, error) {
			rs, err := s.PutBatch(ctx, []*message.Message{withKey("other", ""), m, m})
			if err != nil {
				return message.Receipt{}, err
			}
			if rs[1] != rs[2] {
				return message.Receipt{}, fmt.Errorf("a key twice in a batch: %v", rs)
			}
			return rs[1], nil
		},
		"PutAsync": func(s *store.Store, m *message.Message) (message.Receipt, error) { return s.PutAsync(ctx, m).Wait(ctx) },
	}
	kinds := map[string]func(m *message.Message){
		"plain":     func(*message.Message) {},
		"by time":   func(m *message.Message) { m.Delay = time.Hour },
		"by level":  func(m *message.Message) { m.DelayLevel = 5 },
		"in cache":  func(m *message.Message) { m.Durability = message.InCache },
		"unique id": func(m *message.Message) { m.UniqueID = "MINE" },
	}
	s := openStill(t, store.WithDedupe(time.Hour, 1000))
	n := 0
	for kind, change := range kinds {
		for name1, first := range ways {
			for name2, second := range ways {
				n++
				m := withKey("t", fmt.Sprint("key", n))
				change(m)
				m.QueueID = 1
				want, err := first(s, m)
				require.NoError(t, err)
				m.QueueID = 2 // a retry on another queue
				got, err := second(s, m)
				require.NoError(t, err)
				require.Equal(t, want, got, "%s: %s, then %s", kind, name1, name2)
			}
		}
	}
	require.NoError(t, s.Sync(ctx))
	require.Equal(t, int64(n*3/5), lengthOf(t, s, "t"))
	require.Equal(t, n, s.Stats().Dedupe.Keys)
}

// Off by default: the key is a property like others.
func TestDedupeOff(t *testing.T) {
	s := openStill(t)
	for range 2 {
		_, err := s.Put(ctx, withKey("t", "k"))
		require.NoError(t, err)
	}
	require.Equal(t, int64(2), lengthOf(t, s, "t"))
}

// What is known is known after Close, after the option was off for a while, and
// without the saved state.
func TestDedupeReopens(t *testing.T) {
	dir := t.TempDir()
	c := clock.NewManual(time.UnixMilli(1_700_000_000_000))
	e := env.Real()
	e.Clock = c
	on, clocked := store.WithDedupe(time.Hour, 1000), store.WithEnvironment(e)
	s := open(t, dir, on, clocked)
	first, err := s.Put(ctx, withKey("t", "a"))
	require.NoError(t, err)
	delayed := withKey("t", "d")
	delayed.Delay = time.Minute
	waiting, err := s.Put(ctx, delayed)
	require.NoError(t, err)
	require.NoError(t, s.Close())

	s = open(t, dir, clocked)
	_, err = s.Put(ctx, withKey("t", "b"))
	require.NoError(t, err)
	require.NoError(t, s.Close())

	s = open(t, dir, on, clocked)
	require.Empty(t, s.Stats().Recovery.Rebuilt)
	for _, key := range []string{"a", "b"} {
		r, err := s.Put(ctx, withKey("t", key))
		require.NoError(t, err)
		if key == "a" {
			require.Equal(t, first, r)
		}
	}
	again, err := s.Put(ctx, delayed)
	require.NoError(t, err)
	require.Equal(t, waiting, again)
	require.Equal(t, int64(2), lengthOf(t, s, "t"))

	// The topic goes, and its keys with it.
	require.NoError(t, s.DeleteTopic(ctx, "t"))
	r, err := s.Put(ctx, withKey("t", "a"))
	require.NoError(t, err)
	require.Greater(t, r.Position, first.Position)

	// Its time is over.
	c.Advance(time.Hour)
	late, err := s.Put(ctx, withKey("t", "a"))
	require.NoError(t, err)
	require.Greater(t, late.Position, r.Position)
}

// A message that was delivered from its timer is no second message.
func TestDedupeDelivered(t *testing.T) {
	c := clock.NewManual(time.UnixMilli(1_700_000_000_000))
	e := env.Real()
	e.Clock, e.Manual = c, true
	s := open(t, t.TempDir(), store.WithDedupe(time.Hour, 1000), store.WithEnvironment(e))
	m := withKey("t", "k")
	m.Delay = time.Minute
	first, err := s.Put(ctx, m)
	require.NoError(t, err)
	c.Advance(2 * time.Minute)
	require.NoError(t, s.Step(ctx))
	require.Equal(t, int64(1), lengthOf(t, s, "t"))
	again, err := s.Put(ctx, m)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Equal(t, 1, s.Stats().Dedupe.Keys)
}

// Halves are not checked; the key of a committed one is known.
func TestDedupeHalves(t *testing.T) {
	s := openStill(t, store.WithDedupe(time.Hour, 1000))
	h := s.Halves()
	prepare := func() message.HalfID {
		_, id, err := h.Prepare(ctx, withKey("t", "k"), "g", message.HalfOptions{})
		require.NoError(t, err)
		return id
	}
	rolledBack, committed := prepare(), prepare()
	_, err := h.Rollback(ctx, rolledBack)
	require.NoError(t, err)
	want, _, err := h.Commit(ctx, committed)
	require.NoError(t, err)
	got, err := s.Put(ctx, withKey("t", "k"))
	require.NoError(t, err)
	require.Equal(t, want.Position, got.Position)
	require.Equal(t, int64(1), lengthOf(t, s, "t"))
}

// The copies that the store makes of a message, for a retry, a dead letter, a
// redrive, a move or another time, are stored however well their key is known, and
// teach none.
func TestDedupeCopies(t *testing.T) {
	l := newLab(t, store.WithDedupe(time.Hour, 2))
	for _, name := range []string{"orders", "elsewhere"} {
		require.NoError(t, l.s.CreateTopic(ctx, store.Topic{Name: name, WriteQueues: 1}))
	}
	q, retry := message.Queue{Topic: "orders"}, message.Queue{Topic: "%RETRY%g"}
	first := []message.Receipt{put(t, l.s, withKey("orders", "a")), put(t, l.s, withKey("orders", "b"))}
	known := func() {
		t.Helper()
		require.Equal(t, 2, l.s.Stats().Dedupe.Keys)
		for i, key := range []string{"a", "b"} {
			require.Equal(t, first[i], put(t, l.s, withKey("orders", key)))
		}
	}
	m := l.join("g", group.Clustering, "orders")
	for i, after := range []time.Duration{0, 7 * time.Second, -1} { // by level, by time, at once
		v := on(q, message.Retry, 0)
		if i > 0 {
			v = on(retry, message.Retry, int64(i-1))
		}
		v.After = after
		l.settle(m.Claim(), on(v.Queue, message.DoneThrough, v.Offset-1), v)
		known()
		l.advance(time.Minute)
		require.Equal(t, i+1, l.count(retry.Topic))
		known()
	}
	l.settle(m.Claim(), on(retry, message.DeadLetter, 2))
	require.NoError(t, m.Leave(ctx))
	known()
	n, err := l.s.DeadLetters().Redrive(ctx, "g", store.Redrive{})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, 3, l.count("orders"))
	known()
	n, err = l.s.Move(ctx, "g", "orders", "elsewhere", 0)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, 2, l.count("elsewhere"))
	known()
	l.kill()
	known()
	rs := read(t, l.s, message.Queue{Topic: "elsewhere"}, 0, nil)
	require.Equal(t, "b", property(&rs[0], message.PropIdempotency), "they still say what they are copies of")
	put(t, l.s, withKey("elsewhere", "b")) // not a message that was put there
	require.Equal(t, 3, l.count("elsewhere"))
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

// What somebody has read and puts again is a new message, whatever key the record
// bears; who wants to forward once takes the key along.
func TestDedupeReceivedAndPutAgain(t *testing.T) {
	s := openStill(t, store.WithDedupe(time.Hour, 100))
	m := withKey("t", "k")
	first := put(t, s, m)
	r := read(t, s, first.Queue, 0, nil)[0]
	again := put(t, s, r.Message())
	require.NotEqual(t, first.Position, again.Position)
	for range 2 {
		forward := r.Message()
		forward.Topic, forward.IdempotencyKey = "u", property(&r, message.PropIdempotency)
		put(t, s, forward)
	}
	require.Equal(t, int64(1), lengthOf(t, s, "u"))
}

// A put that is refused leaves no claim behind.
func TestDedupeRefused(t *testing.T) {
	s := openStill(t, store.WithDedupe(time.Hour, 1000), store.WithMaxBody(10))
	big := withKey("t", "k")
	big.Body = make([]byte, 100)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for range 2 {
		_, err := s.Put(ctx, big)
		require.ErrorIs(t, err, store.ErrTooLarge)
		_, err = s.PutBatch(ctx, []*message.Message{withKey("t", "x"), big})
		require.ErrorIs(t, err, store.ErrTooLarge)
		_, err = s.PutAsync(ctx, big).Wait(ctx)
		require.ErrorIs(t, err, store.ErrTooLarge)
		_, err = s.Put(ended, withKey("t", "k"))
		require.ErrorIs(t, err, context.Canceled)
	}
	_, err := s.PutBatch(ctx, []*message.Message{withKey("t", "k"), withKey("t", "x")})
	require.NoError(t, err)
	require.Equal(t, int64(2), lengthOf(t, s, "t"))
	for _, o := range []store.Option{store.WithDedupe(0, 1), store.WithDedupe(time.Hour, 0), store.WithDedupe(time.Hour, 1<<31)} {
		_, err := store.Open(t.TempDir(), o)
		require.ErrorContains(t, err, "WithDedupe")
	}
}

// An answer promises what the second put asks for, not what the first did.
func TestDedupeDurability(t *testing.T) {
	s := openStill(t, store.WithDedupe(time.Hour, 1000), store.WithDurability(message.InCache))
	r, err := s.Put(ctx, withKey("t", "k"))
	require.NoError(t, err)
	m := withKey("t", "k")
	m.Durability = message.OnDisk
	again, err := s.Put(ctx, m)
	require.NoError(t, err)
	require.Equal(t, r, again)
	require.Greater(t, s.Stats().Log.Synced, r.Position)
}

// Many put the same keys at once, in every way; each is stored once.
func TestDedupeRace(t *testing.T) {
	for _, d := range []message.Durability{message.OnDisk, message.InCache} {
		s := openStill(t, store.WithDedupe(time.Hour, 1000), store.WithDurability(d))
		const keys = 50
		receipts := make([]sync.Map, keys)
		var wg sync.WaitGroup
		for n := range 6 {
			wg.Go(func() {
				for i := range keys {
					m := withKey("t", fmt.Sprint(i))
					if n%2 == 0 && d == message.OnDisk {
						m.Durability = message.InCache // visible only with the next sync
					}
					var r message.Receipt
					var err error
					switch n % 3 {
					case 0:
						r, err = s.Put(ctx, m)
					case 1:
						var rs []message.Receipt
						if rs, err = s.PutBatch(ctx, []*message.Message{withKey("t", fmt.Sprint((i+7)%keys)), m}); err == nil {
							receipts[(i+7)%keys].Store(rs[0], true)
							r = rs[1]
						}
					default:
						r, err = s.PutAsync(ctx, m).Wait(ctx)
					}
					if err != nil {
						t.Error(err)
						return
					}
					receipts[i].Store(r, true)
				}
			})
		}
		wg.Wait()
		for i := range receipts {
			n := 0
			receipts[i].Range(func(any, any) bool { n++; return true })
			require.Equal(t, 1, n, "key %d", i)
		}
		require.NoError(t, s.Sync(ctx))
		require.Equal(t, int64(keys), lengthOf(t, s, "t"))
	}
}
