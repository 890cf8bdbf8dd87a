package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// Searches by time rely on store times that never fall along the log, also when
// the clock was set back while the store was closed.
func TestStoreTimesNeverFall(t *testing.T) {
	l := newLab(t)
	first := put(t, l.s, &message.Message{Topic: "orders"}).StoredAt
	require.NoError(t, l.s.Close())
	l.clock.Advance(-time.Hour)
	l.open()
	second := put(t, l.s, &message.Message{Topic: "orders"}).StoredAt
	require.False(t, second.Before(first))
	l.kill()
	l.clock.Advance(-time.Hour)
	third := put(t, l.s, &message.Message{Topic: "orders"}).StoredAt
	require.False(t, third.Before(second))
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

// What retention has dropped is not offered to a reader beside the store either,
// and its queue files are gone after the next save.
func TestRetentionIsSeenByReaders(t *testing.T) {
	l := newLab(t, store.WithRetention(time.Hour))
	for range 60 {
		put(t, l.s, &message.Message{Topic: "orders", Body: make([]byte, 4000)})
	}
	l.advance(2 * time.Hour)
	put(t, l.s, &message.Message{Topic: "orders"})
	require.NoError(t, l.s.Retain())
	require.Positive(t, l.s.Stats().Expired)
	q := message.Queue{Topic: "orders"}
	start, end, err := l.s.Bounds(q)
	require.NoError(t, err)
	require.Positive(t, start)
	require.NoError(t, l.s.Close())

	s, err := store.OpenReadOnly("db", store.WithEnvironment(l.env()))
	require.NoError(t, err)
	from, to, err := s.Bounds(q)
	require.NoError(t, err)
	require.Equal(t, []int64{start, end}, []int64{from, to})
	require.Len(t, read(t, s, q, from, nil), int(end-start))
	require.NoError(t, s.Close())
}
