package kv

import (
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/embermq/embermq/internal/fs"
)

// pebbleFS is the file system that Pebble sees: the folder of the DB at "." and,
// while a checkpoint is taken, its target below awayDir. Failed writes go
// through the gate's rules; failures at the target belong to the checkpoint
// alone.
type pebbleFS struct {
	gate *gate
	away atomic.Pointer[away]
}

var _ vfs.FS = (*pebbleFS)(nil)

// awayDir stands for the target of a checkpoint. Pebble has no such file name.
const awayDir = "@checkpoint"

// away is the target of a checkpoint.
type away struct {
	fs    fs.FS
	first atomic.Pointer[error] // of its failures

	mu   sync.Mutex
	open map[io.Closer]struct{} // guarded by mu
}

func newAway(fsys fs.FS) *away { return &away{fs: fsys, open: map[io.Closer]struct{}{}} }

func (a *away) hold(f io.Closer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open[f] = struct{}{}
}

func (a *away) release(f io.Closer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.open[f]; !ok {
		return nil
	}
	delete(a.open, f)
	return a.note(f.Close())
}

// end closes what Pebble leaves open when a checkpoint fails.
func (a *away) end() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for f := range a.open {
		errs = append(errs, f.Close())
	}
	clear(a.open)
	return errors.Join(errs...)
}

func (a *away) note(err error) error {
	if err != nil && !benign(err) {
		a.first.CompareAndSwap(nil, &err)
	}
	return err
}

var (
	errNoTarget  = errors.New("kv: no checkpoint is being taken")
	errElsewhere = errors.New("kv: not on the same file system")
)

// at finds the tree that a name of Pebble's is in.
func (p *pebbleFS) at(name string) (rel string, a *away, err error) {
	rel = path.Clean(name)
	if rel != awayDir && !strings.HasPrefix(rel, awayDir+"/") {
		return rel, nil, nil
	}
	a = p.away.Load()
	if a == nil {
		return "", nil, errNoTarget
	}
	return path.Clean(strings.TrimPrefix(strings.TrimPrefix(rel, awayDir), "/")), a, nil
}

// plain turns the answers about names into the errors of package os, which
// Pebble looks for, and leaves the rest as it is.
func plain(op, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, iofs.ErrNotExist):
		return &os.PathError{Op: op, Path: name, Err: iofs.ErrNotExist}
	case errors.Is(err, iofs.ErrExist):
		return &os.PathError{Op: op, Path: name, Err: iofs.ErrExist}
	}
	return err
}

// change runs an operation on one name under the rule for its tree.
func (p *pebbleFS) change(op, name string, rule func(func() error) error, f func(fs.FS, string) error) error {
	rel, a, err := p.at(name)
	if err != nil {
		return err
	}
	if a != nil {
		return plain(op, name, a.note(f(a.fs, rel)))
	}
	return plain(op, name, rule(func() error { return f(p.gate.fs, rel) }))
}

// markerPrefix begins the names of the files that say which MANIFEST and which
// format is in force.
const markerPrefix = "marker."

// tableSuffix ends the names of tables.
const tableSuffix = ".sst"

