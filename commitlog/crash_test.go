package commitlog

import (
	"flag"
	"testing"
	"time"
)

var (
	crashImages = flag.Int("crash.images", 20_000, "images that TestCrash opens")
	crashSeed   = flag.Uint64("crash.seed", 0, "replay the chain of this seed only")
)

// TestCrash opens images of a machine that died, and demands of each that nothing
// promised is lost and nothing else turns up.
func TestCrash(t *testing.T) {
	count := map[string]int{}
	images := 0
	begun := time.Now()
	for seed := uint64(1); images < *crashImages; seed++ {
		if *crashSeed != 0 {
			seed = *crashSeed
		}
		if err := newWorkload(seed, count).chain(seed, &images); err != nil {
			t.Fatalf("-crash.seed=%d: %v", seed, err)
		}
		if *crashSeed != 0 {
			break
		}
	}
	t.Logf("%d images, %.0f a second", images, float64(images)/time.Since(begun).Seconds())
	report(t, count)
	if *crashSeed != 0 {
		return
	}
	for _, class := range []string{
		"kill", "power cut", "nothing lost", "lost, zeros behind", "torn tail", "half group cut",
		"clean", "died in Open", "poisoned", "segment deleted", "tail rewritten", "expired",
	} {
		if count[class] < images/2000 {
			t.Errorf("only %d images of class %q", count[class], class)
		}
	}
}
