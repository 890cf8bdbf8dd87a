//go:build plant

package dedupe

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/plant"
)

// A test that has never seen a bug proves nothing.
func TestPlantedBugsAreFound(t *testing.T) {
	defer plant.Set(plant.None)
	plant.Set(plant.DedupeSavesMarkOnly)
	found := 0
	for seed := range uint64(100) {
		if runModel(t, seed+1) != nil {
			found++
		}
	}
	require.Positive(t, found, "TestModel")

	plant.Set(plant.DedupeNoClaim)
	require.Error(t, race(t, 1000), "TestRace")
}
