package store_test

import (
	"fmt"
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// tagged is a machine whose queue has three full files, of ten entries each, and one
// that is not.
func tagged(t *testing.T) (*machine, *store.Store) {
	t.Helper()
	m := newMachine(t)
	s := m.open()
	for i := range 35 {
		put(t, s, &message.Message{Topic: "orders", Tag: fmt.Sprint("tag", i%3), Body: fmt.Append(nil, i)})
	}
	require.NoError(t, s.Queues().Flush())
	require.NoError(t, s.Checkpoint(ctx))
	return m, s
}

func queueFile(base int64) string { return fmt.Sprintf("consumequeue/orders/0/%020d", base) }

// Whatever bit of a full queue file flips, in a tag hash too, Check names the file and
// the next read finds the queue built anew, so a filter passes nothing by.
func TestSealedQueueFiles(t *testing.T) {
	sound, s := tagged(t)
	sound.kill(s)
	seen := func(s *store.Store) {
		t.Helper()
		require.Len(t, read(t, s, orders, 0, must(message.Tags("tag1"))), 12)
		require.Len(t, read(t, s, orders, 0, nil), 35)
	}
	for bit := 0; bit < 200*8; bit += 37 {
		m := &machine{t, sound.sim.Kill(), nil, sound.clock}
		m.root = m.sim.FS()
		name := queueFile(int64(bit%3) * 200)
		require.NoError(t, m.sim.FlipBit(name, int64(bit/8), bit%8))
		s := m.open()
		r, err := s.Check(ctx)
		require.NoError(t, err)
		require.NotEmpty(t, r.Damages, "bit %d", bit)
		require.Equal(t, path.Base(name), path.Base(r.Damages[0].Path))
		seen(s)
		require.EqualValues(t, 1, s.Stats().QueuesRebuilt, "bit %d", bit)
		checkOK(t, s)
		require.NoError(t, s.Checkpoint(ctx))
		m.kill(s)
		s = m.open()
		seen(s)
		checkOK(t, s)
		require.Zero(t, s.Stats().QueuesRebuilt, "bit %d, after it was healed", bit)
		require.NoError(t, s.Abandon())
	}
}

// A checksum never outlives the file that it was taken of, and a file without one is
// taken as it is.
func TestSealedQueueFilesOfAnotherLife(t *testing.T) {
	m, s := tagged(t)
	require.NoError(t, s.DeleteTopic(ctx, "orders"))
	for i := range 35 {
		put(t, s, &message.Message{Topic: "orders", Tag: "other", Body: fmt.Append(nil, i)})
	}
	start, end, err := s.Bounds(orders)
	require.NoError(t, err)
	require.Len(t, read(t, s, orders, start, must(message.Tags("other"))), int(end-start))
	require.NoError(t, s.Close())
	s = m.open()
	require.Len(t, read(t, s, orders, start, nil), 35)
	require.Zero(t, s.Stats().QueuesRebuilt)
	checkOK(t, s)
	require.NoError(t, s.Close())
	// What is gone of meta is only unknown.
	require.NoError(t, removeTree(m.root, "consumequeue"))
	s = m.open()
	require.Len(t, read(t, s, orders, start, nil), 35)
	checkOK(t, s)
	require.NoError(t, s.Close())
}
