package commitlog

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/plant"
)

// nameDigits is the length of a segment's name. On disk. Do not change.
const nameDigits = 20

// Segment describes one file of the log.
type Segment struct {
	Name string
	Base int64 // position of its first byte
	Size int64
}

// segment is one file. Its handle is opened when it is needed and may be closed
// again while the segment lives: a log of thousands of files has few open.
type segment struct {
	base, size int64
	name       string

	h  atomic.Pointer[handle]
	mu sync.Mutex // opening

	run runway
}

func newSegment(base, size int64) *segment {
	return &segment{base: base, size: size, name: segmentName(base)}
}

func (s *segment) end() int64    { return s.base + s.size }
func (s *segment) info() Segment { return Segment{Name: s.name, Base: s.base, Size: s.size} }

func segmentName(base int64) string {
	var b [nameDigits]byte
	for i := nameDigits - 1; i >= 0; i-- {
		b[i] = byte('0' + base%10)
		base /= 10
	}
	return string(b[:])
}

// parseName is the inverse of segmentName.
func parseName(name string) (int64, error) {
	if len(name) != nameDigits {
		return 0, errors.New("not a segment's name")
	}
	for i := range len(name) {
		if name[i] < '0' || name[i] > '9' {
			return 0, errors.New("not a segment's name")
		}
	}
	v, err := strconv.ParseUint(name, 10, 64)
	if err != nil || v > math.MaxInt64 {
		return 0, errors.New("not a segment's name")
	}
	return int64(v), nil
}

// handle is an open file. It stays open as long as somebody holds it, also when
// the segment has been expired meanwhile.
//
// The handle of a segment that is not wholly synced is never closed: the kernel
// reports a failed write-back only to descriptors that were open when it failed.
type handle struct {
	seg  *segment
	file fs.File
	refs atomic.Int64
	used atomic.Bool // since the eviction hand last passed

	mapMu  sync.Mutex
	mapped atomic.Pointer[view]
}

// view is a handle's mapping; b is nil where the platform has none.
type view struct {
	m fs.Mapping
	b []byte
}

// retain adds a hold unless the handle is closed already.
func (h *handle) retain() bool {
	for {
		n := h.refs.Load()
		if n <= 0 {
			return false
		}
		if h.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (h *handle) release() {
	if h.refs.Add(-1) != 0 {
		return
	}
	if v := h.mapped.Load(); v != nil && v.m != nil {
		_ = v.m.Close() // read-only: nothing can be lost
	}
	_ = h.file.Close() // nothing unsynced is ever behind a handle that closes
}

// bytes returns the whole segment as memory, or nil where it cannot be mapped.
func (h *handle) bytes() *view {
	if v := h.mapped.Load(); v != nil {
		return v
	}
	h.mapMu.Lock()
	defer h.mapMu.Unlock()
	if v := h.mapped.Load(); v != nil {
		return v
	}
	v := &view{}
	// Any failure means reading with ReadAt, which then tells what is wrong.
	if m, err := h.file.Map(h.seg.size); err == nil {
		v.m, v.b = m, m.Bytes()
	}
	h.mapped.Store(v)
	return v
}

// segments is the list of files, by position. Readers take the list as it is;
// changes replace it.
type segments struct {
	dir      fs.FS
	size     int64
	readOnly bool

	list atomic.Pointer[[]*segment]

	mu   sync.Mutex
	open []*handle // sealed handles, in the order they were opened
	hand int
}

// maxOpen bounds the sealed segments that are open at a time.
const maxOpen = 96

func (ss *segments) all() []*segment {
	if p := ss.list.Load(); p != nil {
		return *p
	}
	return nil
}

// add puts a new last segment into the list.
func (ss *segments) add(s *segment) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	old := ss.all()
	list := make([]*segment, len(old)+1)
	copy(list, old)
	list[len(old)] = s
	ss.list.Store(&list)
}

// dropFirst takes the first segment out of the list. Readers that hold it go on.
func (ss *segments) dropFirst() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	old := ss.all()
	s := old[0]
	list := append([]*segment(nil), old[1:]...)
	ss.list.Store(&list)
	ss.forgetLocked(s)
}

