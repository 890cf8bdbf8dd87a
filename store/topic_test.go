package store_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func TestTopicAutoCreate(t *testing.T) {
	s := open(t, t.TempDir())
	put(t, s, &message.Message{Topic: "orders", QueueID: 3})
	require.Equal(t, []store.Topic{{Name: "orders", ReadQueues: 4, WriteQueues: 4, Permission: store.PermRead | store.PermWrite}}, s.Topics())
	n, err := s.QueueCount("orders")
	require.NoError(t, err)
	require.Equal(t, 4, n)

	s = open(t, t.TempDir(), store.WithTopicQueues(2))
	put(t, s, &message.Message{Topic: "orders", QueueID: 1})
	n, err = s.QueueCount("orders")
	require.NoError(t, err)
	require.Equal(t, 2, n)

	s = open(t, t.TempDir(), store.WithoutTopicCreation())
	_, err = s.Put(ctx, &message.Message{Topic: "orders"})
	require.ErrorIs(t, err, store.ErrNotFound)
	require.Empty(t, s.Topics())
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "orders", WriteQueues: 1}))
	put(t, s, &message.Message{Topic: "orders"})
}

func TestTopicCalls(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir)
	require.NoError(t, err)
	both := store.PermRead | store.PermWrite
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "b", ReadQueues: 6, WriteQueues: 3, Kind: store.KindOrdered}))
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "a"}))
	require.ErrorIs(t, s.CreateTopic(ctx, store.Topic{Name: "a"}), store.ErrExists)
	require.NoError(t, s.UpdateTopic(ctx, store.Topic{Name: "b", Permission: store.PermRead}))
	want := []store.Topic{
		{Name: "a", ReadQueues: 4, WriteQueues: 4, Permission: both},
		{Name: "b", ReadQueues: 6, WriteQueues: 3, Permission: store.PermRead},
	}
	require.Equal(t, want, s.Topics(), "an update keeps the numbers that it does not name")
	require.ErrorIs(t, s.UpdateTopic(ctx, store.Topic{Name: "c"}), store.ErrNotFound)
	require.ErrorIs(t, s.DeleteTopic(ctx, "c"), store.ErrNotFound)
	require.ErrorIs(t, s.UpdateTopic(ctx, store.Topic{Name: "a", ReadQueues: 70_000}), store.ErrInvalidMessage)
	require.ErrorIs(t, s.DeleteTopic(ctx, message.TopicTopics), store.ErrInvalidName)
	require.ErrorIs(t, s.UpdateTopic(ctx, store.Topic{Name: message.TopicTopics}), store.ErrInvalidName)
	require.Equal(t, want, s.Topics())
	require.NoError(t, s.Close())
	s = open(t, dir)
	require.Equal(t, want, s.Topics(), "after a reopen")
	require.NoError(t, s.DeleteTopic(ctx, "b"))
	require.Equal(t, want[:1], s.Topics())
	n, err := s.QueueCount("b")
	require.NoError(t, err)
	require.Equal(t, 4, n, "what a put would make of it")
	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, s.DeleteTopic(ended, "a"), context.Canceled)
	require.Equal(t, want[:1], s.Topics())
}

func TestTopicPermission(t *testing.T) {
	s := open(t, t.TempDir())
	q := message.Queue{Topic: "t"}
	put(t, s, &message.Message{Topic: "t", Body: []byte("x")})
	require.NoError(t, s.UpdateTopic(ctx, store.Topic{Name: "t", Permission: store.PermWrite}))
	put(t, s, &message.Message{Topic: "t"})
	_, err := s.Read(ctx, q, 0, message.Limit{}, nil)
	require.ErrorIs(t, err, store.ErrPermission)
	_, err = s.Scan(q, 0, message.Limit{}, nil, func(*message.Record) error { return nil })
	require.ErrorIs(t, err, store.ErrPermission)
	require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{q: 1}), "what was read before may be settled")
	_, end, err := s.Bounds(q)
	require.NoError(t, err)
	require.EqualValues(t, 2, end)
	require.NoError(t, s.UpdateTopic(ctx, store.Topic{Name: "t", Permission: store.PermRead}))
	_, err = s.Put(ctx, &message.Message{Topic: "t"})
	require.ErrorIs(t, err, store.ErrPermission)
	_, err = s.PutBatch(ctx, []*message.Message{{Topic: "u"}, {Topic: "t"}})
	require.ErrorIs(t, err, store.ErrPermission)
	require.Len(t, s.Topics(), 1, "a batch that is refused makes no topic")
	require.Len(t, read(t, s, q, 0, nil), 2)
}

func TestTopicKind(t *testing.T) {
	s := open(t, t.TempDir())
	plain := &message.Message{}
	keyed := &message.Message{ShardingKey: "k"}
	delayed := &message.Message{DelayLevel: 1}
	for _, c := range []struct {
		kind store.Kind
		ok   []*message.Message
	}{
		{store.KindAny, []*message.Message{plain, keyed, delayed}},
		{store.KindNormal, []*message.Message{plain}},
		{store.KindOrdered, []*message.Message{keyed}},
		{store.KindDelayed, []*message.Message{delayed}},
		{store.KindTransactional, nil},
	} {
		t.Run(c.kind.String(), func(t *testing.T) {
			name := "kind-" + c.kind.String()
			require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: name, Kind: c.kind}))
			for _, m := range []*message.Message{plain, keyed, delayed} {
				m := *m
				m.Topic = name
				_, err := s.Put(ctx, &m)
				allowed := false
				for _, o := range c.ok {
					allowed = allowed || o.ShardingKey == m.ShardingKey && o.DelayLevel == m.DelayLevel
				}
				if allowed {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, store.ErrKind)
				}
			}
		})
	}
}

