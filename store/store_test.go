package store_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func open(t testing.TB, dir string, opts ...store.Option) *store.Store {
	t.Helper()
	s, err := store.Open(dir, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func put(t testing.TB, s *store.Store, m *message.Message) message.Receipt {
	t.Helper()
	r, err := s.Put(context.Background(), m)
	require.NoError(t, err)
	return r
}

func read(t testing.TB, s *store.Store, q message.Queue, from int64, f message.Filter) []message.Record {
	t.Helper()
	b, err := s.Read(context.Background(), q, from, message.Limit{Count: 1000}, f)
	require.NoError(t, err)
	return b.Records
}

func checkOK(t testing.TB, s *store.Store) {
	t.Helper()
	r, err := s.Check(context.Background())
	require.NoError(t, err)
	require.Empty(t, r.Damages)
}

func TestPutReadReopen(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	q := message.Queue{Topic: "orders", ID: 1}
	s, err := store.Open(dir)
	require.NoError(t, err)
	for i := range 10 {
		r := put(t, s, &message.Message{Topic: "orders", QueueID: 1, Tag: []string{"a", "b"}[i%2], Keys: []string{"k1", "k2"}, Body: fmt.Appendf(nil, "body %d", i)})
		require.Equal(t, q, r.Queue)
		require.EqualValues(t, i, r.Offset)
	}
	rs := read(t, s, q, 0, nil)
	require.Len(t, rs, 10)
	require.Equal(t, "body 3", string(rs[3].Body()))
	f, err := message.Tags("b")
	require.NoError(t, err)
	require.Len(t, read(t, s, q, 0, f), 5)
	require.NoError(t, s.Commit(ctx, "billing", map[message.Queue]int64{q: 4}))
	checkOK(t, s)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = s.Put(ctx, &message.Message{Topic: "orders"})
	require.ErrorIs(t, err, store.ErrClosed)

	s = open(t, dir)
	require.True(t, s.Stats().Recovery.Clean)
	require.Zero(t, s.Stats().Recovery.Replayed)
	start, end, err := s.Bounds(q)
	require.NoError(t, err)
	require.EqualValues(t, 0, start)
	require.EqualValues(t, 10, end)
	rs = read(t, s, q, 0, nil)
	require.Len(t, rs, 10)
	require.Equal(t, "body 9", string(rs[9].Body()))
	off, ok, err := s.Committed(ctx, "billing", q)
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 4, off)
	r := put(t, s, &message.Message{Topic: "orders", QueueID: 1})
	require.EqualValues(t, 10, r.Offset)
	checkOK(t, s)
}

func TestBatchIsOneGroup(t *testing.T) {
	s := open(t, t.TempDir())
	ms := []*message.Message{{Topic: "a", QueueID: 0, Body: []byte("1")}, {Topic: "b", QueueID: 3, Body: []byte("2")}, {Topic: "a", QueueID: 0, Body: []byte("3")}}
	rs, err := s.PutBatch(context.Background(), ms)
	require.NoError(t, err)
	require.Len(t, rs, 3)
	require.EqualValues(t, 1, rs[2].Offset)
	r, err := s.Get(context.Background(), rs[0].Position)
	require.NoError(t, err)
	n, ok := r.Group()
	require.True(t, ok)
	require.Equal(t, 3, n)
	checkOK(t, s)
}

func TestDeletedTopicStaysDeleted(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	q := message.Queue{Topic: "orders"}
	s, err := store.Open(dir)
	require.NoError(t, err)
	for range 5 {
		put(t, s, &message.Message{Topic: "orders", Body: []byte("old")})
	}
	require.NoError(t, s.DeleteTopic(ctx, "orders"))
	_, _, err = s.Bounds(q)
	require.ErrorIs(t, err, store.ErrNotFound)
	r := put(t, s, &message.Message{Topic: "orders", Body: []byte("new")})
	require.EqualValues(t, 5, r.Offset, "a new life continues the offsets")
	require.Len(t, read(t, s, q, 5, nil), 1)
	checkOK(t, s)
	require.NoError(t, s.Abandon())

	s = open(t, dir)
	start, end, err := s.Bounds(q)
	require.NoError(t, err)
	require.EqualValues(t, 5, start)
	require.EqualValues(t, 6, end)
	checkOK(t, s)
}

func TestAsync(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := context.Background()
	var ps []*message.Pending
	for i := range 2000 {
		ps = append(ps, s.PutAsync(ctx, &message.Message{Topic: "orders", Body: fmt.Appendf(nil, "%d", i)}))
	}
	for i, p := range ps {
		r, err := p.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, i, r.Offset)
	}
	n := 0
	for from := int64(0); ; {
		next, err := s.Scan(message.Queue{Topic: "orders"}, from, message.Limit{Count: 500}, nil, func(r *message.Record) error {
			require.True(t, bytes.Equal(r.Body(), fmt.Appendf(nil, "%d", n)))
			n++
			return nil
		})
		require.NoError(t, err)
		if next == from {
			break
		}
		from = next
	}
	require.Equal(t, 2000, n)
}
