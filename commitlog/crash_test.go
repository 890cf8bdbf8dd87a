package commitlog

import (
	"flag"
	"runtime"
	"runtime/debug"
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
		require.NoError(t, newWorkload(*crashSeed, newTally()).chain())
		return
	}
	begun := time.Now()
	n, seed, err := campaign(*crashImages)
	if err != nil {
		t.Fatalf("%v\nreplay: go test ./commitlog -run '^TestCrash$' -crash.seed=%d", err, seed)
	}
	t.Logf("%d images, %.0f a second; %d more had the bytes of one of them", n.images, float64(n.images)/time.Since(begun).Seconds(), n.same)
	report(t, n.count)
	for _, class := range classes {
		if n.count[class] < min(1000, n.images/5000) {
			t.Errorf("only %d images of class %q", n.count[class], class)
		}
	}
}

// classes are the outcomes that a campaign must have met.
var classes = []string{
	"kill", "power cut", "enumerated", "enumerated wholly", "died in Open", "1st death", "6th death",
	"disk: pages lost", "disk: pages with some stores", "disk: torn pages", "disk: garbage pages", "disk: old lengths", "disk: old names",
	"nothing lost", "lost, zeros behind", "torn tail", "half group cut",
	"appended again", "clean", "poisoned", "segment deleted", "tail rewritten", "expired",
}

// campaign runs chains from seed 1 on, one on each processor, until so many
// images were opened.
func campaign(limit int) (n *tally, failed uint64, err error) {
	// A log that is opened leaves a lot of garbage behind, and lives in little.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var mu sync.Mutex
	var wg sync.WaitGroup
	var seed uint64
	n = newTally()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for n.images < limit && err == nil {
				seed++
				s := seed
				mu.Unlock()
				mine := newTally()
				e := newWorkload(s, mine).chain()
				mu.Lock()
				n.add(mine)
				if e != nil && err == nil {
					failed, err = s, e
				}
			}
		})
	}
	wg.Wait()
	return n, failed, err
}
