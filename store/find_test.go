package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"

	"github.com/embermq/embermq/internal/clock"
)

// bodies returns what a query finds, newest first.
func bodies(t testing.TB, s *store.Store, q index.Query) (out []string) {
	t.Helper()
	for r, err := range s.Find(context.Background(), q) {
		require.NoError(t, err)
		out = append(out, string(r.Body()))
	}
	return out
}

func putKeys(t testing.TB, s *store.Store, body string, keys ...string) message.Receipt {
	t.Helper()
	return put(t, s, &message.Message{Topic: "orders", Keys: keys, Body: []byte(body)})
}

func TestFindByKey(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir, store.WithUniqueID())
	require.NoError(t, err)
	putKeys(t, s, "1", "a", "b")
	putKeys(t, s, "2", "b")
	r := putKeys(t, s, "3", "a", "a")
	put(t, s, &message.Message{Topic: "other", Keys: []string{"a"}, Body: []byte("other")})
	require.Equal(t, []string{"3", "1"}, bodies(t, s, index.Query{Topic: "orders", Key: "a"}))
	require.Equal(t, []string{"2", "1"}, bodies(t, s, index.Query{Topic: "orders", Key: "b"}))
	require.Equal(t, []string{"2"}, bodies(t, s, index.Query{Topic: "orders", Key: "b", Limit: 1}))
	require.Empty(t, bodies(t, s, index.Query{Topic: "orders", Key: "c"}))

	last, err := s.Get(context.Background(), r.Position)
	require.NoError(t, err)
	require.Equal(t, []string{"3"}, bodies(t, s, index.Query{Topic: "orders", Key: last.UniqueID(), By: index.ByUniqueID}))
	byID, err := s.ByOffsetID(context.Background(), message.OffsetID(last.StoreHost(), r.Position))
	require.NoError(t, err)
	require.Equal(t, "3", string(byID.Body()))
	at, err := s.At(context.Background(), message.Queue{Topic: "orders"}, 1)
	require.NoError(t, err)
	require.Equal(t, "2", string(at.Body()))
	_, err = s.At(context.Background(), message.Queue{Topic: "orders"}, 3)
	require.ErrorIs(t, err, store.ErrOutOfRange)
	checkOK(t, s)
	require.NoError(t, s.Close())

	s = open(t, dir)
	require.Empty(t, s.Stats().Recovery.Rebuilt)
	require.Equal(t, []string{"3", "1"}, bodies(t, s, index.Query{Topic: "orders", Key: "a"}))
	checkOK(t, s)
}

func TestFindAllTellsTheState(t *testing.T) {
	l := newLab(t)
	put(t, l.s, &message.Message{Topic: "orders", Keys: []string{"k"}, Body: []byte("now")})
	put(t, l.s, &message.Message{Topic: "orders", Keys: []string{"k"}, Body: []byte("level"), DelayLevel: 5})
	put(t, l.s, &message.Message{Topic: "orders", QueueID: 2, Keys: []string{"k"}, Body: []byte("hour"), Delay: time.Hour})
	put(t, l.s, &message.Message{Topic: "other", Keys: []string{"k"}, Body: []byte("other"), Delay: time.Hour})
	due := l.clock.Now().Add(time.Hour)
	states := func() (out []string) {
		for h, err := range l.s.FindAll(context.Background(), index.Query{Topic: "orders", Key: "k"}) {
			require.NoError(t, err)
			if string(h.Record.Body()) == "hour" && h.State == store.HitWaiting {
				require.Equal(t, due.UnixMilli(), h.Due.UnixMilli())
				require.Equal(t, message.Queue{Topic: "orders", ID: 2}, h.Queue)
			}
			out = append(out, string(h.Record.Body())+" "+h.State.String())
		}
		return out
	}
	require.Equal(t, []string{"hour waiting", "level waiting", "now visible"}, states())
	require.Equal(t, []string{"now"}, bodies(t, l.s, index.Query{Topic: "orders", Key: "k"}))
	l.advance(time.Minute)
	require.Equal(t, []string{"level visible", "hour waiting", "now visible"}, states())
	l.advance(time.Hour)
	require.Equal(t, []string{"hour visible", "level visible", "now visible"}, states())
	require.NoError(t, l.s.Close())
}

