//go:build unix && !linux

package fs

import (
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

func openFile(t *tree, n string, mode int) (*os.File, error) { return t.openChecked(n, mode) }

// syncFolder uses os.File.Sync, which is F_FULLFSYNC on darwin.
func syncFolder(f *os.File) error { return f.Sync() }

func syncFileSystem(_, _ *os.File) error { return ErrUnsupported }

// fdatasync is a full sync: darwin's plain one leaves the bytes in the drive.
func fdatasync(f *os.File, _ uintptr) error { return f.Sync() }

func fallocate(uintptr, int64, int64) error { return ErrUnsupported }

func seekData(_ uintptr, off, size int64) (start, end int64, err error) { return off, size, nil }

func markSparse(*osFile) error { return nil }

func mapFile(uintptr, int) (Mapping, error) { return nil, ErrUnsupported }

type inode struct{ dev, ino uint64 }

// locks is every file this process has locked. A record lock (the only kind
// that Java sees) does not exclude its own process and is dropped when any
// descriptor of the file is closed, so a second locker is turned away here,
// before it opens the file.
var locks = struct {
	sync.Mutex
	held map[inode]bool
}{held: map[inode]bool{}}

type fileLock struct {
	once sync.Once
	f    *os.File
	key  inode
	err  error
}

func lockFile(t *tree, n string) (io.Closer, error) {
	locks.Lock()
	defer locks.Unlock()
	if fi, err := t.root.Lstat(n); err == nil {
		if key, ok := inodeOf(fi); ok && locks.held[key] {
			return nil, ErrLockHeld
		}
	}
	f, err := openFile(t, n, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 0, Len: 1}
		for {
			if err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lk); err != unix.EINTR {
				break
			}
		}
	}
	if err != nil {
		_ = f.Close()
		if err == unix.EAGAIN || err == unix.EACCES {
			err = ErrLockHeld
		}
		return nil, err
	}
	key, _ := inodeOf(fi)
	locks.held[key] = true
	return &fileLock{f: f, key: key}, nil
}

// fileLocked asks the kernel who is in the way of a lock, and takes none. It opens
// no file that this process has locked: closing it would drop the lock.
func fileLocked(t *tree, n string) (bool, error) {
	locks.Lock()
	defer locks.Unlock()
	if fi, err := t.root.Lstat(n); err == nil {
		if key, ok := inodeOf(fi); ok && locks.held[key] {
			return true, nil
		}
	}
	f, err := openFile(t, n, os.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 0, Len: 1}
	for {
		if err = unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lk); err != unix.EINTR {
			return lk.Type != unix.F_UNLCK, err
		}
	}
}

// Close gives the lock back; the second time it does nothing.
func (l *fileLock) Close() error {
	l.once.Do(func() {
		locks.Lock()
		defer locks.Unlock()
		delete(locks.held, l.key)
		l.err = l.f.Close()
	})
	return l.err
}

func inodeOf(fi os.FileInfo) (inode, bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, false
	}
	return inode{dev: uint64(st.Dev), ino: uint64(st.Ino)}, true
}
