//go:build !windows

package store_test

import (
	"errors"
	"flag"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var hostileEvery = flag.Int("hostile.every", 3, "TestHostileDirectory tries one of so many directories; 1 is all")

// mayAllocate is what an Open and a reading of the small store may allocate in all,
// with room to spare.
const mayAllocate = 128 << 20

// TestHostileDirectory opens directories that somebody has prepared: links that lead
// out, folders in the place of files, lengths and names beyond reason. Each open gives
// the right messages or an error that names what is wrong, takes little memory, and
// changes nothing outside of the directory.
func TestHostileDirectory(t *testing.T) {
	sound := t.TempDir()
	s := must(store.Open(sound, store.WithSegmentSize(64<<10), store.WithQueueFileSize(1000), store.WithIndexSizes(64, 64)))
	for i := range 150 {
		put(t, s, &message.Message{Topic: "t", QueueID: int32(i % 2), Keys: []string{"k"}, Body: fmt.Appendf(nil, "%d", i)})
	}
	require.NoError(t, s.Close())
	var files, folders []string
	require.NoError(t, filepath.WalkDir(sound, func(path string, e iofs.DirEntry, err error) error {
		if name := must(filepath.Rel(sound, path)); e.IsDir() {
			folders = append(folders, name)
		} else {
			files = append(files, name)
		}
		return err
	}))
	replace := func(dir, name string, by func(path string) error) {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, name)))
		require.NoError(t, by(filepath.Join(dir, name)))
	}
	cases, accepted, refused := 0, 0, 0
	try := func(what string, prepare func(dir, outside string)) {
		if cases++; cases%*hostileEvery != 0 {
			return
		}
		t.Run(what, func(t *testing.T) {
			dir, outside := t.TempDir(), t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS(sound)))
			require.NoError(t, os.CopyFS(outside, os.DirFS(sound)))
			prepare(dir, outside)
			before := filesOf(t, outside)
			var start, end runtime.MemStats
			runtime.ReadMemStats(&start)
			class, err := inTime(what, func() (string, error) { return openHostile(dir) })
			runtime.ReadMemStats(&end)
			require.NoError(t, err)
			require.Less(t, end.TotalAlloc-start.TotalAlloc, uint64(mayAllocate))
			require.Equal(t, before, filesOf(t, outside), "outside of the directory")
			if class == "refused" {
				refused++
			} else {
				accepted++
			}
		})
	}
	for _, name := range files {
		try(name+" is a link that leads out", func(dir, outside string) {
			replace(dir, name, func(path string) error { return os.Symlink(filepath.Join(outside, name), path) })
		})
		try(name+" is a link to itself", func(dir, _ string) {
			replace(dir, name, func(path string) error { return os.Symlink(filepath.Base(name), path) })
		})
		try(name+" is a folder", func(dir, _ string) {
			replace(dir, name, func(path string) error { return os.MkdirAll(filepath.Join(path, "inner"), 0o700) })
		})
		try(name+" is a terabyte long", func(dir, _ string) { require.NoError(t, os.Truncate(filepath.Join(dir, name), 1<<40)) })
	}
	for _, name := range folders[1:] {
		try(name+" is a link that leads out", func(dir, outside string) {
			replace(dir, name, func(path string) error { return os.Symlink(filepath.Join(outside, name), path) })
		})
		try(name+" is a file", func(dir, _ string) {
			replace(dir, name, func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) })
		})
	}
	for _, name := range folders {
		for _, odd := range []string{strings.Repeat("9", 20), strings.Repeat("n", 255), "-1", "a\nb", "\xff\xfe", "00000000000000000001", "%n", "..."} {
			try(name+" has a file "+odd, func(dir, _ string) {
				err := os.WriteFile(filepath.Join(dir, name, odd), []byte("x"), 0o600)
				if !errors.Is(err, syscall.EILSEQ) { // no name on this file system
					require.NoError(t, err)
				}
			})
		}
	}
	t.Logf("%d directories accepted, %d refused", accepted, refused)
	if !t.Failed() && accepted+refused > 10 { // not when -run chose some
		require.Positive(t, accepted)
		require.Positive(t, refused)
	}
}

// openHostile opens a directory and reads everything in it. Its error is what should
// not have happened.
func openHostile(dir string) (class string, err error) {
	s, err := store.Open(dir)
	if err != nil {
		return "refused", named(err)
	}
	defer func() { _ = s.Abandon() }() // its files may fail to close
	for i := range 150 {
		b, err := s.Read(ctx, message.Queue{Topic: "t", ID: int32(i % 2)}, int64(i/2), message.Limit{Count: 1}, nil)
		if err != nil {
			if err := named(err); err != nil {
				return "", err
			}
			continue
		}
		if len(b.Records) == 0 || string(b.Records[0].Body()) != fmt.Sprint(i) {
			return "", fmt.Errorf("message %d is not what was put", i)
		}
	}
	_, err = s.Check(ctx)
	return "accepted", named(err)
}

// named returns an error that tells neither what kind of trouble there is nor where.
func named(err error) error {
	var where *iofs.PathError
	if err == nil || typedDamage(err) || errors.As(err, &where) {
		return nil
	}
	return fmt.Errorf("an error of no type: %T: %w", err, err)
}
