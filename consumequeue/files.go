package consumequeue

import (
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/internal/fs"
)

// files is the descriptor cache: at most limit queue files are open at once,
// and the one used longest ago makes room. Who needs a file while all are in use
// waits for the first that is given back.
//
// Invariant: open counts the files in table and never exceeds limit.
type files struct {
	mu    sync.Mutex
	freed sync.Cond // a file was released, closed or finished opening
	table map[fileKey]*file
	lru   file // ring; lru.next is the one used last
	limit int
}

type fileKey struct {
	q    *Queue
	base int64
}

type file struct {
	fileKey
	f          fs.File // nil while it is being opened
	refs       int
	doomed     bool        // drop waits for it
	proven     atomic.Bool // it was compared with its checksum
	prev, next *file
}

func (c *files) init(limit int) {
	c.table = make(map[fileKey]*file)
	c.limit = max(limit, 1)
	c.freed.L = &c.mu
	c.lru.prev, c.lru.next = &c.lru, &c.lru
}

// acquire returns the open file of a queue that begins at base, which the caller
// gives back with release. open runs outside the lock.
func (c *files) acquire(q *Queue, base int64, open func(q *Queue, base int64) (fs.File, error)) (*file, error) {
	k := fileKey{q, base}
	c.mu.Lock()
	for {
		f := c.table[k]
		if f != nil && f.f != nil && !f.doomed {
			f.refs++
			c.front(f)
			c.mu.Unlock()
			return f, nil
		}
		if f == nil && (len(c.table) < c.limit || c.evictLocked()) {
			break
		}
		c.freed.Wait()
	}
	f := &file{fileKey: k, refs: 1}
	c.table[k] = f
	c.front(f)
	c.mu.Unlock()

	opened, err := open(q, base)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.freed.Broadcast()
	if err != nil {
		c.removeLocked(f)
		return nil, err
	}
	f.f = opened
	return f, nil
}

func (c *files) release(f *file) {
	c.mu.Lock()
	f.refs--
	if f.refs == 0 && (f.doomed || len(c.table) >= c.limit) {
		c.freed.Broadcast()
	}
	c.mu.Unlock()
}

// drop closes the queue's files with base in [from, to) and waits for those in
// use, so that they can be removed on systems that refuse to remove open files.
func (c *files) drop(q *Queue, from, to int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		busy := false
		for k, f := range c.table {
			if k.q != q || k.base < from || k.base >= to {
				continue
			}
			if f.refs > 0 {
				f.doomed, busy = true, true
				continue
			}
			c.closeLocked(f)
		}
		c.freed.Broadcast()
		if !busy {
			return
		}
		c.freed.Wait()
	}
}

func (c *files) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.table {
		if f.refs == 0 {
			c.closeLocked(f)
		}
	}
}

func (c *files) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.table)
}

// evictLocked closes the file used longest ago that nobody uses now.
func (c *files) evictLocked() bool {
	for f := c.lru.prev; f != &c.lru; f = f.prev {
		if f.refs == 0 {
			c.closeLocked(f)
			return true
		}
	}
	return false
}

// closeLocked closes an unused file. The error of a close tells nothing that the
// sync before a save would not tell, because the file is opened again for it.
func (c *files) closeLocked(f *file) {
	c.removeLocked(f)
	_ = f.f.Close()
}

func (c *files) removeLocked(f *file) {
	delete(c.table, f.fileKey)
	f.prev.next, f.next.prev = f.next, f.prev
	f.prev, f.next = nil, nil
}

func (c *files) front(f *file) {
	if f.prev != nil {
		f.prev.next, f.next.prev = f.next, f.prev
	}
	f.prev, f.next = &c.lru, c.lru.next
	f.prev.next, f.next.prev = f, f
}

// openFile opens a file that must exist.
func (s *Queues) openFile(q *Queue, base int64) (fs.File, error) {
	var flag fs.Flag
	if s.o.ReadOnly {
		flag = fs.ReadOnly
	}
	return s.fsys.Open(dirName(q.name)+"/"+fileName(base), flag)
}

// createFile opens a file that the queue has no entries in yet, and gives it its
// full length: RocketMQ refuses any other, except zero for the last one. What a
// crash or a full disk left under the name is cut away.
func (s *Queues) createFile(q *Queue, base int64) (fs.File, error) {
	name := dirName(q.name) + "/" + fileName(base)
	f, err := s.fsys.Open(name, fs.Create)
	if isNotExist(err) {
		if err = s.fsys.MkdirAll(dirName(q.name)); err == nil {
			f, err = s.fsys.Open(name, fs.Create)
		}
	}
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err == nil && size != 0 {
		err = f.Truncate(0)
	}
	if err == nil {
		err = f.Truncate(s.o.FileSize)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
