package commitlog

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/fs"
)

// TestEmptyOpenIsLight bounds what an empty log takes.
func TestEmptyOpenIsLight(t *testing.T) {
	dir := t.TempDir()
	root, err := fs.MakeOS(dir)
	require.NoError(t, err)
	for _, onDisk := range []bool{false, true} {
		sub := root.Sub(fmt.Sprint(onDisk))
		require.NoError(t, sub.MkdirAll("."))
		l := open(t, sub, Options{SegmentSize: 64 << 20, MaxUnsynced: 16 << 20, OnDisk: onDisk})
		appendText(t, l, NewSequence(0), true, "x")
		require.NoError(t, l.Close())
		var blocks int64
		require.NoError(t, filepath.Walk(filepath.Join(dir, fmt.Sprint(onDisk)), func(_ string, fi os.FileInfo, err error) error {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				blocks += st.Blocks * 512
			}
			return err
		}))
		require.Less(t, blocks, int64(8<<20))
	}
}
