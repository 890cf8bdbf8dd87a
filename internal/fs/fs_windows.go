package fs

import (
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/windows"
)

func openFile(t *tree, n string, mode int) (*os.File, error) { return t.openChecked(n, mode) }

// syncFolder does nothing: NTFS logs names itself and offers no folder sync.
func syncFolder(*os.File) error { return nil }

func syncFileSystem(_, _ *os.File) error { return ErrUnsupported }

func fdatasync(_ *os.File, fd uintptr) error { return windows.FlushFileBuffers(windows.Handle(fd)) }

func fallocate(uintptr, int64, int64) error { return ErrUnsupported }

func seekData(_ uintptr, off, size int64) (start, end int64, err error) { return off, size, nil }

// markSparse keeps Truncate from taking room. A file system that knows no
// sparse files (FAT) takes the room instead, which is only slower.
func markSparse(f *osFile) error {
	return f.control(func(fd uintptr) error {
		var n uint32
		_ = windows.DeviceIoControl(windows.Handle(fd), windows.FSCTL_SET_SPARSE, nil, 0, nil, 0, &n, nil)
		return nil
	})
}

func mapFile(uintptr, int) (Mapping, error) { return nil, ErrUnsupported }

func usage(f *os.File) (Usage, error) {
	dir, err := windows.UTF16PtrFromString(f.Name())
	if err != nil {
		return Usage{}, err
	}
	var free, total uint64
	if err := windows.GetDiskFreeSpaceEx(dir, &free, &total, nil); err != nil {
		return Usage{}, err
	}
	return Usage{Total: int64(total), Free: int64(free)}, nil
}

// fileLock holds LockFileEx on the first byte. It belongs to the handle, so a
// second handle of the same process is turned away too.
type fileLock struct {
	once sync.Once
	f    *os.File
	err  error
}

func lockFile(t *tree, n string) (io.Closer, error) {
	f, err := openFile(t, n, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	// One who only looks holds the lock for a moment, see fileLocked.
	for range lookTries {
		if err = lockByte(f, windows.LOCKFILE_EXCLUSIVE_LOCK); err != ErrLockHeld {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &fileLock{f: f}, nil
}

// lookTries is for how many milliseconds a lock is asked for again.
const lookTries = 20

// lockByte locks the first byte without waiting.
func lockByte(f *os.File, flags uint32) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if err == windows.ERROR_LOCK_VIOLATION || err == windows.ERROR_IO_PENDING {
		return ErrLockHeld
	}
	return err
}

// fileLocked takes a shared lock for a moment, for there is no way only to ask.
// Lockers try again, and others who look are not in the way.
func fileLocked(t *tree, n string) (bool, error) {
	f, err := openFile(t, n, os.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer f.Close() // gives the lock back
	if err := lockByte(f, 0); err != nil {
		if err == ErrLockHeld {
			return true, nil
		}
		return false, err
	}
	return false, windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, new(windows.Overlapped))
}

// Close gives the lock back; the second time it does nothing.
func (l *fileLock) Close() error {
	l.once.Do(func() {
		err := windows.UnlockFileEx(windows.Handle(l.f.Fd()), 0, 1, 0, new(windows.Overlapped))
		if l.err = l.f.Close(); l.err == nil {
			l.err = err
		}
	})
	return l.err
}
