package producer_test

import (
	"context"
	"errors"
	"hash/fnv"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
)

func queuesOf(t *testing.T, p *producer.Producer, n int, key string) (ids []int32) {
	t.Helper()
	for range n {
		r, err := p.Send(context.Background(), keyed(key, "x"))
		require.NoError(t, err)
		ids = append(ids, r.Queue.ID)
	}
	return ids
}

func TestRoundRobin(t *testing.T) {
	starts := make(map[int32]bool)
	for range 200 {
		ids := queuesOf(t, newProducer(t, newFake(8)), 17, "")
		for i := 1; i < len(ids); i++ {
			require.Equal(t, (ids[i-1]+1)%8, ids[i])
		}
		starts[ids[0]] = true
	}
	require.Greater(t, len(starts), 4, "the start is random")
}

func TestByKey(t *testing.T) {
	for _, key := range []string{"a", "order-42", "é", "\xff\xfe"} {
		h := fnv.New32a()
		_, _ = h.Write([]byte(key))
		require.Equal(t, h.Sum32(), producer.FNV1a(key))
		for _, n := range []int{1, 3, 4, 65536} {
			p := newProducer(t, newFake(n))
			for _, id := range queuesOf(t, p, 3, key) {
				require.Equal(t, int32(h.Sum32()%uint32(n)), id)
			}
		}
	}
	// Known values of FNV-1a 32.
	require.Equal(t, uint32(0x811c9dc5), producer.FNV1a(""))
	require.Equal(t, uint32(0xe40c292c), producer.FNV1a("a"))
	require.Equal(t, uint32(0xbf9cf968), producer.FNV1a("foobar"))
}

func TestByJavaKey(t *testing.T) {
	require.Equal(t, int32(math.MinInt32), message.JavaHash("polygenelubricants"))
	cases := []struct {
		hash int32
		n    int
		want int32
	}{
		{math.MinInt32, 4, 0}, {math.MinInt32, 3, 2}, {math.MinInt32, 7, 2}, {math.MinInt32, 1, 0},
		{math.MaxInt32, 4, 3}, {-1, 4, 1}, {-5, 4, 1}, {5, 4, 1}, {0, 4, 0},
	}
	for _, c := range cases {
		require.Equal(t, c.want, producer.JavaQueue(c.hash, c.n), c)
	}
	p := newProducer(t, newFake(3), producer.WithSelector(producer.ByJavaKey()))
	require.Equal(t, []int32{2, 2}, queuesOf(t, p, 2, "polygenelubricants"))
	ids := queuesOf(t, p, 2, "")
	require.NotEqual(t, ids[0], ids[1], "without a key round robin")
}

func TestRandom(t *testing.T) {
	p := newProducer(t, newFake(4), producer.WithSelector(producer.Random()))
	seen := make(map[int32]int)
	for _, id := range queuesOf(t, p, 400, "k") {
		seen[id]++
	}
	require.Len(t, seen, 4)
}

func TestInRooms(t *testing.T) {
	room := func(q message.Queue) string { return []string{"north", "south", "west"}[q.ID%3] }
	p := newProducer(t, newFake(6), producer.WithSelector(producer.InRooms(room, "north", "west")))
	seen := make(map[int32]int)
	for _, id := range queuesOf(t, p, 60, "") {
		seen[id]++
	}
	require.Len(t, seen, 4)
	require.NotContains(t, seen, int32(1))
	require.NotContains(t, seen, int32(4))
	f := newFake(6)
	p = newProducer(t, f, producer.WithSelector(producer.InRooms(room, "east")))
	_, err := p.Send(context.Background(), msg("x"))
	require.ErrorIs(t, err, message.ErrNotFound)
	require.Empty(t, f.tried)
	p = newProducer(t, f, producer.WithSelector(producer.InRooms(func(message.Queue) string { panic("lost") }, "east")))
	_, err = p.Send(context.Background(), msg("x"))
	require.ErrorIs(t, err, producer.ErrSelector)
}

func TestByFunc(t *testing.T) {
	boom := errors.New("boom")
	cases := map[string]func([]message.Queue, *message.Message) (message.Queue, error){
		"panic":       func([]message.Queue, *message.Message) (message.Queue, error) { panic("boom") },
		"panic_error": func([]message.Queue, *message.Message) (message.Queue, error) { panic(boom) },
		"panic_nil":   func(qs []message.Queue, _ *message.Message) (message.Queue, error) { return qs[len(qs)], nil },
		"error":       func([]message.Queue, *message.Message) (message.Queue, error) { return message.Queue{}, boom },
		"zero":        func([]message.Queue, *message.Message) (message.Queue, error) { return message.Queue{}, nil },
		"other_topic": func([]message.Queue, *message.Message) (message.Queue, error) { return message.Queue{Topic: "u"}, nil },
		"beyond": func([]message.Queue, *message.Message) (message.Queue, error) {
			return message.Queue{Topic: "t", ID: 4}, nil
		},
		"negative": func([]message.Queue, *message.Message) (message.Queue, error) {
			return message.Queue{Topic: "t", ID: -1}, nil
		},
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			e := newFake(4)
			p := newProducer(t, e, producer.WithSelector(producer.ByFunc(f)))
			for _, way := range []string{"Send", "SendAsync", "SendBatch"} {
				_, err := sendBy(p, way, msg("x"))
				var bad *producer.SelectorError
				require.ErrorAs(t, err, &bad)
				require.ErrorIs(t, err, producer.ErrSelector)
				require.Equal(t, "t", bad.Topic)
				require.NotEmpty(t, err.Error())
				if name == "error" {
					require.ErrorIs(t, err, boom)
				}
			}
			require.Empty(t, e.tried, "nothing is stored")
		})
	}
	p := newProducer(t, newFake(4), producer.WithSelector(producer.ByFunc(func(qs []message.Queue, m *message.Message) (message.Queue, error) {
		return qs[len(m.Body)%len(qs)], nil
	})))
	require.Equal(t, []int32{1, 1}, queuesOf(t, p, 2, ""))
	_, err := p.Send(context.Background(), &message.Message{Topic: "missing"})
	require.ErrorIs(t, err, message.ErrNotFound)
}

// The first message of a key makes the topic and lies in the key's queue.
func TestKeyOfNewTopic(t *testing.T) {
	s := openStore(t)
	p := newProducer(t, s)
	ids := queuesOf(t, p, 3, "order-42")
	require.Equal(t, []int32{ids[0], ids[0], ids[0]}, ids)
	require.Equal(t, int32(producer.FNV1a("order-42")%4), ids[0])
}
