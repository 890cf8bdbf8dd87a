//go:build plant

package progress

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// A record that settled something before a reset must not do so after it.
func TestPlantedOldSettlementIsSeen(t *testing.T) {
	plant.Set(plant.OldSettlements)
	defer plant.Set(plant.None)
	r := newRig(t)
	r.commit("g", orders0, 1)
	old := message.Settlement{Group: "g", Epoch: r.Epoch("g"), Queue: orders0, Offset: 1}
	require.NoError(t, r.Reset(bg, "g", at(orders0, 0)))
	r.View().Apply(settling(t, old))
	s, err := r.Standing(bg, "g", r.Epoch("g"), orders0)
	require.NoError(t, err)
	require.NotEmpty(t, s.Settled)
}
