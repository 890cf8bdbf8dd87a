package fs

import (
	iofs "io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func open(t testing.TB, dir string) FS {
	t.Helper()
	f, err := OS(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func TestOSMissingFolder(t *testing.T) {
	_, err := OS(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, iofs.ErrNotExist)
}

func TestMakeOS(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for range 2 { // the second finds it
		f, err := MakeOS(dir)
		require.NoError(t, err)
		require.NoError(t, WriteFile(f, "x", []byte("y")))
		require.NoError(t, f.Close())
	}
	if runtime.GOOS == "windows" {
		return
	}
	for _, d := range []string{filepath.Dir(dir), dir} {
		fi, err := os.Stat(d)
		require.NoError(t, err)
		require.Equal(t, iofs.FileMode(0o700), fi.Mode().Perm())
	}
	fi, err := os.Stat(filepath.Join(dir, "x"))
	require.NoError(t, err)
	require.Equal(t, iofs.FileMode(0o600), fi.Mode().Perm())
}

// TestSymlinksRefused puts links where an attacker would: in a file's place, in
// a folder's place above it, dangling, and out of the root.
func TestSymlinksRefused(t *testing.T) {
	for _, walk := range []string{"kernel", "steps"} {
		t.Run(walk, func(t *testing.T) {
			if walk == "steps" {
				defer stepwise()()
			}
			dir := t.TempDir()
			out := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(out, "f"), []byte("x"), 0o600))
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "real"), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "real", "f"), []byte("x"), 0o600))
			for name, target := range map[string]string{
				"file": "real/f", "dir": "real", "gone": "nothing", "out": out, "outfile": filepath.Join(out, "f"),
			} {
				if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
					t.Skip(err)
				}
			}
			f := open(t, dir)
			for _, name := range []string{"file", "dir/f", "gone", "out/f", "outfile", "dir/new"} {
				_, err := f.Open(name, Create)
				require.ErrorIs(t, err, ErrSymlink, name)
				_, err = f.Open(name, ReadOnly)
				require.ErrorIs(t, err, ErrSymlink, name)
				_, err = f.Lock(name)
				require.ErrorIs(t, err, ErrSymlink, name)
			}
			_, err := f.List("dir")
			require.ErrorIs(t, err, ErrSymlink)
			require.ErrorIs(t, f.SyncDir("dir"), ErrSymlink)
			require.ErrorIs(t, f.Remove("dir/f"), ErrSymlink)
			require.ErrorIs(t, f.Rename("dir/f", "g"), ErrSymlink)
			require.ErrorIs(t, f.Rename("real/f", "dir/g"), ErrSymlink)
			require.ErrorIs(t, f.Link("file", "g"), ErrSymlink)
			require.ErrorIs(t, f.MkdirAll("dir/sub"), ErrSymlink)
			_, err = f.Stat("dir/f")
			require.ErrorIs(t, err, ErrSymlink)
			e, err := f.Stat("file")
			require.NoError(t, err)
			require.True(t, e.Link)
			require.NoError(t, RemoveAll(f, "out"))
			_, err = os.Stat(filepath.Join(out, "f"))
			require.NoError(t, err, "removing a link must not touch its target")
		})
	}
}

func TestHotPathsAllocateNothing(t *testing.T) {
	f, err := open(t, t.TempDir()).Open("x", Create)
	require.NoError(t, err)
	defer f.Close()
	p := make([]byte, 512)
	require.NoError(t, f.SyncData())
	require.Zero(t, testing.AllocsPerRun(50, func() {
		_, _ = f.WriteAt(p, 0)
		_, _ = f.ReadAt(p, 0)
		_ = f.SyncData()
	}))
}

func BenchmarkOSWriteAt(b *testing.B) {
	f, err := open(b, b.TempDir()).Open("x", Create)
	require.NoError(b, err)
	defer f.Close()
	p := make([]byte, 128)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_, _ = f.WriteAt(p, int64(i&8191)*128)
	}
}

func BenchmarkOSReadAt(b *testing.B) {
	f, err := open(b, b.TempDir()).Open("x", Create)
	require.NoError(b, err)
	defer f.Close()
	require.NoError(b, f.Truncate(1<<20))
	p := make([]byte, 128)
	for i := 0; b.Loop(); i++ {
		_, _ = f.ReadAt(p, int64(i&8191)*128)
	}
}

func BenchmarkOSOpenClose(b *testing.B) {
	for _, walk := range []string{"kernel", "steps"} {
		b.Run("walk="+walk, func(b *testing.B) {
			if walk == "steps" {
				defer stepwise()()
			}
			fsys := open(b, b.TempDir())
			require.NoError(b, fsys.MkdirAll("topic/3"))
			b.ReportAllocs()
			for b.Loop() {
				f, err := fsys.Open("topic/3/0", Create)
				if err != nil {
					b.Fatal(err)
				}
				_ = f.Close()
			}
		})
	}
}
