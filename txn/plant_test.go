//go:build plant

package txn

import (
	"testing"

	"github.com/embermq/embermq/internal/plant"
)

// A state machine that has never seen a bug proves nothing.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, bug := range []plant.Bug{plant.HalfKeepsRow, plant.HalfForgetsVerdict, plant.HalfCommitUnmarked, plant.HalfRevived} {
		t.Run(string(bug), func(t *testing.T) {
			plant.Set(bug)
			defer plant.Set(plant.None)
			n, _, err := explore(machineSteps(2), 7, 200_000)
			if err == nil {
				t.Fatalf("not found in %d sequences", n)
			}
			t.Logf("found after %d sequences: %v", n, err)
		})
	}
}

// What no single thread can show: two verdicts at once.
func TestPlantedRaceIsFound(t *testing.T) {
	plant.Set(plant.HalfDecidedTwice)
	defer plant.Set(plant.None)
	if err := races(20_000); err == nil {
		t.Fatal("not found")
	}
}
