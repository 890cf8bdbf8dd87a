//go:build plant

package store_test

import (
	"testing"

	"github.com/embermq/embermq/internal/plant"
)

// The crash test of keys finds what it is there for.
func TestMutantOfDedupe(t *testing.T) {
	plant.Set(plant.DedupeSavesMarkOnly)
	defer plant.Set(plant.None)
	images := 0
	for seed := uint64(1); images < 3000; seed++ {
		n, err := crashDedupe(seed)
		if images += n; err != nil {
			t.Logf("%d images: %v", images, err)
			return
		}
	}
	t.Fatalf("not found in %d images", images)
}
