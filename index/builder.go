package index

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

const (
	// retryEvery is how soon a failed write or scan is tried again.
	retryEvery = 500 * time.Millisecond
	// stalledEvery is how soon the builder looks again whether the log is synced
	// when it has no memory left.
	stalledEvery = 20 * time.Millisecond
	// scanMark is how much of the log a scan reads between two marks.
	scanMark = 4 << 20
)

// errStalled ends a scan when PendingBytes are used up; errStopped when the index
// closes or is damaged.
var (
	errStalled = errors.New("index: entries wait for the log to sync")
	errStopped = errors.New("index: stopped")
)

// run is the builder. It sleeps until a chunk is full, somebody asks, or a retry
// is due; an idle store never wakes it.
func (x *Index) run() {
	defer x.wg.Done()
	for {
		x.mend()
		did, retry := x.round()
		if x.Damaged() != nil && x.mends() {
			retry = retryEvery
		}
		if did && retry == 0 {
			continue
		}
		if !x.sleepy(retry) {
			continue
		}
		var timer <-chan time.Time
		stop := func() {}
		if retry > 0 {
			timer, stop = x.o.Clock.After(retry)
		}
		select {
		case <-x.wake:
		case <-timer:
		case <-x.ctx.Done():
			stop()
			return
		}
		stop()
	}
}

// sleepy lets the builder sleep unless a full chunk or a gap has come meanwhile.
// What stands in a chunk that is being filled can wait: who wants to find it
// wakes the builder.
func (x *Index) sleepy(retry time.Duration) bool {
	f := &x.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if retry == 0 && (f.gap || len(f.chunks) > 1) && x.Damaged() == nil && x.ctx.Err() == nil {
		return false
	}
	f.idle = true
	return true
}

// Step runs one round of the builder in the caller's goroutine and reports
// whether it did something. It is for Options.Manual.
func (x *Index) Step() bool {
	if x.closed.Load() {
		return false
	}
	mended := x.mend()
	did, _ := x.round()
	return did || mended
}

// round loads the active file, then builds all that was applied when it began
// and writes what may be written.
func (x *Index) round() (did bool, retry time.Duration) {
	x.roundMu.Lock()
	defer x.roundMu.Unlock()
	defer x.steps.broadcast()
	if !x.loaded.Load() {
		if err := x.load(); err != nil {
			var c *message.CorruptError
			if errors.As(err, &c) {
				x.markDamaged(err)
				return true, 0
			}
			return false, x.failed(err)
		}
		did = true
	}
	for x.ctx.Err() == nil && x.Damaged() == nil {
		more, err := x.next()
		did = did || more
		if err != nil {
			return did, x.failed(err)
		}
		if !more {
			break
		}
		if err := x.flush(); err != nil {
			x.note(err)
		}
		x.steps.broadcast()
	}
	err := x.flush()
	x.note(err)
	if err != nil && x.Damaged() == nil {
		retry = retryEvery
	}
	return did, retry
}

// failed notes why the builder stopped and says when to go on.
func (x *Index) failed(err error) time.Duration {
	switch {
	case errors.Is(err, errStopped):
		return 0
	case errors.Is(err, errStalled):
		return stalledEvery
	}
	x.halted(err)
	return retryEvery
}

// next builds one chunk or one gap. It reports whether there was one.
func (x *Index) next() (bool, error) {
	f := &x.feed
	c := x.todo
	if c == nil {
		var gapEnd, applied int64
		if c, gapEnd, applied = f.take(); gapEnd >= 0 {
			return true, x.fill(gapEnd)
		}
		if c == nil {
			did := x.built.Load() < applied
			if did {
				x.built.Store(applied)
			}
			return did, nil
		}
	}
	x.todo = c
	if err := x.build(c); err != nil {
		return false, err
	}
	x.todo = nil
	f.mu.Lock()
	f.recycleLocked(c)
	f.mu.Unlock()
	return true, nil
}

// build adds a chunk's items to the active file. errStalled leaves it undone.
func (x *Index) build(c *chunk) error {
	x.buildMu.Lock()
	defer x.buildMu.Unlock()
	if x.pending > x.o.PendingBytes && !x.o.ReadOnly {
		if err := x.flushLocked(); err != nil {
			return err
		}
		if x.pending > x.o.PendingBytes {
			return errStalled
		}
	}
	for i := range c.items {
		if x.active == nil || x.active.full() {
			x.roll()
		}
		x.pending += x.active.put(&c.items[i])
	}
	if x.active != nil {
		x.active.publish()
	}
	x.stats.entries.Add(int64(len(c.items)))
	x.built.Store(max(x.built.Load(), c.end))
	if c.marked {
		x.addPoint(c.mark, c.epoch)
	}
	return nil
}

// roll begins the next file, in memory only. Only its name is decided: the file
// itself is made with its first write.
func (x *Index) roll() {
	list := *x.files.Load()
	var prev Header
	if n := len(list); n > 0 {
		prev = list[n-1].head
		list[n-1].publish()
	}
	if x.active != nil && !x.active.stored {
		x.pending += x.g.slots * 4
	}
	x.number = nextName(x.o.Clock.Now(), x.o.Location, x.number)
	x.active = newFile(x.number, x.g, prev)
	x.setFiles(append(list[:len(list):len(list)], x.active))
}

