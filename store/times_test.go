package store_test

import (
	"bytes"
	"errors"
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

// A time in RocketMQ's checkpoint that is not as we wrote it, because a power cut has
// torn it or RocketMQ has changed it, is not that of the records to come.
func TestStoreTimesIgnoreWildCheckpoint(t *testing.T) {
	l := newLab(t)
	first := put(t, l.s, &message.Message{Topic: "orders"}).StoredAt
	require.NoError(t, l.s.Close())
	f, err := l.sim.FS().Sub("db").Open("checkpoint", 0)
	require.NoError(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{0x5a}, 512), 0)
	require.NoError(t, errors.Join(err, f.Close()))
	l.open()
	l.clock.Advance(time.Second)
	require.Equal(t, first.Add(time.Second), put(t, l.s, &message.Message{Topic: "orders"}).StoredAt)
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
