package commitlog

import (
	"flag"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	crashImages = flag.Int("crash.images", 20_000, "images that TestCrash opens")
	crashSeed   = flag.Uint64("crash.seed", 0, "replay the chain of this seed only")
)

// TestCrash opens images of a machine that died, and demands of each that nothing
// promised is lost and nothing else turns up.
func TestCrash(t *testing.T) {
	if *crashSeed != 0 {
		images := 0
		require.NoError(t, newWorkload(*crashSeed, map[string]int{}).chain(*crashSeed, &images))
		return
	}
	begun := time.Now()
	images, count, seed, err := campaign(*crashImages)
	if err != nil {
		t.Fatalf("%v\nreplay: go test ./commitlog -run '^TestCrash$' -crash.seed=%d", err, seed)
	}
	t.Logf("%d images, %.0f a second", images, float64(images)/time.Since(begun).Seconds())
	report(t, count)
	for _, class := range []string{
		"kill", "power cut", "nothing lost", "lost, zeros behind", "torn tail", "half group cut",
		"clean", "died in Open", "poisoned", "segment deleted", "tail rewritten", "expired",
	} {
		if count[class] < images/1000 {
			t.Errorf("only %d images of class %q", count[class], class)
		}
	}
}

// campaign runs chains from seed 1 on, one on each processor, until so many
// images were opened.
func campaign(limit int) (images int, count map[string]int, failed uint64, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var seed uint64
	count = map[string]int{}
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			mine := map[string]int{}
			mu.Lock()
			defer mu.Unlock()
			for images < limit && err == nil {
				seed++
				s, n := seed, 0
				mu.Unlock()
				e := newWorkload(s, mine).chain(s, &n)
				mu.Lock()
				images += n
				if e != nil && err == nil {
					failed, err = s, e
				}
			}
			for class, n := range mine {
				count[class] += n
			}
		})
	}
	wg.Wait()
	return images, count, failed, err
}
