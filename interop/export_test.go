package interop

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// TestThereAndBack: what an export writes an import reads, in a copy and in place.
func TestThereAndBack(t *testing.T) {
	for _, inPlace := range []bool{true, false} {
		ctx := context.Background()
		dir := filepath.Join(t.TempDir(), "store")
		s, err := store.Open(dir, store.WithSegmentSize(64<<10), store.WithIndexSizes(100, 400))
		require.NoError(t, err)
		defer s.Close()
		require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "orders", WriteQueues: 2, ReadQueues: 3, Kind: store.KindAny}))
		for i := range 50 {
			_, err := s.Put(ctx, &message.Message{Topic: "orders", QueueID: int32(i % 2), Body: []byte{byte(i)}})
			require.NoError(t, err)
		}
		var ids []message.TimerID
		for _, d := range []time.Duration{time.Hour, 3 * 24 * time.Hour, 365 * 24 * time.Hour, 2 * time.Hour} {
			r, err := s.Put(ctx, &message.Message{Topic: "orders", Body: []byte("timer"), Delay: d})
			require.NoError(t, err)
			ids = append(ids, r.Timer)
		}
		_, err = s.Timers().Cancel(ctx, ids[3])
		require.NoError(t, err)
		_, err = s.Put(ctx, &message.Message{Topic: "orders", Body: []byte("level"), DelayLevel: 18})
		require.NoError(t, err)
		_, half, err := s.Halves().Prepare(ctx, &message.Message{Topic: "orders", Body: []byte("half")}, "payments", message.HalfOptions{})
		require.NoError(t, err)
		q := message.Queue{Topic: "orders", ID: 1}
		require.NoError(t, s.Commit(ctx, "billing", map[message.Queue]int64{q: 7}))
		require.NoError(t, s.Close())

		out := dir
		if !inPlace {
			out = filepath.Join(t.TempDir(), "out")
		}
		r, err := Export(ctx, dir, out)
		require.NoError(t, err)
		require.Equal(t, 3, r.Timers)
		require.Equal(t, 1, r.Levels)
		require.Equal(t, 1, r.Halves)
		require.Contains(t, r.Broker, "mappedFileSizeCommitLog=65536")
		require.Empty(t, r.Warnings)
		for name, size := range map[string]int64{"timerwheel": 38_707_200, "timerlog/00000000000000000000": 100 << 20, "config/timercheck": 4096} {
			i, err := os.Stat(filepath.Join(out, name))
			require.NoError(t, err)
			require.Equal(t, size, i.Size())
		}
		if !inPlace {
			require.NoDirExists(t, filepath.Join(out, "ember"))
			_, err := Export(ctx, dir, out)
			require.ErrorContains(t, err, "not empty")
		}

		im, err := Import(ctx, out)
		require.NoError(t, err)
		require.EqualValues(t, 4, im.Pending)
		require.EqualValues(t, 1, im.Halves)
		require.Equal(t, 1, im.Offsets)
		require.Empty(t, im.LeftOut)
		s, err = store.Open(out)
		require.NoError(t, err)
		defer s.Close()
		at, ok, err := s.Committed(ctx, "billing", q)
		require.NoError(t, err)
		require.True(t, ok)
		require.EqualValues(t, 7, at)
		require.Equal(t, []store.Topic{{Name: "orders", WriteQueues: 2, ReadQueues: 3, Permission: store.PermRead | store.PermWrite}}, s.Topics())
		for _, id := range ids[:3] {
			how, err := s.Timers().Cancel(ctx, id)
			require.NoError(t, err)
			require.Equal(t, "cancelled", how.String())
		}
		_, _, err = s.Halves().Commit(ctx, half)
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
}
