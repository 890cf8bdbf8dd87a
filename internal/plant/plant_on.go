//go:build plant

package plant

import "sync/atomic"

// Enabled is true in builds that test the tests.
const Enabled = true

var active atomic.Value

// Is reports whether b is the planted bug.
func Is(b Bug) bool { a, _ := active.Load().(Bug); return a == b }

// Set plants b, or nothing when b is empty. Only mutation tests call it.
func Set(b Bug) { active.Store(b) }