func TestFindAllTellsTransactions(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	var ids []message.HalfID
	for _, body := range []string{"pending", "committed", "rolled back"} {
		_, id, err := l.s.Halves().Prepare(ctx, &message.Message{Topic: "orders", QueueID: 1, Keys: []string{"k"}, Body: []byte(body)}, "bank", message.HalfOptions{})
		require.NoError(t, err)
		ids = append(ids, id)
	}
	_, _, err := l.s.Halves().Commit(ctx, ids[1])
	require.NoError(t, err)
	_, err = l.s.Halves().Rollback(ctx, ids[2])
	require.NoError(t, err)
	for _, q := range []index.Query{{Topic: "orders", Key: "k"}, {Topic: "orders", Key: string(ids[2]), By: index.ByUniqueID}} {
		var got []string
		for h, err := range l.s.FindAll(ctx, q) {
			require.NoError(t, err)
			require.Equal(t, message.Queue{Topic: "orders", ID: 1}, h.Queue)
			got = append(got, string(h.Record.Body())+": "+h.State.String())
		}
		want := []string{"committed: visible", "rolled back: rolled back", "pending: half"}
		if q.By == index.ByUniqueID {
			want = want[1:2]
		}
		require.Equal(t, want, got)
	}
	require.Equal(t, []string{"committed"}, bodies(t, l.s, index.Query{Topic: "orders", Key: "k"}))
	require.NoError(t, l.s.Close())
}

func TestFindErrors(t *testing.T) {
	s := open(t, t.TempDir(), store.WithoutIndex())
	for _, err := range s.Find(context.Background(), index.Query{Topic: "orders", Key: "a"}) {
		require.ErrorIs(t, err, store.ErrUnsupported)
	}
	s = open(t, t.TempDir())
	for _, err := range s.Find(context.Background(), index.Query{Topic: "orders"}) {
		require.ErrorIs(t, err, store.ErrInvalidMessage)
	}
	_, err := s.ByOffsetID(context.Background(), "xyz")
	require.ErrorIs(t, err, store.ErrInvalidMessage)
}

func TestFindLeavesOut(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "quiet", Unindexed: true}))
	put(t, s, &message.Message{Topic: "quiet", Keys: []string{"a"}})
	put(t, s, &message.Message{Topic: "orders", Keys: []string{"a"}, Unindexed: true})
	require.Empty(t, bodies(t, s, index.Query{Topic: "quiet", Key: "a"}))
	require.Empty(t, bodies(t, s, index.Query{Topic: "orders", Key: "a"}))
	putKeys(t, s, "1", "a")
	require.Len(t, bodies(t, s, index.Query{Topic: "orders", Key: "a"}), 1)
	require.NoError(t, s.DeleteTopic(ctx, "orders"))
	require.Empty(t, bodies(t, s, index.Query{Topic: "orders", Key: "a"}))
	checkOK(t, s)
}

func TestIndexComesBack(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir, store.WithIndexSizes(64, 100))
	require.NoError(t, err)
	for i := range 1000 {
		putKeys(t, s, fmt.Sprint(i), fmt.Sprint("k", i%10))
	}
	want := bodies(t, s, index.Query{Topic: "orders", Key: "k3", Limit: 200})
	require.Len(t, want, 100)
	require.NoError(t, s.Abandon())

	require.NoError(t, os.RemoveAll(filepath.Join(dir, "index")))
	s, err = store.Open(dir)
	require.NoError(t, err)
	require.Equal(t, want, bodies(t, s, index.Query{Topic: "orders", Key: "k3", Limit: 200}))
	checkOK(t, s)
	require.NoError(t, s.Close())

	require.NoError(t, os.Remove(filepath.Join(dir, "ember", "index")))
	s = open(t, dir)
	require.Contains(t, s.Stats().Recovery.Rebuilt, "index")
	require.Equal(t, want, bodies(t, s, index.Query{Topic: "orders", Key: "k3", Limit: 200}))
	checkOK(t, s)
}