// Create makes the file anew; one that has the name is removed first, because
// it may have a second name in a checkpoint. The file that a marker names is
// durable before the marker is: Pebble has synced its bytes and not its name.
func (p *pebbleFS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	if _, a, err := p.at(name); err == nil && a == nil && !p.gate.readOnly && strings.HasPrefix(path.Base(name), markerPrefix) {
		p.gate.settle()
	}
	if strings.HasSuffix(name, tableSuffix) {
		p.gate.replaying.Store(true)
	}
	f, err := p.open(name, p.gate.name, func(fsys fs.FS, rel string) (fs.File, error) {
		for {
			f, err := fsys.Open(rel, fs.Create|fs.Exclusive)
			if !errors.Is(err, iofs.ErrExist) {
				return f, err
			}
			if err := fsys.Remove(rel); err != nil && !errors.Is(err, iofs.ErrNotExist) {
				return nil, err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	f.made = true
	return f, nil
}

// Open opens the file for reading.
func (p *pebbleFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := p.open(name, p.gate.read, func(fsys fs.FS, rel string) (fs.File, error) {
		return fsys.Open(rel, fs.ReadOnly)
	})
	return apply(f, err, opts)
}

// OpenReadWrite opens the file for reading and writing and makes it when it is
// missing.
func (p *pebbleFS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := p.open(name, p.gate.name, func(fsys fs.FS, rel string) (fs.File, error) {
		return fsys.Open(rel, fs.Create)
	})
	return apply(f, err, opts)
}

// apply keeps a failed open from becoming an interface that is not nil.
func apply(f *file, err error, opts []vfs.OpenOption) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	for _, o := range opts {
		o.Apply(f)
	}
	return f, nil
}

func (p *pebbleFS) open(name string, rule func(func() error) error, f func(fs.FS, string) (fs.File, error)) (*file, error) {
	_, a, err := p.at(name)
	if err != nil {
		return nil, err
	}
	h := &file{gate: p.gate, away: a, name: path.Base(name)}
	hold := p.gate.hold
	if a != nil {
		hold = a.hold
	}
	err = p.change("open", name, rule, func(fsys fs.FS, rel string) (err error) {
		if h.f, err = f(fsys, rel); err == nil {
			hold(h.f) // inside the call: a fence that follows finds it
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// OpenDir returns a file whose Sync makes the folder's names durable.
func (p *pebbleFS) OpenDir(name string) (vfs.File, error) {
	if _, err := p.Stat(name); err != nil && path.Clean(name) != awayDir {
		return nil, err
	}
	return &folder{p: p, name: name}, nil
}

// Remove deletes a file that is no longer needed.
func (p *pebbleFS) Remove(name string) error {
	return p.change("remove", name, p.gate.tidy, func(fsys fs.FS, rel string) error {
		return fsys.Remove(rel)
	})
}

// RemoveAll deletes what is below name, and name unless it is a root.
func (p *pebbleFS) RemoveAll(name string) error {
	return p.change("remove", name, p.gate.tidy, func(fsys fs.FS, rel string) error {
		if rel != "." {
			return fs.RemoveAll(fsys, rel)
		}
		es, err := fsys.List(".")
		for _, e := range es {
			err = errors.Join(err, fs.RemoveAll(fsys, e.Name))
		}
		return err
	})
}

// Rename moves a file within the DB's folder or within the target.
func (p *pebbleFS) Rename(from, to string) error { return p.two("rename", from, to, fs.FS.Rename) }

// Link gives a file a second name. Into the target of a checkpoint it refuses,
// and Pebble copies instead.
func (p *pebbleFS) Link(from, to string) error { return p.two("link", from, to, fs.FS.Link) }

func (p *pebbleFS) two(op, from, to string, f func(fsys fs.FS, from, to string) error) error {
	src, a, err := p.at(from)
	if err != nil {
		return err
	}
	if _, b, err := p.at(to); err != nil || a != b {
		return errors.Join(errElsewhere, err)
	}
	return p.change(op, to, p.gate.name, func(fsys fs.FS, dst string) error {
		return f(fsys, src, dst)
	})
}

// ReuseForWrite does not reuse: a log that is written over an old one shows its
// stale records after a crash. The old one may stay, and the next Open finds it;
// Pebble would panic with an error.
func (p *pebbleFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	_ = p.Remove(from)
	return p.Create(to, c)
}

// MkdirAll makes a folder and those above it.
func (p *pebbleFS) MkdirAll(dir string, _ os.FileMode) error {
	return p.change("mkdir", dir, p.gate.name, func(fsys fs.FS, rel string) error {
		return fsys.MkdirAll(rel)
	})
}

// Lock takes Pebble's own lock. A read-only DB takes none, because locking
// writes; who opens one knows that nobody else writes.
func (p *pebbleFS) Lock(name string) (io.Closer, error) {
	if p.gate.readOnly {
		return noLock{}, nil
	}
	l := &lock{gate: p.gate}
	err := p.change("lock", name, p.gate.read, func(fsys fs.FS, rel string) (err error) {
		if l.held, err = fsys.Lock(rel); err == nil {
			p.gate.hold(l.held)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

type noLock struct{}

func (noLock) Close() error { return nil }

type lock struct {
	gate *gate
	held io.Closer
}

func (l *lock) Close() error { return l.gate.release(l.held) }

// List returns the names in a folder.
func (p *pebbleFS) List(dir string) ([]string, error) {
	var names []string
	err := p.change("list", dir, p.gate.read, func(fsys fs.FS, rel string) error {
		es, err := fsys.List(rel)
		names = make([]string, len(es))
		for i, e := range es {
			names[i] = e.Name
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return names, nil
}

// Stat describes a file. The empty target of a checkpoint counts as missing,
// because Pebble wants to make it.
func (p *pebbleFS) Stat(name string) (vfs.FileInfo, error) {
	var fi info
	err := p.change("stat", name, p.gate.read, func(fsys fs.FS, rel string) error {
		e, err := fsys.Stat(rel)
		if err == nil && path.Clean(name) == awayDir {
			var es []fs.Entry
			if es, err = fsys.List("."); err == nil && len(es) == 0 {
				err = iofs.ErrNotExist
			}
		}
		fi = info{name: path.Base(name), size: e.Size, dir: e.Dir}
		return err
	})
	if err != nil {
		return nil, err
	}
	return fi, nil
}

// PathBase is path.Base: names have slashes on every platform.
func (*pebbleFS) PathBase(p string) string { return path.Base(p) }

// PathJoin is path.Join.
func (*pebbleFS) PathJoin(elem ...string) string { return path.Join(elem...) }

// PathDir is path.Dir.
func (*pebbleFS) PathDir(p string) string { return path.Dir(p) }

// GetDiskUsage tells Pebble how fast it may delete. It does without an answer,
// but takes any error except this one for a failure of the disk.
func (p *pebbleFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	var u fs.Usage
	err := p.gate.read(func() (err error) {
		u, err = p.gate.fs.Usage()
		return err
	})
	if err != nil {
		return vfs.DiskUsage{}, vfs.ErrUnsupported
	}
	total, free := uint64(max(u.Total, 0)), uint64(max(u.Free, 0))
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: total, UsedBytes: total - min(free, total)}, nil
}

// Unwrap returns nil: there is no file system of Pebble's below this one.
func (*pebbleFS) Unwrap() vfs.FS { return nil }
