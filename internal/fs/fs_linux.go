package fs

import (
	"errors"
	"io"
	"os"
	"path"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// noOpenat2 is set when the kernel or a sandbox does not know openat2.
var noOpenat2 atomic.Bool

// openFile opens a regular file. One openat2 walks the whole name and refuses
// every symbolic link on the way; where it is missing, os.Root walks.
func openFile(t *tree, n string, mode int) (*os.File, error) {
	if noOpenat2.Load() {
		return t.openChecked(n, mode)
	}
	how := unix.OpenHow{
		// Without O_NONBLOCK a pipe in a file's place would block the open.
		Flags:   uint64(mode | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_LARGEFILE),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	if mode&os.O_CREATE != 0 {
		how.Mode = 0o600
	}
	var fd int
	var err error
	conn, cerr := t.self.SyscallConn()
	if cerr != nil {
		return nil, cerr
	}
	cerr = conn.Control(func(dir uintptr) {
		for range 64 {
			// EAGAIN: a rename elsewhere raced with the walk, which then proves nothing.
			fd, err = unix.Openat2(int(dir), n, &how)
			if err != unix.EINTR && err != unix.EAGAIN {
				return
			}
		}
	})
	switch {
	case cerr != nil:
		return nil, cerr
	case err == nil:
	case err == unix.ELOOP:
		return nil, ErrSymlink
	case err == unix.ENOSYS || err == unix.EPERM || err == unix.E2BIG:
		f, err := t.openChecked(n, mode)
		if err == nil {
			noOpenat2.Store(true)
		}
		return f, err
	default:
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil, unix.EISDIR
		}
		return nil, errors.New("is not a regular file")
	}
	return os.NewFile(uintptr(fd), path.Join(t.root.Name(), n)), nil
}

func syncFolder(f *os.File) error { return f.Sync() }

// syncFileSystem syncs the file system of dir through self, which was open
// before the writes. Another file system is not what self stands for.
func syncFileSystem(self, dir *os.File) error {
	var a, b unix.Stat_t
	if err := errors.Join(unix.Fstat(int(self.Fd()), &a), unix.Fstat(int(dir.Fd()), &b)); err != nil {
		return err
	}
	if a.Dev != b.Dev {
		return ErrUnsupported
	}
	err := retry(func() error { return unix.Syncfs(int(self.Fd())) })
	if err == unix.ENOSYS {
		return ErrUnsupported
	}
	return err
}

func fdatasync(_ *os.File, fd uintptr) error {
	for {
		if err := unix.Fdatasync(int(fd)); err != unix.EINTR {
			return err
		}
	}
}

func fallocate(fd uintptr, off, n int64) error {
	err := retry(func() error { return unix.Fallocate(int(fd), 0, off, n) })
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		return ErrUnsupported
	}
	return err
}

func seekData(fd uintptr, off, size int64) (start, end int64, err error) {
	start, err = unix.Seek(int(fd), off, unix.SEEK_DATA)
	switch err {
	case nil:
	case unix.ENXIO:
		return 0, 0, io.EOF
	case unix.EINVAL, unix.EOPNOTSUPP:
		return off, size, nil
	default:
		return 0, 0, err
	}
	end, err = unix.Seek(int(fd), start, unix.SEEK_HOLE)
	return start, end, err
}

func markSparse(*osFile) error { return nil }

// mapping is a shared read-only mmap.
type mapping struct{ b []byte }

func mapFile(fd uintptr, n int) (Mapping, error) {
	b, err := unix.Mmap(int(fd), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err == unix.ENODEV {
		return nil, ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	return &mapping{b: b}, nil
}

func (m *mapping) Bytes() []byte { return m.b }

// Populate needs Linux 5.14: the system call loads the pages while the
// scheduler gives the processor to other goroutines, which a page fault does not.
func (m *mapping) Populate(off, n int64) error {
	if off < 0 || n < 0 || off > int64(len(m.b))-n {
		return unix.EINVAL
	}
	if n == 0 {
		return nil
	}
	first := off &^ int64(pageSize-1)
	b := m.b[first : off+n]
	for {
		switch err := unix.Madvise(b, unix.MADV_POPULATE_READ); err {
		case unix.EINTR, unix.EAGAIN:
		case unix.EINVAL, unix.ENOSYS:
			return ErrUnsupported
		default:
			return err
		}
	}
}

func (m *mapping) Close() error {
	b := m.b
	m.b = nil
	if b == nil {
		return nil
	}
	return unix.Munmap(b)
}

var pageSize = os.Getpagesize()

func usage(f *os.File) (Usage, error) {
	var s unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(f.Fd()), &s) }); err != nil {
		return Usage{}, err
	}
	unit := s.Frsize
	if unit == 0 {
		unit = s.Bsize
	}
	return usageOf(int64(s.Blocks), int64(s.Bfree), int64(s.Bavail), int64(unit)), nil
}

// fileLock holds an open file description lock. It conflicts with another one
// of this process, and with Java's FileChannel.lock, which is a record lock of
// the whole file. Unlike a record lock it does not vanish when this process
// opens and closes the same file somewhere else.
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
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 0, Len: 1}
	err = retry(func() error { return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk) })
	if err == nil {
		return &fileLock{f: f}, nil
	}
	_ = f.Close()
	if err == unix.EAGAIN || err == unix.EACCES {
		err = ErrLockHeld
	}
	return nil, err
}

// fileLocked asks the kernel who is in the way of a lock, and takes none.
func fileLocked(t *tree, n string) (bool, error) {
	f, err := openFile(t, n, os.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 0, Len: 1}
	err = retry(func() error { return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk) })
	return lk.Type != unix.F_UNLCK, err
}

// Close gives the lock back; the second time it does nothing.
func (l *fileLock) Close() error {
	l.once.Do(func() { l.err = l.f.Close() })
	return l.err
}

func retry(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}
