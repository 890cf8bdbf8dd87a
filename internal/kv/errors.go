package kv

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"github.com/embermq/embermq/internal/fs"
)

// The sentinels that errors of this package match.
var (
	// ErrClosed: the DB is closed or closing.
	ErrClosed = errors.New("kv: closed")
	// ErrPoisoned: a write or a sync failed, and the DB must be opened anew. The
	// error also matches the cause.
	ErrPoisoned = errors.New("kv: poisoned")
	// ErrCorrupt: bytes on disk are not what was written there.
	ErrCorrupt = errors.New("kv: corrupt")
	// ErrDiskFull: no room during Open or Close, where nothing waits for it.
	ErrDiskFull = errors.New("kv: disk full")
	// ErrMissing: Options.MustExist or ReadOnly, and there is no database.
	ErrMissing = errors.New("kv: no database")
	// ErrReadOnly: a change of a DB that was opened with Options.ReadOnly.
	ErrReadOnly = errors.New("kv: read only")
	// ErrTooLarge: a batch is larger than MaxBatch.
	ErrTooLarge = errors.New("kv: batch too large")
)

// typed gives an error of Pebble or of the file seam its sentinel.
func typed(op string, err error) error {
	var kind error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrClosed), errors.Is(err, ErrPoisoned) && !fs.IsFull(err):
		return err
	case fs.IsFull(err):
		kind = ErrDiskFull
	case errors.Is(err, pebble.ErrDBDoesNotExist):
		kind = ErrMissing
	case errors.Is(err, pebble.ErrReadOnly):
		kind = ErrReadOnly
	case pebble.IsCorruptionError(err):
		kind = ErrCorrupt
	default:
		return fmt.Errorf("kv: %s: %w", op, err)
	}
	return fmt.Errorf("kv: %s: %w: %w", op, kind, err)
}

// typedOpen is typed for Pebble's Open. Some of what it finds wrong it does not
// mark as corruption, such as a table of another length than its list says. What
// no call of the system has failed with is wrong in the files.
func typedOpen(err error) error {
	t := typed("open", err)
	for _, kind := range []error{ErrClosed, ErrPoisoned, ErrCorrupt, ErrDiskFull, ErrMissing, ErrReadOnly, fs.ErrLockHeld, fs.ErrUnsupported} {
		if errors.Is(t, kind) {
			return t
		}
	}
	var system syscall.Errno
	if errors.As(err, &system) && !errors.Is(err, iofs.ErrNotExist) {
		return t
	}
	return fmt.Errorf("kv: open: %w: %w", ErrCorrupt, err)
}

// benign errors answer a question about a name and say nothing about the disk.
func benign(err error) bool {
	return errors.Is(err, iofs.ErrNotExist) || errors.Is(err, iofs.ErrExist)
}
