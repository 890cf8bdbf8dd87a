//go:build plant

package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/store"
)

// TestMutants plants one known mistake after the other and demands that the
// crash campaign finds it. What it finds in the rooms below, it finds from above:
// their own tests find it sooner.
func TestMutants(t *testing.T) {
	const limit = 12_000
	var matrix strings.Builder
	for _, bug := range []plant.Bug{
		plant.StoreNoAbort, plant.StoreMarkAhead, plant.StoreTopicUnsynced, plant.StoreForgetsDeletion, plant.StoreKeepsOffsets,
		plant.StoreForgetsStarts, plant.StoreEarlyFormat, plant.StoreReplaysLate,
		plant.LogAckBeforeSync, plant.LogTrustTail, plant.LogKeepHalfGroup, plant.LogEarlyVisible,
		plant.QueueAheadOfLog, plant.OffsetsBeforeLog, plant.KVLogNotSynced,
	} {
		t.Run(string(bug), func(t *testing.T) {
			plant.Set(bug)
			defer plant.Set(plant.None)
			c := newCampaign()
			begun := time.Now()
			_, err := c.run(limit)
			if err == nil {
				t.Fatalf("not found in %d images", c.opened)
			}
			fmt.Fprintf(&matrix, "%-55s %6d images  %5.1f s  %.100s\n", bug, c.opened, time.Since(begun).Seconds(), lastPart(err))
		})
	}
	t.Logf("found by the crash campaign:\n%s", matrix.String())
}

func lastPart(err error) string {
	s := err.Error()
	if i := strings.LastIndex(s, "op="); i >= 0 {
		if _, after, ok := strings.Cut(s[i:], ": "); ok {
			return after
		}
	}
	return s
}

// TestMutantsOfRecovery shows what two tests of recovery would find: no crash
// makes another program change the log.
func TestMutantsOfRecovery(t *testing.T) {
	defer plant.Set(plant.None)
	plant.Set(plant.StoreNoClamp)
	s := shortened(t, false).open(store.WithAcceptLog())
	require.Zero(t, s.Stats().Recovery.Clamped, "TestRecoveryClamp demands 1")

	plant.Set(plant.StoreTrustsMarks)
	s = otherLog(t, true).open(store.WithAcceptLog())
	require.Empty(t, s.Stats().Recovery.Rebuilt, "TestViewOtherMark demands a view")
}
