package kv

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/fs"
)

// A file of a terabyte is sparse, and Pebble would read it for hours.
func TestImplausibleFile(t *testing.T) {
	noLeak(t)
	root, err := fs.OS(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	d, err := Open(root, small())
	require.NoError(t, err)
	require.NoError(t, d.Close())
	f, err := root.Open("000099.log", fs.Create)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(1<<40))
	require.NoError(t, f.Close())
	_, err = Open(root, small())
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "000099.log has 1099511627776 bytes")
}
