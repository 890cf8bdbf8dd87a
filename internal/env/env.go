// Package env is what a store needs from the world around it: files, time and
// whether it may start goroutines. Users never see it; the simulator and the
// test helpers replace it.
package env

import (
	"os"
	"path/filepath"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/fs"
)

// Env is the outside world of one store.
type Env struct {
	// Open returns the folder at path, which must exist unless create is set.
	Open func(path string, create bool) (fs.FS, error)
	// Clock tells the time.
	Clock clock.Clock
	// Manual stores start no goroutines: the simulator calls their steps.
	Manual bool
	// PID identifies the process in the abort file.
	PID int
	// NoYield makes leaders of a group commit wait for nobody: what yielding
	// costs and gains is measured against it.
	NoYield bool
}

// Real is the operating system.
func Real() Env {
	return Env{
		Open: func(path string, create bool) (fs.FS, error) {
			abs, err := filepath.Abs(path)
			if err != nil {
				return nil, err
			}
			if create {
				return fs.MakeOS(abs)
			}
			return fs.OS(abs)
		},
		Clock: clock.Real{},
		PID:   os.Getpid(),
	}
}
