package fstest_test

import (
	"testing"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/fs/fstest"
	"github.com/stretchr/testify/require"
)

func osFS(t testing.TB) fs.FS {
	t.Helper()
	f, err := fs.OS(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func TestOS(t *testing.T) { fstest.Test(t, osFS) }

func TestSim(t *testing.T) {
	fstest.Test(t, func(testing.TB) fs.FS { return crash.New(1).FS() })
}

// TestImages runs the suite on disks that have been through deaths, and on
// subtrees: what a restart finds must be as good a file system.
func TestImages(t *testing.T) {
	fstest.Test(t, func(t testing.TB) fs.FS {
		s := crash.New(2)
		require.NoError(t, fs.WriteFile(s.FS(), "before", []byte("x")))
		require.NoError(t, s.FS().MkdirAll("sub"))
		s = s.Kill().PowerCut(crash.KeepAll, 1).Kill()
		return s.FS().Sub("sub")
	})
}

func TestFaulty(t *testing.T) {
	t.Run("os", func(t *testing.T) {
		fstest.Test(t, func(t testing.TB) fs.FS { return leakFree(t, fs.NewFaulty(osFS(t))) })
	})
	t.Run("sim", func(t *testing.T) {
		fstest.Test(t, func(t testing.TB) fs.FS { return leakFree(t, fs.NewFaulty(crash.New(3).FS())) })
	})
}

func leakFree(t testing.TB, f *fs.Faulty) *fs.Faulty {
	t.Helper()
	t.Cleanup(func() {
		c := f.Counts()
		require.Zero(t, c.OpenFiles)
		require.Zero(t, c.Mappings)
	})
	return f
}
