package crash

import (
	"io"
	iofs "io/fs"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/embermq/embermq/internal/fs"
)

// file is an open file of a Sim.
type file struct {
	s        *Sim
	ino      int
	readOnly bool
	closed   bool
	seen     uint32 // failed write-backs of the inode that this file has reported
}

// handle opens an inode.
func (s *Sim) handle(ino int, readOnly bool) *file {
	n := s.inodes[ino]
	f := &file{s: s, ino: ino, readOnly: readOnly, seen: n.errs}
	if n.errs > 0 && !n.seen {
		f.seen-- // nobody has been told yet
	}
	if s.handles == nil {
		s.handles = map[int]int{}
	}
	s.handles[ino]++
	s.open++
	return f
}

// usable is called under the mutex.
func (f *file) usable(write bool) error {
	switch {
	case f.s.stopped:
		return ErrStopped
	case f.closed:
		return iofs.ErrClosed
	case write && f.readOnly:
		return iofs.ErrPermission
	}
	return nil
}

func (f *file) node() *inode { return f.s.inodes[f.ino] }

func (f *file) fail(op string, err error) error { return fail(op, "/crash/"+f.node().path, err) }

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if err := f.usable(false); err != nil {
		return 0, f.fail("read", err)
	}
	if off < 0 {
		return 0, f.fail("read", iofs.ErrInvalid)
	}
	im := &f.node().cache
	n := int(max(0, min(int64(len(p)), im.size-off)))
	im.readAt(p[:n], off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	err := f.usable(true)
	if err == nil && off < 0 {
		err = iofs.ErrInvalid
	}
	if err != nil {
		return 0, f.fail("write", err)
	}
	if s.due() {
		s.forkWithin(f.ino, func(f *file) { _, _ = f.WriteAt(p, off) })
	}
	half, err := s.begin()
	if err != nil {
		return 0, f.fail("write", err)
	}
	k := len(p)
	if half {
		k = s.halfRandom().below(k + 1)
		err = ErrStopped
	}
	n := s.edit(f.ino)
	if room := s.roomLocked(n, off, k); room < k {
		k = room
		if !half {
			err = syscall.ENOSPC
		}
	}
	if s.onWrite != nil && k > 0 {
		s.onWrite(n.path, off, p[:k])
	}
	s.seq++
	n.write(s, p[:k], off)
	for _, m := range s.mappings[f.ino] {
		m.store(p[:k], off)
	}
	if err != nil {
		return 0, f.fail("write", err) // as os.File does: part is written, none reported
	}
	return len(p), nil
}

func (f *file) Truncate(size int64) error {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	err := f.usable(true)
	if err == nil && size < 0 {
		err = iofs.ErrInvalid
	}
	if err != nil {
		return f.fail("truncate", err)
	}
	half, err := s.begin()
	if err == nil && (!half || s.halfRandom().coin()) {
		s.seq++
		s.edit(f.ino).truncate(s, size)
		for _, m := range s.mappings[f.ino] {
			if size < int64(len(m.b)) {
				clear(m.b[size:])
			}
		}
	}
	if half {
		err = ErrStopped
	}
	if err != nil {
		return f.fail("truncate", err)
	}
	return nil
}

func (f *file) Preallocate(off, n int64) error {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	err := f.usable(true)
	if err == nil && (off < 0 || n <= 0 || off > f.node().cache.size-n) {
		err = iofs.ErrInvalid
	}
	if err != nil {
		return f.fail("preallocate", err)
	}
	half, err := s.begin()
	if err == nil && (!half || s.halfRandom().coin()) {
		node := s.edit(f.ino)
		if s.roomLocked(node, off, int(n)) < int(n) {
			err = syscall.ENOSPC // takes all or nothing
		} else {
			node.reserve(s.token, off, n)
		}
	}
	if half {
		err = ErrStopped
	}
	if err != nil {
		return f.fail("preallocate", err)
	}
	return nil
}

func (f *file) SyncData() error { return f.sync("sync data", false) }

func (f *file) Sync() error { return f.sync("sync", true) }

func (f *file) sync(op string, meta bool) error {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := f.usable(false); err != nil {
		return f.fail(op, err)
	}
	if s.due() {
		s.forkWithin(f.ino, func(f *file) { _ = f.sync(op, meta) })
	}
	half, err := s.begin()
	if err != nil {
		return f.fail(op, err)
	}
	if half {
		_ = s.syncFile(f.ino, meta, s.halfRandom().coin)
		return f.fail(op, ErrStopped)
	}
	before := f.node().errs
	err = s.syncFile(f.ino, meta, nil)
	n := f.node()
	late := err == nil && n.errs > before
	if f.seen < n.errs && !late {
		// Each open file hears of a failure once; afterwards all looks well.
		s.edit(f.ino).seen = true
		f.seen = n.errs
		return f.fail(op, errIO)
	}
	return nil
}

func (f *file) Size() (int64, error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if err := f.usable(false); err != nil {
		return 0, f.fail("size", err)
	}
	return f.node().cache.size, nil
}

func (f *file) NextData(off int64) (start, end int64, err error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	err = f.usable(false)
	if err == nil && off < 0 {
		err = iofs.ErrInvalid
	}
	if err != nil {
		return 0, 0, f.fail("next data", err)
	}
	start, end, ok := f.node().cache.nextData(off)
	if !ok {
		return 0, 0, io.EOF
	}
	return start, end, nil
}

func (f *file) Close() error {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.closed {
		return f.fail("close", iofs.ErrClosed)
	}
	f.closed = true
	s.open--
	if s.handles[f.ino]--; s.handles[f.ino] == 0 {
		delete(s.handles, f.ino)
	}
	if s.stopped {
		return f.fail("close", ErrStopped)
	}
	return nil
}

// mapping is a copy of the cache that every write is repeated in.
type mapping struct {
	f      *file
	b      []byte
	closed atomic.Bool
}

func (f *file) Map(n int64) (fs.Mapping, error) {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	err := f.usable(false)
	if err == nil && (n <= 0 || n > f.node().cache.size || int64(int(n)) != n) {
		err = iofs.ErrInvalid
	}
	if err != nil {
		return nil, f.fail("map", err)
	}
	if s.noMap {
		return nil, fs.ErrUnsupported
	}
	m := &mapping{f: f, b: make([]byte, n)}
	f.node().cache.readAt(m.b, 0)
	if s.mappings == nil {
		s.mappings = map[int][]*mapping{}
	}
	s.mappings[f.ino] = append(s.mappings[f.ino], m)
	return m, nil
}

func (m *mapping) store(p []byte, off int64) {
	if off < int64(len(m.b)) {
		copy(m.b[off:], p)
	}
}

func (m *mapping) Bytes() []byte { return m.b }

func (m *mapping) Populate(off, n int64) error {
	if off < 0 || n < 0 || off > int64(len(m.b))-n {
		return iofs.ErrInvalid
	}
	return nil
}

func (m *mapping) Close() error {
	s := m.f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.closed.Swap(true) {
		return nil
	}
	ms := s.mappings[m.f.ino]
	if i := slices.Index(ms, m); i >= 0 {
		s.mappings[m.f.ino] = slices.Delete(ms, i, i+1)
	}
	return nil
}
