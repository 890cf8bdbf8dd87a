package rocketmq

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// importTheirs opens a directory of Java's as a store and compares what it says
// with what Java said: every queue's bounds and every record. Then the log goes on.
func importTheirs(t *testing.T, p plan, seen *view) {
	t.Helper()
	s, err := store.Open(p.Dir, store.WithRetention(0), store.WithIndexSizes(p.Slots, p.Entries))
	require.NoError(t, err)
	defer s.Close()
	rec := s.Stats().Recovery
	require.NotNil(t, rec.Import)
	require.Equal(t, seen.end, rec.End)
	for _, q := range seen.queues {
		name := message.Queue{Topic: q.Topic, ID: q.Queue}
		key := fmt.Sprintf("%s/%d", q.Topic, q.Queue)
		start, end, err := s.Bounds(name)
		if q.Start == q.End && q.End == 0 && err != nil {
			continue
		}
		require.NoError(t, err, key)
		require.Equal(t, q.End, end, "end of %s", key)
		require.Equal(t, q.Start, start, "start of %s", key)
		if message.IsSystemTopic(q.Topic) {
			continue
		}
		want := seen.records[key]
		for at := start; at < end; {
			next, err := s.Scan(name, at, message.Limit{Count: 1000}, nil, func(r *message.Record) error {
				require.Equal(t, want[0].Raw, r.Bytes(), key)
				want = want[1:]
				return nil
			})
			require.NoError(t, err, key)
			require.Greater(t, next, at)
			at = next
		}
		require.Empty(t, want)
	}
	sameWaiting(t, s, seen.waits)
	got, err := s.Put(t.Context(), &message.Message{Topic: "orders", Body: []byte("ours"), Keys: []string{"first-of-ours"}})
	require.NoError(t, err)
	require.GreaterOrEqual(t, got.Position, seen.end)
	report, err := s.Check(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Damages)
	require.NoError(t, s.Close())
	_, err = os.Stat(filepath.Join(p.Dir, "ember", "FORMAT"))
	require.NoError(t, err)
}
