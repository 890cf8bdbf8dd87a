//go:build plant

package progress

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/plant"
)

// A model that has never seen a bug proves nothing.
func TestPlantedBugIsFound(t *testing.T) {
	plant.Set(plant.OffsetsBeforeLog)
	defer plant.Set(plant.None)
	for range 50 {
		seed := rand.Uint64()
		if err := newModel(t, seed).run(300); err != nil {
			require.ErrorContains(t, err, "past the log's end", "seed %d", seed)
			return
		}
	}
	t.Fatal("offsets were stored before the log was synced, and nobody noticed")
}
