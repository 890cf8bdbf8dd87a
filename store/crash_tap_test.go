package store_test

import (
	"io"
	"sync"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
)

// A tap lies between a store and its simulated machine and makes copies of the
// machine in front of chosen operations, or in the middle of them, while the
// store goes on. So one run gives many crashes, each at a moment that the run
// did not expect, and nothing that would have to be thrown away: Pebble leaves
// goroutines behind when its disk dies under it.
//
// A tap lets one changing operation through at a time.
type tap struct {
	sim *crash.Sim

	mu    sync.Mutex
	ops   int
	picks map[int]bool // operation → crash in its middle, not in front of it
	crash func(copy *crash.Sim)
}

// at is called for each operation that changes something; redo does the same
// on a copy of the machine.
func (t *tap) at(do func() error, redo func(root fs.FS) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ops++
	if mid, ok := t.picks[t.ops]; ok {
		c := t.sim.Kill()
		if mid {
			c.StopAfter(1, true)
			_ = redo(c.FS()) // half done, and the process is dead
		}
		t.crash(c)
	}
	return do()
}

func (t *tap) fs() fs.FS { return tapFS{t.sim.FS(), t, ""} }

type tapFS struct {
	fs.FS
	t   *tap
	dir string // "" or "dir/"
}

func (f tapFS) at(do func() error, redo func(root fs.FS) error) error { return f.t.at(do, redo) }

func (f tapFS) Open(name string, flag fs.Flag) (fs.File, error) {
	var file fs.File
	open := func() (err error) {
		file, err = f.FS.Open(name, flag)
		return err
	}
	var err error
	if flag&fs.Create == 0 {
		err = open()
	} else {
		err = f.at(open, func(root fs.FS) error {
			c, err := root.Open(f.dir+name, flag)
			if err == nil {
				err = c.Close()
			}
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	return &tapFile{file, f.t, f.dir + name}, nil
}

func (f tapFS) MkdirAll(dir string) error {
	return f.at(func() error { return f.FS.MkdirAll(dir) }, func(root fs.FS) error { return root.MkdirAll(f.dir + dir) })
}

func (f tapFS) Rename(from, to string) error {
	return f.at(func() error { return f.FS.Rename(from, to) }, func(root fs.FS) error { return root.Rename(f.dir+from, f.dir+to) })
}

func (f tapFS) Link(from, to string) error {
	return f.at(func() error { return f.FS.Link(from, to) }, func(root fs.FS) error { return root.Link(f.dir+from, f.dir+to) })
}

func (f tapFS) Remove(name string) error {
	return f.at(func() error { return f.FS.Remove(name) }, func(root fs.FS) error { return root.Remove(f.dir + name) })
}

func (f tapFS) SyncDir(dir string) error {
	return f.at(func() error { return f.FS.SyncDir(dir) }, func(root fs.FS) error { return root.SyncDir(f.dir + dir) })
}

func (f tapFS) SyncFS() error {
	return f.at(f.FS.SyncFS, func(root fs.FS) error { return root.SyncFS() })
}

func (f tapFS) Lock(name string) (l io.Closer, err error) { return f.FS.Lock(name) }

func (f tapFS) Sub(dir string) fs.FS { return tapFS{f.FS.Sub(dir), f.t, f.dir + dir + "/"} }

type tapFile struct {
	fs.File
	t    *tap
	name string
}

// again does an operation to the copy's file of the same name. A file that was
// renamed meanwhile is not found: then the operation was not done.
func (f *tapFile) again(root fs.FS, do func(c fs.File) error) error {
	c, err := root.Open(f.name, 0)
	if err != nil {
		return err
	}
	return do(c)
}

func (f *tapFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.t.at(func() (err error) {
		n, err = f.File.WriteAt(p, off)
		return err
	}, func(root fs.FS) error {
		return f.again(root, func(c fs.File) error { _, err := c.WriteAt(p, off); return err })
	})
	return n, err
}

func (f *tapFile) Truncate(size int64) error {
	return f.t.at(func() error { return f.File.Truncate(size) }, func(root fs.FS) error {
		return f.again(root, func(c fs.File) error { return c.Truncate(size) })
	})
}

func (f *tapFile) Preallocate(off, n int64) error {
	return f.t.at(func() error { return f.File.Preallocate(off, n) }, func(root fs.FS) error {
		return f.again(root, func(c fs.File) error { return c.Preallocate(off, n) })
	})
}

func (f *tapFile) SyncData() error {
	return f.t.at(f.File.SyncData, func(root fs.FS) error { return f.again(root, fs.File.SyncData) })
}

func (f *tapFile) Sync() error {
	return f.t.at(f.File.Sync, func(root fs.FS) error { return f.again(root, fs.File.Sync) })
}

// done is the number of operations so far.
func (t *tap) done() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ops
}

// do calls f between two operations.
func (t *tap) do(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}
