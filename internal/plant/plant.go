// Package plant holds bugs on purpose. A crash test that has never seen a bug
// proves nothing, so the build tag "plant" compiles known mistakes into the
// places that guard against them, and the mutation tests demand that each one
// is found. Without the tag every check is a constant false and costs nothing.
package plant

// Bug names one planted mistake.
type Bug string

// The planted mistakes. The comment says what goes wrong.
const (
	None Bug = ""
)
