package fs

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"sync"
)

// ErrSymlink is matched by the error for a name that is a symbolic link or lies
// behind one. The store makes none, so one in its folder was put there by
// somebody else, and following it would write where nobody looks for our files.
var ErrSymlink = errors.New("symbolic link refused")

// ErrName is matched by the error for a name that is empty, absolute, holds
// "..", or is not in its shortest form.
var ErrName = errors.New("name is not inside the folder")

// OS opens the folder dir of the operating system. A missing folder is an error
// that matches io/fs.ErrNotExist. Only dir itself may be a symbolic link. The
// FS that Sub returns shares the root: closing it does nothing, and closing the
// FS that OS returned ends all of them.
func OS(dir string) (FS, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("fs: open %s: %w", dir, err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, err
	}
	self, err := root.Open(".")
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return &tree{shared: &shared{root: root, self: self}, dir: ".", owner: true}, nil
}

// MakeOS is OS, but makes dir (mode 0700, and those above it) when it is missing
// and syncs the folder above every folder it made, so that a power cut cannot
// take the store's own name away.
func MakeOS(dir string) (FS, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("fs: make %s: %w", dir, err)
	}
	var parents []string // of the folders that are missing, deepest first
	for d := abs; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, iofs.ErrNotExist) || filepath.Dir(d) == d {
			break
		}
		parents = append(parents, filepath.Dir(d))
	}
	if len(parents) == 0 {
		// It may have been made a moment ago by a process that died before its sync.
		parents = append(parents, filepath.Dir(abs))
	} else if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, err
	}
	for i, d := range parents {
		f, err := os.Open(d)
		if err != nil {
			// An existing store may lie below a folder that we may pass but not read.
			if i == 0 && len(parents) == 1 && errors.Is(err, iofs.ErrPermission) {
				break
			}
			return nil, err
		}
		err = errors.Join(syncFolder(f), f.Close())
		if err != nil {
			return nil, fmt.Errorf("fs: make %s: %w", dir, err)
		}
	}
	return OS(abs)
}

// shared is what a tree and its subtrees have in common.
type shared struct {
	root *os.Root
	// self is the root folder, open from the start: the kernel reports a failed
	// write-back to syncfs only through descriptors that were open when it failed.
	self *os.File

	mu sync.Mutex
	// syncErr is the first failure of SyncFS. The kernel reports each failure once
	// per descriptor, and the trees share one, so the second asker must hear it too.
	syncErr error
}

// tree is an FS on the operating system.
type tree struct {
	*shared
	dir   string // slash-separated, "." at the root
	owner bool
}

// full turns a name of this tree into one of the root.
func (t *tree) full(name string) (string, error) {
	n := name
	if t.dir != "." {
		n = t.dir + "/" + name
		if name == "." {
			n = t.dir
		}
	}
	if name == "" || !iofs.ValidPath(n) || !filepath.IsLocal(n) || filepath.Separator != '/' && strings.ContainsRune(n, filepath.Separator) {
		return "", ErrName
	}
	return n, nil
}

// check turns a name of this tree into one of the root and refuses symbolic
// links above it, and in its place as well when self is set. What is missing is
// left for the operation itself to report.
func (t *tree) check(name string, self bool) (string, error) {
	n, err := t.full(name)
	if err != nil || n == "." {
		return n, err
	}
	return n, t.refuseLinks(n, self)
}

func (t *tree) refuseLinks(n string, self bool) error {
	for i := 0; i <= len(n); i++ {
		last := i == len(n)
		if !last && n[i] != '/' || last && !self {
			continue
		}
		fi, err := t.root.Lstat(n[:i])
		if err != nil {
			return nil
		}
		if fi.Mode()&iofs.ModeSymlink != 0 {
			return ErrSymlink
		}
	}
	return nil
}

// fail gives an error the operation and the whole path.
func (t *tree) fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var pe *iofs.PathError
	var le *os.LinkError
	if errors.As(err, &pe) {
		err = pe.Err
	} else if errors.As(err, &le) {
		err = le.Err
	}
	return &iofs.PathError{Op: "fs: " + op, Path: t.Path(name), Err: err}
}

func (t *tree) Open(name string, flag Flag) (File, error) {
	f, err := t.open(name, flag)
	if err != nil {
		return nil, t.fail("open", name, err)
	}
	return f, nil
}

func (t *tree) open(name string, flag Flag) (*osFile, error) {
	n, err := t.full(name)
	if err != nil {
		return nil, err
	}
	mode := os.O_RDWR
	if flag&ReadOnly != 0 {
		mode = os.O_RDONLY
	}
	if flag&Create != 0 {
		mode |= os.O_CREATE
		if flag&Exclusive != 0 {
			mode |= os.O_EXCL
		}
	}
	f, err := openFile(t, n, mode)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osFile{File: f, raw: raw}, nil
}

// openChecked opens a regular file step by step, on platforms (and under
// sandboxes) where the kernel cannot refuse symbolic links by itself. The look
// before the open also keeps a pipe from blocking it.
func (t *tree) openChecked(n string, mode int) (*os.File, error) {
	if err := t.refuseLinks(n, true); err != nil {
		return nil, err
	}
	if fi, err := t.root.Lstat(n); err == nil && mode&os.O_EXCL == 0 {
		if err := regular(fi); err != nil {
			return nil, err
		}
	}
	return t.root.OpenFile(n, mode, 0o600)
}

func regular(fi iofs.FileInfo) error {
	switch {
	case fi.Mode().IsRegular():
		return nil
	case fi.IsDir():
		return errors.New("is a folder")
	case fi.Mode()&iofs.ModeSymlink != 0:
		return ErrSymlink
	}
	return errors.New("is not a regular file")
}

