//go:build plant

package plant

import (
	"os"
	"sync"
	"sync/atomic"
)

// Enabled is true in builds that test the tests.
const Enabled = true

var active atomic.Value

// inherited is the bug that a test process is started with. It lets any test run
// against any bug without a word about it in the test.
var inherited = sync.OnceValue(func() Bug { return Bug(os.Getenv("EMBERMQ_PLANT")) })

// Is reports whether b is the planted bug.
func Is(b Bug) bool {
	a, set := active.Load().(Bug)
	if !set {
		a = inherited()
	}
	return a == b
}

// Set plants b, or nothing when b is empty. Only mutation tests call it.
func Set(b Bug) { active.Store(b) }