// fill builds [built, to) from the log.
func (x *Index) fill(to int64) error {
	from := x.built.Load()
	x.stats.scans.Add(1)
	s := scan{x: x, c: &chunk{items: make([]item, 0, chunkItems), end: from}}
	var end int64
	var err error
	if from < to {
		if end, err = x.o.Scan(from, to, s.record); err == nil && end < to {
			err = fmt.Errorf("index: the log ended at %d before %d", end, to)
		}
		if err == nil {
			s.c.end = to
		}
		if !errors.Is(err, errStalled) {
			err = errors.Join(err, s.pass(nil))
		}
	}
	f := &x.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.filling = false
	if err != nil && !f.gap {
		f.gap, f.gapEnd = true, to
	}
	return err
}

// scan collects the items of records that are read from the log.
type scan struct {
	x *Index
	c *chunk
}

func (s *scan) record(r *message.Record) error {
	x := s.x
	position := r.Position()
	if position < s.c.end {
		return nil
	}
	it := item{size: int32(r.Size()), position: position, stored: r.StoredAtMillis()}
	x.keys(r, func(hash int32) {
		it.hash = hash
		s.c.items = append(s.c.items, it)
	})
	s.c.end = position + int64(r.Size())
	if len(s.c.items) < chunkItems && s.c.end-x.scanned < scanMark {
		return nil
	}
	return s.pass(r)
}

// pass builds what was collected; r is the last record of it, if there is one to
// take a mark of.
func (s *scan) pass(r *message.Record) error {
	x := s.x
	if x.ctx.Err() != nil || x.Damaged() != nil {
		return errStopped
	}
	if s.c.marked = r != nil && s.c.end-x.scanned >= scanMark; s.c.marked {
		s.c.mark = message.Mark{Offset: s.c.end, Fingerprint: r.Fingerprint()}
		x.scanned = s.c.end
	}
	if err := x.build(s.c); err != nil {
		return err
	}
	*s.c = chunk{items: s.c.items[:0], end: s.c.end}
	if r != nil {
		if err := x.flush(); err != nil {
			x.note(err)
		}
	}
	return nil
}

// flush writes what the log has synced.
func (x *Index) flush() error {
	x.buildMu.Lock()
	defer x.buildMu.Unlock()
	return x.flushLocked()
}

// flushLocked writes the pieces that are complete and synced, and the slots and
// headers of the files that are full and synced as a whole.
func (x *Index) flushLocked() error {
	if x.o.ReadOnly {
		return nil
	}
	synced := x.o.Synced()
	if plant.Enabled && plant.Is(plant.IndexAheadOfLog) {
		synced = math.MaxInt64
	}
	list := *x.files.Load()
	first := len(list)
	for first > 0 && !list[first-1].stored {
		first--
	}
	for _, f := range list[first:] {
		if f.pieces == nil {
			return nil // not loaded yet
		}
		to := x.writable(f, synced)
		if to > f.written {
			if err := x.writeEntries(f, to); err != nil {
				return err
			}
		}
		if to < int64(f.head.Next) || !f.full() {
			return nil
		}
		if err := x.store(f); err != nil {
			return err
		}
	}
	return nil
}

// writable is the number behind the last entry that may be written now: all of
// a piece at once, when the piece is complete and its last record is synced.
func (x *Index) writable(f *file, synced int64) int64 {
	to, next := f.written, int64(f.head.Next)
	for to < next {
		i := to / pieceEntries
		end := i*pieceEntries + f.g.pieceLen(i)
		p := f.pieces[i].Load()
		if end > next || p == nil || p.end > synced {
			break
		}
		to = end
	}
	return to
}

// writeEntries writes the entries from written up to to, and takes the pieces
// that are complete in the file out of memory.
//
// A write that fails leaves bytes nobody knows behind written; they mean nothing
// and the next try writes them again.
func (x *Index) writeEntries(f *file, to int64) error {
	for f.written < to {
		i := f.written / pieceEntries
		base := i * pieceEntries
		hi := min(to, base+f.g.pieceLen(i))
		b := f.pieces[i].Load().b[(f.written-base)*EntrySize : (hi-base)*EntrySize]
		if err := x.write(f, b, f.g.entryAt(f.written)); err != nil {
			return err
		}
		f.written = hi
		if hi == base+pieceEntries {
			x.pending -= f.release(i)
		}
	}
	return nil
}

func (x *Index) write(f *file, b []byte, off int64) error {
	get := x.handles.acquire
	if !f.created {
		get = x.handles.create
	}
	h, err := get(f)
	if err != nil {
		if f.created && isNotExist(err) {
			x.markDamaged(x.corrupt(f, 0, "file is missing", err))
		}
		return err
	}
	defer x.handles.release(f)
	if !f.created {
		f.created, f.fresh = true, true
	}
	f.dirty = true
	if _, err := h.WriteAt(b, off); err != nil {
		return fmt.Errorf("index: write %s: %w", f.name, err)
	}
	return nil
}

// store writes slots and header of a full file whose entries are all in it, and
// takes everything of it out of memory.
func (x *Index) store(f *file) error {
	f.entriesCRC = f.sum()
	if err := x.writeSlots(f); err != nil {
		return err
	}
	f.stored = true
	f.slots.Store(nil)
	for i := range f.pieces {
		x.pending -= f.release(int64(i))
	}
	if f != x.active {
		x.pending -= f.g.slots * 4
	}
	f.publish()
	return nil
}

// writeSlots writes the slots, then the header.
func (x *Index) writeSlots(f *file) error {
	crc, err := eachSlotBlock(*f.slots.Load(), func(b []byte, s int64) error {
		return x.write(f, b, f.g.slotAt(s))
	})
	if err != nil {
		return err
	}
	f.slotsCRC = crc
	var b [HeaderSize]byte
	f.head.Encode(b[:])
	return x.write(f, b[:], 0)
}
