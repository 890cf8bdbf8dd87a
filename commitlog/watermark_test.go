package commitlog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
)

// TestWatermarkOutlivesKillsAndCut: a kill tears a save, another kill leaves the
// next one unsynced, a third tears the one behind it, and then the power goes.
func TestWatermarkOutlivesKillsAndCut(t *testing.T) {
	openSlots := func(sim *crash.Sim) {
		s, found, err := readSlots(sim.FS())
		if err != nil {
			return // killed while it read
		}
		var w watermark
		_ = w.open(sim.FS(), found, s)
	}
	for seed := range uint64(500) {
		second, third := 1+int(seed%8), 1+int(seed/8%8)
		for _, mode := range crash.Modes {
			base := crash.New(seed)
			var w watermark
			require.NoError(t, w.open(base.FS(), false, slot{maxUnsynced: 1}))
			// The first slot is torn, and that is on disk.
			require.NoError(t, w.close())
			f, err := base.FS().Open(syncedName, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte{1, 2, 3}, 20)
			require.NoError(t, err)
			require.NoError(t, f.Sync())
			require.NoError(t, f.Close())

			sim := base.Kill()
			sim.StopAfter(second, true)
			openSlots(sim)
			sim = sim.Kill()
			sim.StopAfter(third, true)
			openSlots(sim)
			_, found, err := readSlots(sim.PowerCut(mode, uint64(third)).FS())
			require.NoError(t, err, "%d %d %s", second, third, mode)
			require.True(t, found)
		}
	}
}

// Of two later saves one may be torn and the other lost: the slot that is left must
// not have an older W.
func TestOpenGivesBothSlotsItsW(t *testing.T) {
	sim := crash.New(1)
	var w watermark
	require.NoError(t, w.open(sim.FS(), false, slot{maxUnsynced: 1024}))
	require.NoError(t, w.close())
	s, found, err := readSlots(sim.FS())
	require.NoError(t, err)
	s.maxUnsynced = 2048
	var again watermark
	require.NoError(t, again.open(sim.FS(), found, s))
	require.NoError(t, again.close())
	b, err := fs.Read(sim.PowerCut(crash.KeepNone, 1).FS(), syncedName)
	require.NoError(t, err)
	for i := range 2 {
		require.True(t, s.decode(b[i*slotSize:]))
		require.EqualValues(t, 2048, s.maxUnsynced)
	}
}
