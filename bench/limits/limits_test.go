package limits

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLogRolls(t *testing.T) {
	for _, written := range []bool{false, true} {
		l, err := NewLog(t.TempDir(), written)
		require.NoError(t, err)
		p := make([]byte, 20<<20)
		for range 4 {
			require.NoError(t, l.Write(p))
		}
		require.Equal(t, int64(len(p)), l.at)
		require.NoError(t, l.Gather(make([]byte, 100), 50, 3))
		require.Equal(t, int64(len(p)+300), l.at)
		require.NoError(t, l.Sync())
		require.NoError(t, l.Close())
	}
}

func TestCommitWritesAll(t *testing.T) {
	c, err := NewCommit(t.TempDir())
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			appendTo := c.Appender()
			for range 20 {
				if err := appendTo(make([]byte, 10)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(1600), c.log.at)
	require.NoError(t, c.Close())
}

// TestReads goes through a store's own log.
func TestReads(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir, store.WithSegmentSize(64<<10), store.WithMaxUnsynced(32<<10), store.WithDurability(message.InCache))
	require.NoError(t, err)
	var positions []int64
	for range 300 {
		r, err := s.Put(context.Background(), &message.Message{Topic: "orders", Body: make([]byte, 500)})
		require.NoError(t, err)
		positions = append(positions, r.Position)
	}
	require.NoError(t, s.Close())
	log := filepath.Join(dir, "commitlog")
	n, sum, err := Scan(log)
	require.NoError(t, err)
	require.Equal(t, int64(300), n)
	require.NotZero(t, sum)
	require.NoError(t, ReadAt(log, 64<<10, 100, positions))
	require.Error(t, ReadAt(log, 64<<10, 100, []int64{1 << 40}))
}

func TestWake(t *testing.T) {
	w, err := NewWake(t.TempDir(), make([]byte, 10))
	require.NoError(t, err)
	var dues []time.Time
	read := make(chan struct{})
	go func() {
		defer close(read)
		w.Read(100, func(due time.Time) { dues = append(dues, due) })
	}()
	for i := range 100 {
		require.NoError(t, w.Write(time.Unix(int64(i), 0)))
	}
	<-read
	for i, due := range dues {
		require.Equal(t, time.Unix(int64(i), 0), due)
	}
	require.Len(t, dues, 100)
	require.NoError(t, w.Close())
}
