//go:build plant

package commitlog

import (
	"testing"

	"github.com/embermq/embermq/internal/plant"
)

// TestPlantedBugs plants one known mistake after the other and demands that the
// crash workload finds it. LogSkipPosition is for TestStaleRecord: without files
// that are used again, no crash brings a record to another position.
func TestPlantedBugs(t *testing.T) {
	const limit = 400_000
	for _, bug := range []plant.Bug{
		plant.LogSkipChecksum, plant.LogAckBeforeSync, plant.LogKeepTail, plant.LogTrustTail, plant.LogOnlySyncTail,
		plant.LogRetrySync, plant.LogEarlyVisible, plant.LogKeepHalfGroup, plant.LogEarlyWatermark,
	} {
		t.Run(string(bug), func(t *testing.T) {
			plant.Set(bug)
			defer plant.Set(plant.None)
			n := newTally()
			for seed := uint64(1); n.images < limit; seed++ {
				if err := newWorkload(seed, n).chain(); err != nil {
					t.Logf("found after %d images: %v", n.images, err)
					return
				}
			}
			t.Errorf("not found in %d images", n.images)
		})
	}
}

func TestPlantedSkipPosition(t *testing.T) {
	plant.Set(plant.LogSkipPosition)
	defer plant.Set(plant.None)
	if staleRecordServed(t) == nil {
		t.Error("a stale record was refused although its position is not verified")
	}
}
