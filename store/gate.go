package store

import (
	"io"
	"sync"

	"github.com/embermq/embermq/internal/fs"
)

// gate holds back the first change of a folder until the log has been found
// sound: meta may be read while the log is scanned, but an Open that ends in
// *CorruptError has not changed a byte.
type gate struct {
	once sync.Once
	open chan struct{}
	err  error
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

// decide lets changes through, or fails them all with err.
func (g *gate) decide(err error) {
	g.once.Do(func() {
		g.err = err
		close(g.open)
	})
}

func (g *gate) wait() error {
	<-g.open
	return g.err
}

// gatedFS is an FS whose changes wait for a gate.
type gatedFS struct {
	fs.FS
	g *gate
}

func (f gatedFS) Open(name string, flag fs.Flag) (fs.File, error) {
	if flag&fs.Create != 0 {
		if err := f.g.wait(); err != nil {
			return nil, err
		}
	}
	file, err := f.FS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return gatedFile{file, f.g}, nil
}

func (f gatedFS) change(do func() error) error {
	if err := f.g.wait(); err != nil {
		return err
	}
	return do()
}

func (f gatedFS) MkdirAll(dir string) error {
	return f.change(func() error { return f.FS.MkdirAll(dir) })
}

func (f gatedFS) Rename(from, to string) error {
	return f.change(func() error { return f.FS.Rename(from, to) })
}

func (f gatedFS) Link(from, to string) error {
	return f.change(func() error { return f.FS.Link(from, to) })
}

func (f gatedFS) Remove(name string) error {
	return f.change(func() error { return f.FS.Remove(name) })
}

func (f gatedFS) Lock(name string) (io.Closer, error) {
	if err := f.g.wait(); err != nil {
		return nil, err
	}
	return f.FS.Lock(name)
}

func (f gatedFS) Sub(dir string) fs.FS { return gatedFS{f.FS.Sub(dir), f.g} }

type gatedFile struct {
	fs.File
	g *gate
}

func (f gatedFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.g.wait(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f gatedFile) Truncate(size int64) error {
	if err := f.g.wait(); err != nil {
		return err
	}
	return f.File.Truncate(size)
}
