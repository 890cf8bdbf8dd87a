package store_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/progress"
	"github.com/embermq/embermq/store"
)

// openStill opens a store with goroutines of its own and a clock that stands.
func openStill(t testing.TB, opts ...store.Option) *store.Store {
	e := env.Real()
	e.Clock = clock.NewManual(time.UnixMilli(1_700_000_000_000))
	return open(t, t.TempDir(), append(opts, store.WithEnvironment(e))...)
}

// dirHash sums up names, lengths and bytes of everything below dir.
func dirHash(t testing.TB, dir string) string {
	t.Helper()
	h := sha256.New()
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.Type().IsRegular() {
			fmt.Fprintf(h, "%s/\n", path)
			return nil
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n", path, len(b))
		h.Write(b)
		return err
	}))
	return fmt.Sprintf("%x", h.Sum(nil))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func groupNamed(name string) progress.Group { return progress.Group{Name: name} }

// clearDir empties a folder.
func clearDir(t testing.TB, dir string) {
	t.Helper()
	es, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range es {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
}

// filesOf is every file below dir with its bytes, but for lock, which an opener
// makes before it knows anything. Folders do not count.
func filesOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || path == filepath.Join(dir, "lock") {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = fmt.Sprintf("%d %x", len(b), sha256.Sum256(b))
		return err
	}))
	return files
}

// quiet waits until nothing in the background writes any more: the runway and
// the segment made ahead.
func quiet(t testing.TB, s *store.Store) {
	t.Helper()
	dir := s.Root().Path(".")
	for last, same := "", 0; same < 5; {
		time.Sleep(20 * time.Millisecond)
		if h := dirHash(t, dir); h == last {
			same++
		} else {
			last, same = h, 0
		}
	}
}
