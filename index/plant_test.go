//go:build plant

package index

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/plant"
)

// A model that has never seen a bug proves nothing.
func TestPlantedBugIsFound(t *testing.T) {
	for _, bug := range []plant.Bug{
		plant.IndexAheadOfLog, plant.IndexSaveWithoutSync, plant.IndexTrustsSlots, plant.IndexRemovesEarly,
	} {
		t.Run(string(bug), func(t *testing.T) {
			plant.Set(bug)
			defer plant.Set(plant.None)
			for seed := range uint64(40) {
				if _, _, err := crashChain(seed); err != nil {
					t.Logf("seed %d: %.300v", seed, err)
					return
				}
			}
			t.Fatal("nobody noticed")
		})
	}
}

func TestPlantedPrevUnchecked(t *testing.T) {
	plant.Set(plant.IndexPrevUnchecked)
	defer plant.Set(plant.None)
	res, err := queryLoop(t)
	require.True(t, err == nil || !strings.Contains(err.Error(), "leads forward"))
	require.True(t, res.Truncated, "only the bound on steps ends a chain that turns in a circle")
}
