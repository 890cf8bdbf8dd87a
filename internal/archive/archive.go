package archive

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"slices"
	"strings"

	"github.com/embermq/embermq/internal/fs"
)

const (
	manifestName = "BACKUP"
	lockName     = "lock"
)

var (
	// ErrNone says that the folder holds no finished backup.
	ErrNone = errors.New("archive: no backup here")
	// ErrForeign says that the folder holds something else.
	ErrForeign = errors.New("archive: the folder holds other files")
	// ErrDamaged is matched by every *DamageError.
	ErrDamaged = errors.New("archive: damaged")
)

// DamageError names a file of a backup that is not what it was.
type DamageError struct {
	Path   string
	Reason string
}

// Error names file and reason.
func (e *DamageError) Error() string { return "archive: " + e.Path + ": " + e.Reason }

// Is reports whether target is ErrDamaged.
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

// Archive is an open backup folder.
type Archive struct {
	fs   fs.FS
	lock io.Closer
	m    Manifest
	// Written counts the bytes that this Archive has added to the folder.
	Written int64
}

// Open opens a backup folder, or an empty one when create is set.
func Open(fsys fs.FS, create bool) (*Archive, error) {
	a := &Archive{fs: fsys}
	m, err := readManifest(fsys)
	switch {
	case err == nil:
		a.m = *m
	case !errors.Is(err, iofs.ErrNotExist):
		return nil, err
	case !create:
		return nil, fmt.Errorf("%w: %s", ErrNone, fsys.Path("."))
	default:
		if err := a.vacant(); err != nil {
			return nil, err
		}
	}
	if create {
		if a.lock, err = fsys.Lock(lockName); err != nil {
			return nil, fmt.Errorf("archive: lock %s: %w", fsys.Path(lockName), err)
		}
	}
	return a, nil
}

// vacant refuses a folder that holds something that no backup has left.
func (a *Archive) vacant() error {
	entries, err := a.fs.List(".")
	if err != nil {
		return fmt.Errorf("archive: list %s: %w", a.fs.Path("."), err)
	}
	for _, e := range entries {
		if !ours(e.Name) {
			return fmt.Errorf("%w: %s in %s", ErrForeign, e.Name, a.fs.Path("."))
		}
	}
	return nil
}

func ours(name string) bool {
	chunk := strings.HasPrefix(name, "log-") || strings.HasPrefix(name, "rows-")
	return chunk && strings.HasSuffix(name, ".zst") || name == lockName || name == manifestName+".tmp"
}

// Manifest is a copy of what the last Commit wrote; of a new archive, zero.
func (a *Archive) Manifest() Manifest {
	m := a.m
	m.Chunks = slices.Clone(m.Chunks)
	return m
}

// Commit makes m what the archive holds, durably, and removes all other files.
func (a *Archive) Commit(m Manifest) error {
	if err := a.fs.SyncDir("."); err != nil {
		return fmt.Errorf("archive: sync %s: %w", a.fs.Path("."), err)
	}
	b := m.encode()
	if err := fs.WriteFile(a.fs, manifestName, b); err != nil {
		return fmt.Errorf("archive: write %s: %w", a.fs.Path(manifestName), err)
	}
	a.Written += int64(len(b))
	a.m = m
	a.m.Chunks = slices.Clone(m.Chunks)
	return a.sweep()
}

func (a *Archive) sweep() error {
	keep := map[string]bool{manifestName: true, lockName: true, rowsName(a.m.Rows.Number): true}
	for _, c := range a.m.Chunks {
		keep[c.name()] = true
	}
	entries, err := a.fs.List(".")
	if err != nil {
		return fmt.Errorf("archive: list %s: %w", a.fs.Path("."), err)
	}
	for _, e := range entries {
		if ours(e.Name) && !keep[e.Name] {
			if err := a.fs.Remove(e.Name); err != nil {
				return fmt.Errorf("archive: remove %s: %w", a.fs.Path(e.Name), err)
			}
		}
	}
	return nil
}

// Close releases the folder's lock.
func (a *Archive) Close() error {
	if a.lock == nil {
		return nil
	}
	err := a.lock.Close()
	a.lock = nil
	return err
}
