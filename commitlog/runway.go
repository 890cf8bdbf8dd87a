package commitlog

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/internal/fs"
)

const (
	zeroChunk   = 256 << 10 // the least by which a runway is extended
	zeroRunway  = 4 << 20   // how far zeros reach ahead of the tail
	graspStep   = 1 << 20   // what an appender that has caught up reserves
	firstStep   = 4 << 20   // reservations of a log that is InCache
	largestStep = 64 << 20

	// paveStep is how far the pages behind an InCache append are made with it, and
	// one write of a runway's zeros. The kernel makes one page of what a write
	// covers and looks through all blocks of it when a record is written there, so
	// larger ones cost every small write more than they save.
	paveStep = 64 << 10
)

// runway is the part of a segment ahead of the tail that takes appends without
// the file system having to find room: written with zeros, or at least reserved.
// A write of zeros claims its range first.
//
// Invariant: no append reaches past ready, and zeros are written only at or
// behind ready; so zeros never overwrite a record.
type runway struct {
	ready atomic.Int64 // position up to which the room is there; moves under mu

	mu       sync.Mutex
	cond     sync.Cond
	claimed  bool // zeros are being written behind ready
	unsynced bool // zeros were written since the last sync of them
	step     int64
}

// zeros is what runways and cleared tails are made of.
var zeros [zeroChunk]byte

// start says that nothing is prepared behind position.
func (r *runway) start(position int64) {
	r.cond.L = &r.mu
	r.ready.Store(position)
}

// reach makes sure that the segment has room up to end, which is inside it. The
// appender that has caught up never waits for a sync of zeros, at most for one
// write of them.
func (l *Log) reach(h *handle, end int64) error {
	r := &h.seg.run
	if end <= r.ready.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.claimed {
		r.cond.Wait()
	}
	ready := r.ready.Load()
	if end <= ready {
		return nil
	}
	return l.reserve(h, end-ready, max(end-ready, graspStep))
}

// pave returns how many zeros a write that ends at end is to carry behind it. A
// record that begins a page makes the kernel find one, clear it and look up its
// block, for every 4 KiB anew; zeros up to the next boundary make all of them at
// once, as one large page. They stay inside the runway, so they need no room
// that a record does not. The write leader calls it.
func (l *Log) pave(seg *segment, end int64) (pad int64) {
	if l.o.OnDisk || end <= l.paved {
		return 0
	}
	boundary := seg.base + ((end-seg.base)/paveStep+1)*paveStep
	l.paved = max(end, min(boundary, seg.run.ready.Load()))
	return l.paved - end
}

// reserve extends the runway by want bytes, or at least by need. The caller
// holds the runway's mutex and nothing is claimed.
func (l *Log) reserve(h *handle, need, want int64) error {
	r := &h.seg.run
	ready := r.ready.Load()
	want = min(want, h.seg.end()-ready)
	if want <= 0 {
		return nil
	}
	err := h.file.Preallocate(ready-h.seg.base, want)
	if want > need && need > 0 && isFull(err) {
		want = need
		err = h.file.Preallocate(ready-h.seg.base, want)
	}
	if errors.Is(err, fs.ErrUnsupported) {
		// Nothing can be prepared here: writes find their room themselves.
		want, err = h.seg.end()-ready, nil
	}
	if err == nil {
		r.ready.Store(ready + want)
	}
	return err
}

// extend prepares the active segment ahead of the tail, and the next one when
// the tail comes near it. It runs in the background.
func (l *Log) extend() error {
	tail := l.appended.Load()
	seg := l.active.Load()
	if seg == nil {
		return nil
	}
	ahead := int64(zeroRunway)
	if !l.o.OnDisk {
		ahead = l.nextStep(seg)
	}
	if err := l.extendSegment(seg, min(tail+ahead, seg.end()), tail); err != nil {
		return err
	}
	if next := l.next.Load(); next != nil && next.base == seg.end() && tail+ahead > seg.end() {
		return l.extendSegment(next, min(tail+ahead, next.end()), next.base)
	}
	return nil
}

// nextStep is how far a reservation reaches: little for a log that gets little.
func (l *Log) nextStep(seg *segment) int64 {
	r := &seg.run
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.step == 0 {
		r.step = max(l.step.Load(), firstStep)
	}
	return r.step
}

func (l *Log) extendSegment(seg *segment, to, tail int64) error {
	r := &seg.run
	if to <= r.ready.Load() || (to < seg.end() && to-r.ready.Load() < zeroChunk) {
		return nil
	}
	h := seg.h.Load()
	if h == nil || !h.retain() {
		return nil // expired or closed meanwhile
	}
	defer h.release()
	if l.o.OnDisk {
		return l.writeZeros(h, to)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ready := r.ready.Load()
	if ready-tail > r.step/2 {
		return nil
	}
	if err := l.reserve(h, 0, to-ready+r.step/2); err != nil {
		return err
	}
	r.step = min(2*r.step, largestStep)
	l.step.Store(r.step)
	return nil
}

// writeZeros writes zeros up to to and syncs them, so that an fdatasync of a
// record there finds its blocks on disk already and carries data only.
func (l *Log) writeZeros(h *handle, to int64) error {
	r := &h.seg.run
	for {
		r.mu.Lock()
		from := r.ready.Load()
		n := min(to-from, paveStep)
		if n <= 0 {
			r.mu.Unlock()
			break
		}
		r.claimed = true
		r.mu.Unlock()

		_, err := h.file.WriteAt(zeros[:n], from-h.seg.base)

		r.mu.Lock()
		r.claimed = false
		if err == nil {
			r.ready.Store(from + n)
			r.unsynced = true
		}
		r.cond.Broadcast()
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	r.mu.Lock()
	unsynced := r.unsynced
	r.unsynced = false
	r.mu.Unlock()
	if !unsynced {
		return nil
	}
	if err := h.file.SyncData(); err != nil {
		// The pages that were dropped may hold records.
		return &syncError{err}
	}
	return nil
}

// syncError marks an error as that of a sync, which poisons even when it says
// that the disk is full: what the kernel could not write is gone.
type syncError struct{ err error }

func (e *syncError) Error() string { return e.err.Error() }
func (e *syncError) Unwrap() error { return e.err }