func TestBetween(t *testing.T) {
	ctx := context.Background()
	c := clock.NewManual(time.UnixMilli(1_000_000))
	e := env.Real()
	e.Clock = c
	s := open(t, t.TempDir(), store.WithEnvironment(e))
	for i := range 100 {
		put(t, s, &message.Message{Topic: "orders", QueueID: int32(i % 4), Body: fmt.Append(nil, i)})
		c.Advance(time.Second)
	}
	var got []string
	for r, err := range s.Between(ctx, "orders", time.UnixMilli(1_010_000), time.UnixMilli(1_050_000)) {
		require.NoError(t, err)
		got = append(got, string(r.Body()))
	}
	require.Len(t, got, 40)
	require.Equal(t, "10", got[0])
	require.Equal(t, "49", got[39])
	begin, end := time.UnixMilli(1_000_000), time.UnixMilli(1_003_000)
	putKeys(t, s, "late", "k")
	require.Empty(t, bodies(t, s, index.Query{Topic: "orders", Key: "k", Begin: begin, End: end}))
	require.Len(t, bodies(t, s, index.Query{Topic: "orders", Key: "k", Begin: begin}), 1)
	for _, err := range s.Between(ctx, "unknown", begin, end) {
		require.ErrorIs(t, err, store.ErrNotFound)
	}
}

// 200,000 keys with one hash: the query is cut off and says so, and what it
// has yielded are the newest.
func TestFindHostileKeys(t *testing.T) {
	if testing.Short() {
		t.Skip("200,000 keys")
	}
	s := open(t, t.TempDir(), store.WithDurability(message.InCache))
	ctx := context.Background()
	const keys, perMessage = 200_000, 100
	ms := make([]*message.Message, 0, perMessage)
	n := 0
	for n < keys {
		ms = ms[:0]
		for range perMessage {
			ms = append(ms, &message.Message{Topic: "orders", Keys: []string{collide(n)}, Body: fmt.Append(nil, n)})
			n++
		}
		_, err := s.PutBatch(ctx, ms)
		require.NoError(t, err)
	}
	require.Equal(t, message.JavaHash(collide(0)), message.JavaHash(collide(12345)))
	var cut *store.TruncatedError
	for r, err := range s.Find(ctx, index.Query{Topic: "orders", Key: collide(5), MaxReads: 1000}) {
		require.Nil(t, r)
		require.True(t, errors.As(err, &cut))
	}
	require.NotNil(t, cut, "the walk is bounded by the records read")
	require.Equal(t, []string{fmt.Sprint(keys - 3)}, bodies(t, s, index.Query{Topic: "orders", Key: collide(keys - 3), Limit: 1}))
}

// collide makes keys of 20 letters with equal Java hashes: "Aa" and "BB" have one.
func collide(n int) string {
	b := make([]byte, 0, 40)
	for i := range 20 {
		if n>>i&1 == 0 {
			b = append(b, "Aa"...)
		} else {
			b = append(b, "BB"...)
		}
	}
	return string(b)
}

func TestFindLimits(t *testing.T) {
	for name, c := range map[string]struct {
		opts []store.Option
		most int
	}{
		"ours":     {nil, 100},
		"rocketmq": {[]store.Option{store.RocketMQSizes()}, index.RocketMQLimit},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), c.opts...)
			for range 100 {
				put(t, s, &message.Message{Topic: "orders", Keys: []string{"k"}})
			}
			require.Len(t, bodies(t, s, index.Query{Topic: "orders", Key: "k"}), index.DefaultLimit)
			require.Len(t, bodies(t, s, index.Query{Topic: "orders", Key: "k", Limit: 1000}), c.most)
			n := 0
			for _, err := range s.FindAll(ctx, index.Query{Topic: "orders", Key: "k", Limit: 1000}) {
				require.NoError(t, err)
				n++
			}
			require.Equal(t, c.most, n)
		})
	}
}
