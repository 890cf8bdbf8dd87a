package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// An Open that fails at its very end leaves no goroutine behind, not even the one
// that writes the offsets that the replay has changed.
func TestFailedOpenLeavesNothing(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	s := must(store.Open(dir))
	put(t, s, &message.Message{Topic: "brief"})
	require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{{Topic: "brief"}: 1}))
	require.NoError(t, s.Sync(ctx))
	quiet(t, s)
	require.NoError(t, os.CopyFS(copied, os.DirFS(dir))) // meta knows nothing of what follows
	require.NoError(t, s.DeleteTopic(ctx, "brief"))
	quiet(t, s)
	for _, name := range []string{"commitlog/00000000000000000000", "ember/synced"} {
		b := must(os.ReadFile(filepath.Join(dir, name)))
		require.NoError(t, os.WriteFile(filepath.Join(copied, name), b, 0o600))
	}
	require.NoError(t, s.Close())
	_ = os.Remove(filepath.Join(copied, "checkpoint"))
	require.NoError(t, os.Mkdir(filepath.Join(copied, "checkpoint"), 0o700)) // it is read after the replay

	leaks := goleak.IgnoreCurrent()
	s, err := store.Open(copied)
	require.ErrorContains(t, err, "checkpoint")
	require.Nil(t, s)
	require.NoError(t, goleak.Find(leaks))

	require.NoError(t, os.Remove(filepath.Join(copied, "checkpoint")))
	s = open(t, copied)
	_, _, err = s.Bounds(message.Queue{Topic: "brief"})
	require.ErrorIs(t, err, store.ErrNotFound)
}

// A Close without room says so in the store's own word, and loses nothing.
func TestCloseOnFullDisk(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	fillOrders(t, s, message.OnDisk, numbered(1, 60)...)
	u := must(m.root.Usage())
	m.sim.SetCapacity(u.Total - u.Free)
	require.ErrorIs(t, s.Close(), store.ErrDiskFull)
	m.sim.SetCapacity(1 << 40)
	s = m.open()
	require.False(t, s.Stats().Recovery.Clean)
	holds(t, s, numbered(1, 60)...)
}
