//go:build !plant

package plant

// Enabled is false in every ordinary build: planted bugs compile to nothing.
const Enabled = false

// Is reports whether a bug is planted; never in an ordinary build.
func Is(Bug) bool { return false }
