package store_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

// Read, Scan and Follow give what an SQL92 filter matches, also beyond many
// records that it does not, and Next passes those.
func TestSQL92Filter(t *testing.T) {
	ctx := t.Context()
	s := openStill(t)
	q := message.Queue{Topic: "orders"}
	const n = 3000
	for i := range n {
		m := &message.Message{Topic: q.Topic, Tag: "tag" + strconv.Itoa(i%3), Body: []byte(strconv.Itoa(i)), Durability: message.InCache,
			Properties: map[string]string{"price": strconv.Itoa(i)}}
		_, err := s.Put(ctx, m)
		require.NoError(t, err)
	}
	require.NoError(t, s.Sync(ctx))
	f, err := message.SQL92("TAGS = 'tag1' AND price NOT BETWEEN 5 AND 2990")
	require.NoError(t, err)
	want := []string{"1", "4", "2992", "2995", "2998"}

	var read []string
	for next := int64(0); next < n; {
		b, err := s.Read(ctx, q, next, message.Limit{Count: 2}, f)
		require.NoError(t, err)
		require.Greater(t, b.Next, next)
		next = b.Next
		for i := range b.Records {
			read = append(read, string(b.Records[i].Body()))
		}
	}
	require.Equal(t, want, read)

	var lent []string
	next, err := s.Scan(q, 0, message.Limit{Count: 100}, f, func(r *message.Record) error {
		lent = append(lent, string(r.Body()))
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, int64(n), next)
	require.Equal(t, want, lent)

	var followed []string
	for r, err := range s.Follow(ctx, q, 0, f) {
		require.NoError(t, err)
		if followed = append(followed, string(r.Body())); len(followed) == len(want) {
			break
		}
	}
	require.Equal(t, want, followed)
}

// A watch wakes for any record, because the tag hash tells nothing; whoever
// follows sees only what matches.
func TestSQL92Watch(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := openStill(t)
	q := message.Queue{Topic: "orders"}
	priced := func(n string) {
		_, err := s.Put(ctx, &message.Message{Topic: q.Topic, Properties: map[string]string{"n": n}})
		require.NoError(t, err)
	}
	priced("5")
	priced("x")
	priced("7")
	f, err := message.SQL92("n > 6")
	require.NoError(t, err)
	w := s.Watch(f, q)
	defer w.Close()
	got, err := w.Next(ctx)
	require.NoError(t, err)
	require.Equal(t, q, got)
	done := make(chan error, 1)
	go func() {
		_, err := w.Next(ctx)
		done <- err
	}()
	priced("8")
	require.NoError(t, <-done)
	b, err := s.Read(ctx, q, 0, message.Limit{}, f)
	require.NoError(t, err)
	require.Len(t, b.Records, 2)
	require.Equal(t, int64(4), b.Next)
}
