//go:build plant

package schedule

import (
	"math/rand/v2"
	"testing"

	"github.com/embermq/embermq/internal/plant"
)

// A model that has never seen a bug proves nothing.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, bug := range []plant.Bug{plant.TimerEarly, plant.TimerUnmarked, plant.TimerKeepsRow,
		plant.TimerLoadsDead, plant.TimerForgetsAhead} {
		t.Run(string(bug), func(t *testing.T) {
			plant.Set(bug)
			defer plant.Set(plant.None)
			images := 0
			for range 400 {
				m := newModel(t, rand.Uint64())
				err := m.run(80)
				images += m.images
				if err != nil {
					t.Logf("found after %d images: %v", images, err)
					return
				}
			}
			t.Fatalf("not found in %d images", images)
		})
	}
}

// What no single thread can show: a cancellation that overtakes a delivery.
func TestPlantedRaceIsFound(t *testing.T) {
	plant.Set(plant.TimerCancelsFiring)
	defer plant.Set(plant.None)
	if err := races(t, 20_000); err == nil {
		t.Fatal("not found")
	}
}
