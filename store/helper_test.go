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
