package progress

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/kv"
)

// What a call promised to be on disk is there after the power goes, whatever
// the disk kept of the rest.
func TestPowerCut(t *testing.T) {
	sim := crash.New(7)
	db, err := kv.Open(sim.FS(), kv.Options{})
	require.NoError(t, err)
	log := newLog("orders", "bills")
	o := Options{Bounds: log.bounds, SyncLog: log.sync, Manual: true}
	p, err := Open(bg, db, o)
	require.NoError(t, err)

	check := func(want map[string]int64, epochs uint64) {
		t.Helper()
		for sub, mode := range crash.Modes {
			disk, err := kv.Open(sim.PowerCut(mode, uint64(sub)).FS(), kv.Options{})
			require.NoError(t, err, mode.String())
			again, err := Open(bg, disk, o)
			require.NoError(t, err, mode.String())
			for group, offset := range want {
				require.Equal(t, at(orders0, offset), again.Offsets(group), "%s after %s", group, mode)
			}
			require.GreaterOrEqual(t, again.Epoch("a"), epochs)
			require.NoError(t, again.Close())
			require.NoError(t, disk.Close())
		}
	}
	require.NoError(t, p.Commit(bg, "a", at(orders0, 10)))
	require.NoError(t, p.Commit(bg, "b", at(orders0, 20)))
	require.NoError(t, p.Flush(bg))
	check(map[string]int64{"a": 10, "b": 20}, p.Epoch("a"))
	require.NoError(t, p.Reset(bg, "a", at(orders0, 3)))
	check(map[string]int64{"a": 3, "b": 20}, p.Epoch("a"))
	require.NoError(t, p.DeleteGroup(bg, "b"))
	require.NoError(t, p.Clone(bg, "a", "c", "orders"))
	check(map[string]int64{"a": 3, "c": 3}, p.Epoch("a"))
	require.NoError(t, p.Commit(bg, "a", at(orders0, 90))) // only in memory
	check(map[string]int64{"a": 3, "c": 3}, p.Epoch("a"))
	require.NoError(t, p.Close())
	check(map[string]int64{"a": 90, "c": 3}, p.Epoch("a"))
	require.NoError(t, db.Close())
}
