package crash

import (
	"errors"
	"io"
	iofs "io/fs"
	"path"
	"sync"
	"syscall"

	"github.com/embermq/embermq/internal/fs"
)

// tree is a folder of a Sim as an fs.FS.
type tree struct {
	s   *Sim
	dir string
}

var _ fs.FS = (*tree)(nil)

var (
	errIsDir    = errors.New("is a folder")
	errNotDir   = errors.New("is not a folder")
	errNotEmpty = errors.New("folder is not empty")
)

func fail(op, name string, err error) error {
	return &iofs.PathError{Op: "fs: " + op, Path: name, Err: err}
}

// full turns a name of this tree into one of the Sim.
func (t *tree) full(op, name string) (string, error) {
	n := join(t.dir, name)
	if name == "" || !iofs.ValidPath(n) {
		return "", fail(op, t.Path(name), fs.ErrName)
	}
	return n, nil
}

func (t *tree) Open(name string, flag fs.Flag) (fs.File, error) {
	p, err := t.full("open", name)
	if err != nil {
		return nil, err
	}
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	ino, err := s.openLocked(p, flag)
	if err != nil {
		return nil, fail("open", t.Path(name), err)
	}
	return s.handle(ino, flag&fs.ReadOnly != 0), nil
}

func (s *Sim) openLocked(p string, flag fs.Flag) (int, error) {
	if s.stopped {
		return 0, ErrStopped
	}
	ino, found := s.lookup(p)
	switch {
	case found && flag&(fs.Create|fs.Exclusive) == fs.Create|fs.Exclusive:
		return 0, iofs.ErrExist
	case found && s.inodes[ino].dir:
		return 0, errIsDir
	case found:
		return ino, nil
	case flag&fs.Create == 0:
		return 0, iofs.ErrNotExist
	}
	dir, base, ok := s.parent(p)
	if !ok {
		return 0, iofs.ErrNotExist
	}
	half, err := s.begin()
	if err != nil {
		return 0, err
	}
	if half && s.halfRandom().coin() {
		return 0, ErrStopped
	}
	ino = s.add(&inode{})
	s.setName(dir, base, ino, change{})
	if half {
		return 0, ErrStopped
	}
	return ino, nil
}

func (t *tree) MkdirAll(name string) error {
	p, err := t.full("mkdir", name)
	if err != nil {
		return err
	}
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mkdirAll(p); err != nil {
		return fail("mkdir", t.Path(name), err)
	}
	return nil
}

func (s *Sim) mkdirAll(p string) error {
	var missing []string // deepest first
	for d := p; ; d = path.Dir(d) {
		if ino, ok := s.lookup(d); ok {
			if !s.inodes[ino].dir {
				return errNotDir
			}
			break
		}
		missing = append(missing, d)
	}
	if s.stopped {
		return ErrStopped
	}
	if len(missing) == 0 {
		return nil
	}
	half, err := s.begin()
	if err != nil {
		return err
	}
	keep := len(missing)
	if half {
		keep = s.halfRandom().below(len(missing) + 1)
	}
	for i := len(missing) - 1; i >= len(missing)-keep; i-- {
		dir, base, _ := s.parent(missing[i])
		s.setName(dir, base, s.add(&inode{dir: true}), change{})
	}
	if half {
		return ErrStopped
	}
	return nil
}

// change runs a change of names that a dying process makes or does not make.
func (t *tree) change(op, name string, check, do func(s *Sim) error) error {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	err := error(nil)
	if s.stopped {
		err = ErrStopped
	} else {
		err = check(s)
	}
	if err != nil {
		return fail(op, t.Path(name), err)
	}
	half, err := s.begin()
	if err == nil && (!half || s.halfRandom().coin()) {
		err = do(s)
	}
	if half {
		err = ErrStopped
	}
	if err != nil {
		return fail(op, t.Path(name), err)
	}
	return nil
}

func (t *tree) Rename(from, to string) error {
	a, err := t.full("rename", from)
	if err != nil {
		return err
	}
	b, err := t.full("rename", to)
	if err != nil {
		return err
	}
	var ino, dirA, dirB int
	var baseA, baseB string
	same := false
	check := func(s *Sim) error {
		var ok bool
		if ino, ok = s.lookup(a); !ok {
			return iofs.ErrNotExist
		}
		if dirA, baseA, ok = s.parent(a); !ok {
			return iofs.ErrInvalid
		}
		if dirB, baseB, ok = s.parent(b); !ok {
			return iofs.ErrNotExist
		}
		isDir := s.inodes[ino].dir
		if isDir && len(b) > len(a) && b[:len(a)+1] == a+"/" {
			return iofs.ErrInvalid
		}
		old, ok := s.lookup(b)
		if !ok {
			return nil
		}
		if same = old == ino; same {
			return nil
		}
		switch o := s.inodes[old]; {
		case o.dir && !isDir:
			return errIsDir
		case !o.dir && isDir:
			return errNotDir
		case o.dir && len(o.names) > 0:
			return errNotEmpty
		}
		return nil
	}
	return t.change("rename", to, check, func(s *Sim) error {
		if same {
			return nil // two names of one file stay
		}
		set := s.setName(dirB, baseB, ino, change{})
		s.setName(dirA, baseA, gone, set)
		s.removed++
		return nil
	})
}

