package commitlog

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
)

// TestOneGoroutineNeverWaitsForItself mixes asynchronous and other appends from
// one goroutine, which is the committer too. Asynchronous groups that wait for a
// sync leave the sync leadership to the committer; when it writes before that
// and needs room, it must begin that sync itself. Without it the test hangs.
func TestOneGoroutineNeverWaitsForItself(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		l := open(t, crash.New(seed).FS(), Options{
			SegmentSize: 16 << 10, MaxUnsynced: 4096, OnDisk: rnd.IntN(2) == 0, Manual: true, Clock: manualClock(), DiskReserve: -1,
		})
		seq := NewSequence(0)
		given, done := 0, 0
		for range 60 {
			g := put(t, &Group{OnDisk: rnd.IntN(2) == 0}, seq, 1, rnd.IntN(1500), "x")
			switch rnd.IntN(6) {
			case 0:
				require.NoError(t, l.Append(ctx, g))
			case 1:
				l.Step()
			default:
				given++
				g.Done = func(_ *Group, err error) {
					require.NoError(t, err)
					done++
				}
				require.NoError(t, l.AppendAsync(ctx, g))
			}
		}
		require.NoError(t, l.Sync(ctx))
		require.Equal(t, given, done)
		require.NoError(t, l.Close())
	}
}
