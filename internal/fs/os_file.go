package fs

import (
	"io"
	iofs "io/fs"
	"os"
	"sync"
	"syscall"
)

// osFile is an open file. ReadAt, WriteAt and Close are os.File's own: its
// descriptor lock costs a few nanoseconds and keeps a late writer from hitting
// another file that was given the same descriptor after Close.
type osFile struct {
	*os.File
	raw syscall.RawConn

	// The function given to RawConn.Control is kept, so that a sync allocates
	// nothing; mu guards its result.
	mu       sync.Mutex
	syncFn   func(fd uintptr)
	syncDone error
}

func (f *osFile) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &iofs.PathError{Op: "fs: " + op, Path: f.Name(), Err: err}
}

// control runs fn on the descriptor, which stays open meanwhile.
func (f *osFile) control(fn func(fd uintptr) error) error {
	var err error
	if e := f.raw.Control(func(fd uintptr) { err = fn(fd) }); e != nil {
		return iofs.ErrClosed // the only way it fails, under a name that errors.Is knows
	}
	return err
}

func (f *osFile) SyncData() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.syncFn == nil {
		f.syncFn = func(fd uintptr) { f.syncDone = fdatasync(f.File, fd) }
	}
	f.syncDone = nil
	if err := f.raw.Control(f.syncFn); err != nil {
		return f.fail("sync data", iofs.ErrClosed)
	}
	return f.fail("sync data", f.syncDone)
}

func (f *osFile) Truncate(size int64) error {
	if err := markSparse(f); err != nil {
		return f.fail("truncate", err)
	}
	return f.File.Truncate(size)
}

func (f *osFile) Preallocate(off, n int64) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	if off < 0 || n <= 0 || off > size-n {
		// Beyond the length it would change the length, which is Truncate's.
		return f.fail("preallocate", iofs.ErrInvalid)
	}
	err = f.control(func(fd uintptr) error { return fallocate(fd, off, n) })
	if err == ErrUnsupported {
		return err
	}
	return f.fail("preallocate", err)
}

func (f *osFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (f *osFile) NextData(off int64) (start, end int64, err error) {
	if off < 0 {
		return 0, 0, f.fail("next data", iofs.ErrInvalid)
	}
	size, err := f.Size()
	if err != nil {
		return 0, 0, err
	}
	if off >= size {
		return 0, 0, io.EOF
	}
	err = f.control(func(fd uintptr) error {
		var e error
		start, end, e = seekData(fd, off, size)
		return e
	})
	if err == nil || err == io.EOF {
		return start, end, err
	}
	return 0, 0, f.fail("next data", err)
}

func (f *osFile) Map(n int64) (Mapping, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if n <= 0 || n > size || int64(int(n)) != n {
		// Touching a page behind the end of the file would kill the process.
		return nil, f.fail("map", iofs.ErrInvalid)
	}
	var m Mapping
	err = f.control(func(fd uintptr) error {
		var e error
		m, e = mapFile(fd, int(n))
		return e
	})
	if err == ErrUnsupported {
		return nil, err
	}
	if err != nil {
		return nil, f.fail("map", err)
	}
	return m, nil
}