func (t *tree) Link(from, to string) error {
	a, err := t.full("link", from)
	if err != nil {
		return err
	}
	b, err := t.full("link", to)
	if err != nil {
		return err
	}
	var ino, dir int
	var base string
	check := func(s *Sim) error {
		var ok bool
		if ino, ok = s.lookup(a); !ok {
			return iofs.ErrNotExist
		}
		if s.inodes[ino].dir {
			return errIsDir
		}
		if dir, base, ok = s.parent(b); !ok {
			return iofs.ErrNotExist
		}
		if _, ok := s.lookup(b); ok {
			return iofs.ErrExist
		}
		return nil
	}
	return t.change("link", to, check, func(s *Sim) error {
		s.setName(dir, base, ino, change{})
		return nil
	})
}

func (t *tree) Remove(name string) error {
	p, err := t.full("remove", name)
	if err != nil {
		return err
	}
	var dir int
	var base string
	check := func(s *Sim) error {
		ino, ok := s.lookup(p)
		if !ok {
			return iofs.ErrNotExist
		}
		if dir, base, ok = s.parent(p); !ok {
			return iofs.ErrInvalid
		}
		if len(s.inodes[ino].names) > 0 {
			return errNotEmpty
		}
		return nil
	}
	return t.change("remove", name, check, func(s *Sim) error {
		s.setName(dir, base, gone, change{})
		s.removed++
		return nil
	})
}

func (t *tree) List(name string) ([]fs.Entry, error) {
	p, err := t.full("list", name)
	if err != nil {
		return nil, err
	}
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	ino, ok := s.lookup(p)
	switch {
	case s.stopped:
		err = ErrStopped
	case !ok:
		err = iofs.ErrNotExist
	case !s.inodes[ino].dir:
		err = errNotDir
	}
	if err != nil {
		return nil, fail("list", t.Path(name), err)
	}
	list := make([]fs.Entry, 0, len(s.inodes[ino].names))
	for _, e := range s.inodes[ino].names {
		list = append(list, s.entry(e.name, e.ino))
	}
	return list, nil
}

func (s *Sim) entry(name string, ino int) fs.Entry {
	n := s.inodes[ino]
	return fs.Entry{Name: name, Size: n.cache.size, Dir: n.dir}
}

func (t *tree) Stat(name string) (fs.Entry, error) {
	p, err := t.full("stat", name)
	if err != nil {
		return fs.Entry{}, err
	}
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	ino, ok := s.lookup(p)
	if s.stopped {
		return fs.Entry{}, fail("stat", t.Path(name), ErrStopped)
	}
	if !ok {
		return fs.Entry{}, fail("stat", t.Path(name), iofs.ErrNotExist)
	}
	return s.entry(path.Base(p), ino), nil
}

func (t *tree) SyncDir(name string) error {
	p, err := t.full("sync folder", name)
	if err != nil {
		return err
	}
	var ino int
	check := func(s *Sim) error {
		var ok bool
		if ino, ok = s.lookup(p); !ok {
			return iofs.ErrNotExist
		}
		if !s.inodes[ino].dir {
			return errNotDir
		}
		return nil
	}
	return t.change("sync folder", name, check, func(s *Sim) error {
		s.syncNames(ino)
		if s.removed > 256 {
			s.collect()
		}
		return nil
	})
}

// SyncFS syncs the whole disk, whatever folder the tree stands for.
func (t *tree) SyncFS() error {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	half, err := s.begin()
	if err != nil {
		return fail("sync file system", t.Path("."), err)
	}
	var pick func() bool
	if half {
		pick = s.halfRandom().coin
	}
	var failed error
	for ino, n := range s.inodes {
		if n == nil || pick != nil && !pick() {
			continue
		}
		if n.dir {
			s.syncNames(ino)
		} else if err := s.syncFile(ino, true, pick); err != nil {
			failed = err
		}
	}
	if half {
		failed = ErrStopped
	}
	if failed != nil {
		return fail("sync file system", t.Path("."), failed)
	}
	return nil
}

func (t *tree) Lock(name string) (io.Closer, error) {
	p, err := t.full("lock", name)
	if err != nil {
		return nil, err
	}
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	ino, err := s.openLocked(p, fs.Create)
	if err == nil && s.locks[ino] {
		err = fs.ErrLockHeld
	}
	if err != nil {
		return nil, fail("lock", t.Path(name), err)
	}
	if s.locks == nil {
		s.locks = map[int]bool{}
	}
	s.locks[ino] = true
	return &lock{f: s.handle(ino, false)}, nil
}

func (t *tree) Locked(name string) (bool, error) {
	p, err := t.full("look at lock", name)
	if err != nil {
		return false, err
	}
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	ino, err := s.openLocked(p, fs.ReadOnly)
	if err != nil {
		return false, fail("look at lock", t.Path(name), err)
	}
	return s.locks[ino], nil
}

type lock struct {
	once sync.Once
	f    *file
	err  error
}

// Close gives the lock back; the second time it does nothing.
func (l *lock) Close() error {
	l.once.Do(func() {
		s := l.f.s
		s.mu.Lock()
		delete(s.locks, l.f.ino)
		s.mu.Unlock()
		l.err = l.f.Close()
	})
	return l.err
}

func (t *tree) Usage() (fs.Usage, error) {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return fs.Usage{}, fail("usage", t.Path("."), ErrStopped)
	}
	total := s.capacity
	if total == 0 {
		total = 1 << 40
	}
	return fs.Usage{Total: total, Free: max(0, total-s.usedLocked())}, nil
}

func (t *tree) Sub(dir string) fs.FS { return &tree{s: t.s, dir: join(t.dir, dir)} }

func (t *tree) Path(name string) string { return path.Join("/crash", t.dir, name) }

// Close does nothing: the disk is memory.
func (t *tree) Close() error { return nil }

var errIO error = syscall.EIO
