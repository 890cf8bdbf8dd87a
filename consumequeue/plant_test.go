//go:build plant

package consumequeue

import (
	"testing"

	"github.com/embermq/embermq/internal/plant"

	"github.com/stretchr/testify/require"
)

// Every planted bug must make the crash test fail, or the test proves nothing.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, bug := range []plant.Bug{plant.QueueAheadOfLog, plant.QueueSaveWithoutSync, plant.QueueBlankAhead, plant.QueueRemovesEarly} {
		t.Run(string(bug), func(t *testing.T) {
			plant.Set(bug)
			defer plant.Set(plant.None)
			var err error
			images := 0
			for seed := uint64(0); err == nil && seed < 90; seed++ {
				var n int
				n, err = crashChain(seed)
				images += n
			}
			require.Error(t, err, "not found in %d images", images)
			t.Logf("found after %d images: %v", images, err)
		})
	}
}