// A topic grows and shrinks while four writers and a reader use it. No message
// is lost, none is in a queue that was not there, and the order of each queue holds.
func TestTopicResizeLive(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir, store.WithDurability(message.InCache))
	require.NoError(t, err)
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "t", WriteQueues: 2, ReadQueues: 8}))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex
	acked := map[message.Queue]int64{}
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				n, err := s.QueueCount("t")
				if err != nil {
					panic(err)
				}
				r, err := s.Put(ctx, &message.Message{Topic: "t", QueueID: int32((w + i) % n)})
				if err != nil { // the topic shrank in between
					if !isNotFound(err) {
						panic(err)
					}
					continue
				}
				mu.Lock()
				acked[r.Queue] = max(acked[r.Queue], r.Offset+1)
				mu.Unlock()
			}
		})
	}
	for i := range 60 {
		require.NoError(t, s.UpdateTopic(ctx, store.Topic{Name: "t", WriteQueues: 1 + i*5%8}))
		_, err := s.Read(ctx, message.Queue{Topic: "t"}, 0, message.Limit{}, nil)
		require.NoError(t, err)
	}
	close(stop)
	wg.Wait()
	for q, end := range acked {
		_, have, err := s.Bounds(q)
		require.NoError(t, err)
		require.Equal(t, end, have, q)
	}
	// Drained queues go last; their messages stay and come back with them.
	require.NoError(t, s.UpdateTopic(ctx, store.Topic{Name: "t", WriteQueues: 1, ReadQueues: 1}))
	gone := message.Queue{Topic: "t", ID: 5}
	_, err = s.Read(ctx, gone, 0, message.Limit{}, nil)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{gone: 1}))
	checkOK(t, s)
	require.NoError(t, s.Abandon())

	s = open(t, dir, store.WithDurability(message.InCache))
	require.Equal(t, 1, s.Topics()[0].ReadQueues, "a replay does not grow the topic")
	require.NoError(t, s.UpdateTopic(ctx, store.Topic{Name: "t", WriteQueues: 8, ReadQueues: 8}))
	for q, end := range acked {
		require.Len(t, readAll(t, s, q), int(end))
	}
	r := put(t, s, &message.Message{Topic: "t", QueueID: 5})
	require.Equal(t, acked[gone], r.Offset)
	checkOK(t, s)
}

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }

func readAll(t testing.TB, s *store.Store, q message.Queue) (rs []message.Record) {
	t.Helper()
	from, _, err := s.Bounds(q)
	require.NoError(t, err)
	for {
		b, err := s.Read(ctx, q, from, message.Limit{Count: 1000}, nil)
		require.NoError(t, err)
		if b.Next == from {
			return rs
		}
		for i := range b.Records {
			require.Equal(t, from+int64(i), b.Records[i].Offset())
		}
		rs, from = append(rs, b.Records...), b.Next
	}
}

func TestDeletedTopicDropsOffsets(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir)
	require.NoError(t, err)
	q := message.Queue{Topic: "t"}
	for range 5 {
		put(t, s, &message.Message{Topic: "t"})
	}
	require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{q: 3}))
	require.NoError(t, s.Sync(ctx))
	require.NoError(t, s.DeleteTopic(ctx, "t"))
	put(t, s, &message.Message{Topic: "t"})
	_, ok, err := s.Committed(ctx, "g", q)
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, s.Abandon())
	s = open(t, dir)
	_, ok, err = s.Committed(ctx, "g", q)
	require.NoError(t, err)
	require.False(t, ok)
	start, end, err := s.Bounds(q)
	require.NoError(t, err)
	require.Equal(t, []int64{5, 6}, []int64{start, end})
	_, err = s.Read(ctx, q, 3, message.Limit{}, nil)
	var re *store.RangeError
	require.ErrorAs(t, err, &re)
	require.Equal(t, store.RangeError{Queue: q, Offset: 3, Start: 5, End: 6}, *re)
}

func TestDeletedTopicSaysWhatItDropped(t *testing.T) {
	var told strings.Builder
	log := slog.New(slog.NewTextHandler(&told, nil))
	s := open(t, t.TempDir(), store.WithLogger(log))
	for _, topic := range []string{"orders", "other"} {
		put(t, s, &message.Message{Topic: topic, Delay: time.Hour, Body: []byte("a")})
		put(t, s, &message.Message{Topic: topic, DelayLevel: 18, Body: []byte("b")})
		_, _, err := s.Halves().Prepare(ctx, &message.Message{Topic: topic, Body: []byte("c")}, "bank", message.HalfOptions{})
		require.NoError(t, err)
	}
	require.NoError(t, s.DeleteTopic(ctx, "orders"))
	require.Contains(t, told.String(), `msg="topic deleted" topic=orders timers=2 halves=1`)
	require.Equal(t, int64(2), s.Stats().Timers.Dropped)
	require.Equal(t, int64(1), s.Stats().Halves.Dropped)
	require.Equal(t, int64(2), s.Timers().Len())
	require.Equal(t, int64(1), s.Halves().Len())
}
