package commitlog

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSyncTimes(t *testing.T) {
	var c counters
	want := SyncTimes{}
	for _, s := range []struct {
		took   time.Duration
		bucket int
	}{
		{0, 0},
		{time.Microsecond, 0},
		{time.Microsecond + 1, 1},
		{2 * time.Microsecond, 1},
		{1024 * time.Microsecond, 10},
		{1024*time.Microsecond + 1, 11},
		{time.Hour, SyncBuckets - 1},
	} {
		c.synced(s.took)
		want.Counts[s.bucket]++
		want.Total += s.took
		got, _ := c.syncTimes()
		require.Equal(t, want, got, s.took)
	}
	_, n := c.syncTimes()
	require.EqualValues(t, 7, n)
}