// forgetLocked gives up the list's own hold on the segment's handle.
func (ss *segments) forgetLocked(s *segment) {
	h := s.h.Swap(nil)
	for i := range ss.open {
		if ss.open[i] == h {
			ss.open = append(ss.open[:i], ss.open[i+1:]...)
			break
		}
	}
	if h != nil {
		h.release()
	}
}

// find returns the segment that holds position, or nil.
func (ss *segments) find(position int64) *segment {
	list := ss.all()
	if len(list) == 0 || position < list[0].base {
		return nil
	}
	i := (position - list[0].base) / ss.size
	if i >= int64(len(list)) {
		return nil
	}
	return list[i]
}

// acquire opens the segment if need be and holds it.
func (ss *segments) acquire(s *segment) (*handle, error) {
	if h := s.h.Load(); h != nil && h.retain() {
		if !h.used.Load() {
			h.used.Store(true)
		}
		return h, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.h.Load(); h != nil && h.retain() {
		return h, nil
	}
	var f fs.File
	var err error
	if ss.readOnly {
		f, err = openPadded(ss.dir, s.name, s.size)
	} else {
		f, err = ss.dir.Open(s.name, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("commitlog: open segment: %w", err)
	}
	h := &handle{seg: s, file: f}
	h.used.Store(true)
	h.refs.Store(2) // the list's and the caller's
	s.h.Store(h)
	ss.sealed(h)
	return h, nil
}

// sealed puts a handle among those that may be closed, and closes one that was
// not used lately when they are too many.
func (ss *segments) sealed(h *handle) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.open = append(ss.open, h)
	for n := 2 * len(ss.open); len(ss.open) > maxOpen && n > 0; n-- {
		ss.hand %= len(ss.open)
		victim := ss.open[ss.hand]
		if victim == h || victim.used.Swap(false) {
			ss.hand++
			continue
		}
		ss.open = append(ss.open[:ss.hand], ss.open[ss.hand+1:]...)
		if victim.seg.h.CompareAndSwap(victim, nil) {
			victim.release()
		}
	}
}

// pin opens the segment and takes its handle out of those that may be closed.
func (ss *segments) pin(s *segment) error {
	h, err := ss.acquire(s)
	if err != nil {
		return err
	}
	ss.mu.Lock()
	for i := range ss.open {
		if ss.open[i] == h {
			ss.open = append(ss.open[:i], ss.open[i+1:]...)
			break
		}
	}
	ss.mu.Unlock()
	h.release() // the list's own hold stays
	return nil
}

// closeAll gives up all handles; readers that hold one keep it until they are
// done.
func (ss *segments) closeAll() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, s := range ss.all() {
		if h := s.h.Swap(nil); h != nil {
			h.release()
		}
	}
	ss.open = nil
}

// create makes a segment of full length and makes length and name durable, so
// that from then on SyncData is enough for what is written into it.
func (ss *segments) create(base int64) (*segment, error) {
	s := newSegment(base, ss.size)
	f, err := ss.dir.Open(s.name, fs.Create|fs.Exclusive)
	if err != nil {
		return nil, fmt.Errorf("commitlog: create segment: %w", err)
	}
	err = f.Truncate(ss.size)
	if err == nil {
		err = f.Sync()
	}
	if err == nil && !(plant.Enabled && plant.Is(plant.LogNameUnsynced) && base > 0) {
		err = ss.dir.SyncDir(".")
	}
	if err != nil {
		// An empty file in the last place is what a crash here leaves too.
		err = errors.Join(err, f.Close(), ss.dir.Remove(s.name))
		return nil, fmt.Errorf("commitlog: create segment %s: %w", s.name, err)
	}
	h := &handle{seg: s, file: f}
	h.refs.Store(1)
	s.h.Store(h)
	return s, nil
}
