//go:build linux || darwin || freebsd || dragonfly

package fs

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Blocks that only the administrator gets count neither as used nor as free.
func TestUsageOf(t *testing.T) {
	require.Equal(t, Usage{Total: 600, Free: 200}, usageOf(100, 60, 20, 10))
	require.Equal(t, Usage{Total: 400, Free: 0}, usageOf(100, 60, -1, 10))
}
