//go:build plant

package pebbletx_test

import (
	"testing"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/txn/txntest"
)

// A script that has never seen a bug proves nothing.
func TestPlantedBugIsFound(t *testing.T) {
	plant.Set(plant.HalfLateTaken)
	defer plant.Set(plant.None)
	err := txntest.Script(1, 500, open)
	if err == nil {
		t.Fatal("not found")
	}
	t.Log(err)
}
