package index

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"slices"
	"sync"

	"github.com/embermq/embermq/internal/fs"
)

// errGone says that a file was expired or reset.
var errGone = errors.New("index: file is gone")

// handles keeps at most limit index files open; the one used longest ago makes
// room. Who needs a file while all are in use waits.
//
// Invariant: open holds the files with a handle and is never longer than limit.
type handles struct {
	fsys  fs.FS
	flag  fs.Flag
	limit int

	mu    sync.Mutex
	freed sync.Cond
	open  []*file // the one used last stands last
}

func (c *handles) init(fsys fs.FS, limit int, readOnly bool) {
	c.fsys, c.limit = fsys, max(limit, 1)
	if readOnly {
		c.flag = fs.ReadOnly
	}
	c.freed.L = &c.mu
}

// acquire returns the open file, to be given back with release.
func (c *handles) acquire(f *file) (fs.File, error) {
	return c.get(f, func() (fs.File, error) { return c.fsys.Open(f.name, c.flag) })
}

// create makes the file with its full length, which reads as zeros, and opens it.
// RocketMQ would give a shorter file its length; ours has it from the start.
func (c *handles) create(f *file) (fs.File, error) {
	return c.get(f, func() (fs.File, error) {
		h, err := c.fsys.Open(f.name, fs.Create)
		if err != nil {
			return nil, err
		}
		if err = h.Truncate(0); err == nil {
			err = h.Truncate(f.g.size())
		}
		if err != nil {
			return nil, errors.Join(err, h.Close())
		}
		return h, nil
	})
}

func (c *handles) get(f *file, open func() (fs.File, error)) (fs.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for f.h == nil && !f.gone && len(c.open) >= c.limit && !c.evictLocked() {
		c.freed.Wait()
	}
	if f.gone {
		return nil, errGone
	}
	if f.h == nil {
		h, err := open()
		if err != nil {
			return nil, fmt.Errorf("index: open %s: %w", f.name, err)
		}
		f.h = h
		c.open = append(c.open, f)
	} else if last := len(c.open) - 1; c.open[last] != f {
		i := slices.Index(c.open, f)
		copy(c.open[i:], c.open[i+1:])
		c.open[last] = f
	}
	f.refs++
	return f.h, nil
}

func (c *handles) release(f *file) {
	c.mu.Lock()
	f.refs--
	if f.refs == 0 && (f.gone || len(c.open) >= c.limit) {
		c.freed.Broadcast()
	}
	c.mu.Unlock()
}

// drop makes the file gone and waits until nobody uses it, so that it can be
// removed on systems that refuse to remove open files.
func (c *handles) drop(f *file) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.gone = true
	c.freed.Broadcast()
	for f.refs > 0 {
		c.freed.Wait()
	}
	if f.h != nil {
		c.closeLocked(slices.Index(c.open, f))
	}
}

func (c *handles) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.open) - 1; i >= 0; i-- {
		if c.open[i].refs == 0 {
			c.closeLocked(i)
		}
	}
}

func (c *handles) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

func (c *handles) evictLocked() bool {
	for i, f := range c.open {
		if f.refs == 0 {
			c.closeLocked(i)
			return true
		}
	}
	return false
}

// closeLocked closes an unused file. What its error could tell the sync before a
// save tells too.
func (c *handles) closeLocked(i int) {
	_ = c.open[i].h.Close()
	c.open[i].h = nil
	c.open = slices.Delete(c.open, i, i+1)
}

func isNotExist(err error) bool { return errors.Is(err, iofs.ErrNotExist) }

func isShort(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
