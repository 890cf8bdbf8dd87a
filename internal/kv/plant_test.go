//go:build plant

package kv

import (
	"runtime"
	"testing"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/plant"
)

// recorder notes a failure instead of failing the test.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) FailNow()              { runtime.Goexit() }

// TestPlantedBugsAreFound: a crash test that never saw a bug proves nothing.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, bug := range []plant.Bug{plant.KVNamesAnyOrder, plant.KVLogNotSynced} {
		t.Run(string(bug), func(t *testing.T) {
			defer plant.Set(plant.None)
			for round := range 10 {
				plant.Set(bug)
				seed := newSeed(t)
				sim := crash.New(seed)
				var p progress
				images, err := cuts(seed, sim, &p, round, 1, p.session)
				if err != nil {
					t.Fatal(err)
				}
				plant.Set(plant.None)
				for i, img := range images {
					r := &recorder{TB: t}
					done := make(chan struct{})
					go func() {
						defer close(done)
						verify(r, img.sim.FS(), img.durable, img.begun, "")
					}()
					<-done
					if r.failed {
						t.Logf("found in round %d by image %d: %s", round, i, img.sim.Name())
						return
					}
				}
			}
			t.Fatal("not found")
		})
	}
}
