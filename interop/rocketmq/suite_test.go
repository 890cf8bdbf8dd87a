package rocketmq

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/interop/rocketmq/oracle"
)

var (
	storesFlag = flag.Int("stores", 12, "generated stores in each direction")
	firstFlag  = flag.Int("first", 0, "number of the first generated store")
	seedFlag   = flag.Uint64("seed", 1, "seed of the generated stores")
	brokerFlag = flag.Bool("broker", false, "hand a directory over to a real broker")
	keepFlag   = flag.String("keep", "", "folder to copy the directory of a failed store to")
)

func TestMain(m *testing.M) {
	flag.Parse()
	parallel := false
	flag.Visit(func(f *flag.Flag) { parallel = parallel || f.Name == "test.parallel" })
	if !parallel {
		// Most tests wait for Java, for a disk, or for a broker.
		_ = flag.Set("test.parallel", strconv.Itoa(4+runtime.GOMAXPROCS(0)))
	}
	if testing.Short() {
		*storesFlag = min(*storesFlag, 4)
	}
	if childMain() {
		return
	}
	code := m.Run()
	if shared.jvm != nil {
		_ = shared.jvm.Close()
	}
	os.Exit(code)
}

var shared struct {
	sync.Mutex
	tried bool
	jvm   *oracle.JVM
	err   error
}

// java returns the process that most tests share. Without Java the test is
// skipped, on CI it fails.
func java(t *testing.T) *oracle.JVM {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.tried {
		shared.tried = true
		began := time.Now()
		shared.jvm, shared.err = oracle.Start(t.Context())
		if shared.err == nil {
			fmt.Printf("oracle: Java %s, built and booted in %.1f s, of which the process took %.1f s\n",
				shared.jvm.Java, time.Since(began).Seconds(), shared.jvm.Booted.Seconds())
		}
	}
	needJava(t, shared.err)
	return shared.jvm
}

// ownJava returns a process that the test may halt.
func ownJava(t *testing.T) *oracle.JVM {
	t.Helper()
	j, err := oracle.Start(t.Context())
	needJava(t, err)
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func needJava(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, oracle.ErrMissing) && os.Getenv("CI") != "true" {
		fmt.Printf("SKIPPED: nothing was compared with Apache RocketMQ: %v\n", err)
		t.Skip(err)
	}
	require.NoError(t, err)
}

// batch is how many stores one test makes, and how many of them a Java process
// that is going to be halted has open at most.
const batch = 20

// inBatches runs f for the plans of each batch, a few batches side by side.
func inBatches(t *testing.T, allowed features, salt uint64, f func(t *testing.T, plans []plan)) {
	t.Helper()
	t.Run("batches", func(t *testing.T) {
		for from := *firstFlag; from < *firstFlag+*storesFlag; from += batch {
			to := min(from+batch, *firstFlag+*storesFlag)
			t.Run(fmt.Sprintf("stores %d to %d", from, to-1), func(t *testing.T) {
				t.Parallel()
				var plans []plan
				dir := t.TempDir()
				for n := from; n < to; n++ {
					plans = append(plans, newPlan(n, dir, allowed, salt))
				}
				f(t, plans)
			})
		}
	})
}

// sideBySide calls f for 0 to n-1, a few at a time, and returns an error for each.
// A store that is open costs Java a thread that looks for work all the time.
func sideBySide(n int, f func(i int) error) []error {
	var wg sync.WaitGroup
	errs, slots := make([]error, n), make(chan struct{}, 4)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = f(i)
		})
	}
	wg.Wait()
	return errs
}

// random returns a source whose seed is printed when the test fails.
func random(t *testing.T, salt uint64) *rand.Rand {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d, salt %d", *seedFlag, salt)
		}
	})
	return rand.New(rand.NewPCG(*seedFlag, salt))
}

func background() context.Context { return context.Background() }
