//go:build plant

package store_test

import (
	"testing"

	"github.com/embermq/embermq/internal/plant"
)

// The crash test of verdicts finds what it is there for.
func TestMutantsOfSettle(t *testing.T) {
	defer plant.Set(plant.None)
	for _, bug := range []plant.Bug{plant.StoreSettlesLater, plant.StorePlaceUnsynced, plant.StoreBuriesFirst} {
		t.Run(string(bug), func(t *testing.T) {
			plant.Set(bug)
			images := 0
			for seed := uint64(1); images < 3000; seed++ {
				n, err := crashSettles(seed)
				if images += n; err != nil {
					t.Logf("%d images: %v", images, err)
					return
				}
			}
			t.Fatalf("not found in %d images", images)
		})
	}
}
