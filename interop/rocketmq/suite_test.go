package rocketmq

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/interop/rocketmq/oracle"
)

var (
	storesFlag = flag.Int("stores", 12, "generated stores in each direction")
	seedFlag   = flag.Uint64("seed", 1, "seed of the generated stores")
	brokerFlag = flag.Bool("broker", false, "hand a directory over to a real broker")
	keepFlag   = flag.String("keep", "", "folder to copy the directory of a failed store to")
)

func TestMain(m *testing.M) {
	flag.Parse()
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