func (t *tree) MkdirAll(dir string) error {
	n, err := t.check(dir, true)
	if err == nil {
		err = t.root.MkdirAll(n, 0o700)
	}
	return t.fail("mkdir", dir, err)
}

func (t *tree) Rename(from, to string) error {
	a, err := t.check(from, false)
	if err != nil {
		return t.fail("rename", from, err)
	}
	b, err := t.check(to, false)
	if err != nil {
		return t.fail("rename", to, err)
	}
	return t.fail("rename", to, t.root.Rename(a, b))
}

func (t *tree) Link(from, to string) error {
	a, err := t.check(from, true)
	if err != nil {
		return t.fail("link", from, err)
	}
	b, err := t.check(to, false)
	if err != nil {
		return t.fail("link", to, err)
	}
	return t.fail("link", to, t.root.Link(a, b))
}

func (t *tree) Remove(name string) error {
	n, err := t.check(name, false)
	if err == nil {
		err = t.root.Remove(n)
	}
	return t.fail("remove", name, err)
}

func (t *tree) List(dir string) ([]Entry, error) {
	n, err := t.check(dir, true)
	if err != nil {
		return nil, t.fail("list", dir, err)
	}
	// Names are described through the folder's own handle: one call each, and
	// the folder cannot be swapped for another in between.
	sub, err := t.root.OpenRoot(n)
	if err != nil {
		return nil, t.fail("list", dir, err)
	}
	defer sub.Close()
	f, err := sub.Open(".")
	if err != nil {
		return nil, t.fail("list", dir, err)
	}
	names, err := f.Readdirnames(-1)
	err = errors.Join(err, f.Close())
	if err != nil {
		return nil, t.fail("list", dir, err)
	}
	sort.Strings(names)
	entries := make([]Entry, 0, len(names))
	for _, name := range names {
		fi, err := sub.Lstat(name)
		if errors.Is(err, iofs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, t.fail("list", path.Join(dir, name), err)
		}
		entries = append(entries, entryOf(name, fi))
	}
	return entries, nil
}

func (t *tree) Stat(name string) (Entry, error) {
	n, err := t.check(name, false)
	if err != nil {
		return Entry{}, t.fail("stat", name, err)
	}
	fi, err := t.root.Lstat(n)
	if err != nil {
		return Entry{}, t.fail("stat", name, err)
	}
	return entryOf(path.Base(n), fi), nil
}

func entryOf(name string, fi iofs.FileInfo) Entry {
	e := Entry{Name: name, Dir: fi.IsDir(), Link: fi.Mode()&iofs.ModeSymlink != 0}
	if !e.Dir {
		e.Size = fi.Size()
	}
	return e
}

func (t *tree) SyncDir(dir string) error {
	f, err := t.openDir(dir)
	if err != nil {
		return t.fail("sync folder", dir, err)
	}
	return t.fail("sync folder", dir, errors.Join(syncFolder(f), f.Close()))
}

func (t *tree) openDir(dir string) (*os.File, error) {
	n, err := t.check(dir, true)
	if err != nil {
		return nil, err
	}
	fi, err := t.root.Lstat(n)
	if err == nil && !fi.IsDir() {
		return nil, errors.New("is not a folder")
	}
	return t.root.Open(n)
}

// nearest opens the tree's folder, or the first one above it that exists.
func (t *tree) nearest() (*os.File, error) {
	for n := t.dir; ; n = path.Dir(n) {
		f, err := t.root.Open(n)
		if n == "." || !errors.Is(err, iofs.ErrNotExist) {
			return f, err
		}
	}
}

// SyncFS syncs the file system that holds the tree's folder. A file system that
// is mounted on a folder further below is not reached. Once it has failed it
// fails for ever, because what was lost is not known.
func (t *tree) SyncFS() error {
	f, err := t.nearest()
	if err != nil {
		return t.fail("sync file system", ".", err)
	}
	defer f.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.syncErr != nil {
		return t.syncErr
	}
	err = syncFileSystem(t.self, f)
	if errors.Is(err, ErrUnsupported) {
		return err
	}
	t.syncErr = t.fail("sync file system", ".", err)
	return t.syncErr
}

func (t *tree) Lock(name string) (io.Closer, error) {
	n, err := t.check(name, true)
	if err != nil {
		return nil, t.fail("lock", name, err)
	}
	l, err := lockFile(t, n)
	if err != nil {
		return nil, t.fail("lock", name, err)
	}
	return l, nil
}

func (t *tree) Locked(name string) (bool, error) {
	n, err := t.check(name, true)
	if err != nil {
		return false, t.fail("look at lock", name, err)
	}
	held, err := fileLocked(t, n)
	return held, t.fail("look at lock", name, err)
}

func (t *tree) Usage() (Usage, error) {
	f, err := t.nearest()
	if err != nil {
		return Usage{}, t.fail("usage", ".", err)
	}
	defer f.Close()
	u, err := usage(f)
	return u, t.fail("usage", ".", err)
}

func (t *tree) Sub(dir string) FS {
	n := dir
	if t.dir != "." {
		n = t.dir + "/" + dir
		if dir == "." {
			n = t.dir
		}
	}
	// A bad name makes every name below it bad, so the first use reports it.
	return &tree{shared: t.shared, dir: n}
}

func (t *tree) Path(name string) string {
	return filepath.Join(t.root.Name(), filepath.FromSlash(t.dir), filepath.FromSlash(name))
}

func (t *tree) Close() error {
	if !t.owner {
		return nil
	}
	return errors.Join(t.self.Close(), t.root.Close())
}
