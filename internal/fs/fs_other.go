//go:build !unix && !windows

package fs

import (
	"io"
	"os"
)

func openFile(t *tree, n string, mode int) (*os.File, error) { return t.openChecked(n, mode) }

func syncFolder(f *os.File) error { return f.Sync() }

func syncFileSystem(_, _ *os.File) error { return ErrUnsupported }

func fdatasync(f *os.File, _ uintptr) error { return f.Sync() }

func fallocate(uintptr, int64, int64) error { return ErrUnsupported }

func seekData(_ uintptr, off, size int64) (start, end int64, err error) { return off, size, nil }

func markSparse(*osFile) error { return nil }

func mapFile(uintptr, int) (Mapping, error) { return nil, ErrUnsupported }

// lockFile has no lock to offer here, and a store without one is not safe.
func lockFile(*tree, string) (io.Closer, error) { return nil, ErrUnsupported }

func fileLocked(*tree, string) (bool, error) { return false, ErrUnsupported }
