package fs

import (
	"io"
	"os"
	"sync"

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
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err = windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped))
	if err == nil {
		return &fileLock{f: f}, nil
	}
	_ = f.Close()
	if err == windows.ERROR_LOCK_VIOLATION || err == windows.ERROR_IO_PENDING {
		err = ErrLockHeld
	}
	return nil, err
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
