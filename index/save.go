package index

import (
	"errors"
	"fmt"
	"slices"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

const keptPoints = 8

// point is a state of the index that could be saved: all entries of records
// below mark.Offset and no others.
type point struct {
	mark   message.Mark
	epoch  uint64  // of the freeze it belongs to; 0 for a point of a scan
	files  []*file // those in front of active
	active *file   // nil when there was none
	row    row     // active as it was
}

// addPoint takes the present state; the caller holds buildMu.
func (x *Index) addPoint(m message.Mark, epoch uint64) {
	p := point{mark: m, epoch: epoch}
	if f := x.active; f != nil {
		list := *x.files.Load()
		p.files, p.active = list[:len(list)-1], f
		p.row = row{number: f.number, head: f.head, entriesCRC: f.sum(), crc: f.crc, active: true, unorder: f.loose}
	} else {
		p.files = *x.files.Load()
	}
	if len(x.points) == keptPoints {
		x.points = slices.Delete(x.points, 0, 1)
	}
	x.points = append(x.points, p)
}

// Freeze ends the feed's chunk: everything up to m has been applied and nothing
// beyond. It takes nanoseconds. save runs later, off the dispatcher's lock, when
// the log is synced up to m: it waits until the builder has come to m, unless
// the builder reads the log and may be long, makes the files durable and replaces
// the file "index". What was saved is what Saved says then; it may be less than m
// or nothing new. When save fails the state of the save before is still good.
func (x *Index) Freeze(m message.Mark) (save func() error) {
	if x.o.ReadOnly {
		return func() error { return message.ErrReadOnly }
	}
	f := &x.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.epoch++
	epoch := f.epoch
	f.applied = max(f.applied, m.Offset)
	n := len(f.chunks)
	if n == 0 || f.chunks[n-1].epoch != 0 {
		f.chunks = append(f.chunks, f.newLocked())
		n++
	}
	c := f.chunks[n-1]
	c.epoch, c.mark, c.marked, c.end = epoch, m, true, f.applied
	return func() error { return x.save(epoch, m) }
}

func (x *Index) save(epoch uint64, m message.Mark) error {
	err := x.await(x.ctx, func() bool { return x.passed(epoch) })
	if err != nil && !errors.Is(err, message.ErrBusy) {
		return err
	}
	x.saveMu.Lock()
	defer x.saveMu.Unlock()
	p, ok := x.pointAt(m)
	if !ok {
		return nil
	}
	im, dirty, err := x.writePoint(p)
	if err == nil {
		err = x.makeDurable(dirty)
	}
	if err == nil {
		err = x.writeImage(im)
	}
	if err != nil {
		return fmt.Errorf("index: save: %w", err)
	}
	x.stats.saves.Add(1)
	return nil
}

// passed reports that the builder has come to a freeze, or that it is not going
// to soon.
func (x *Index) passed(epoch uint64) bool {
	if !x.loaded.Load() {
		return !x.o.Manual
	}
	x.buildMu.Lock()
	n := len(x.points)
	done := n > 0 && x.points[n-1].epoch >= epoch
	for i := 0; i < n && !done; i++ {
		done = x.points[i].epoch >= epoch
	}
	x.buildMu.Unlock()
	if done || x.o.Manual {
		return done
	}
	// A freeze that was dropped with the feed never comes; one that waits behind
	// a gap comes late.
	f := &x.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gap || f.filling
}

// pointAt returns the newest point up to m, if it is newer than what is saved.
func (x *Index) pointAt(m message.Mark) (point, bool) {
	x.buildMu.Lock()
	defer x.buildMu.Unlock()
	for i := len(x.points) - 1; i >= 0; i-- {
		p := x.points[i]
		if p.mark.Offset > m.Offset {
			continue
		}
		return p, x.last == nil || x.last.mark != p.mark
	}
	return point{}, false
}

// writePoint brings everything that the point needs into the files. All of it
// names records below the point's mark, which the log has synced.
func (x *Index) writePoint(p point) (*image, []*file, error) {
	x.buildMu.Lock()
	defer x.buildMu.Unlock()
	im := &image{mark: p.mark}
	var dirty []*file
	for _, f := range p.files {
		if f.expired {
			continue
		}
		if !f.stored {
			if err := x.writeEntries(f, int64(f.head.Next)); err != nil {
				return nil, nil, err
			}
			if err := x.store(f); err != nil {
				return nil, nil, err
			}
		}
		im.rows = append(im.rows, row{
			number: f.number, head: f.head, entriesCRC: f.entriesCRC, crc: f.crc, slotsCRC: f.slotsCRC,
			slotsInFile: true, unorder: f.loose,
		})
		dirty = append(dirty, f)
	}
	if f := p.active; f != nil && !f.expired {
		if err := x.writeEntries(f, max(f.written, int64(p.row.head.Next))); err != nil {
			return nil, nil, err
		}
		im.rows = append(im.rows, p.row)
		dirty = append(dirty, f)
	}
	// Only now, when the caller is going to sync them: had a write failed, a file
	// that is taken for clean would never be synced. What is written while the sync
	// runs makes it dirty again.
	dirty = slices.DeleteFunc(dirty, func(f *file) bool { return !f.dirty })
	for _, f := range dirty {
		f.dirty = false
	}
	return im, dirty, nil
}

// makeDurable syncs files and, for new ones, their names. A sync that failed
// proves nothing when it is repeated, so the index is damaged then.
func (x *Index) makeDurable(dirty []*file) error {
	if plant.Enabled && plant.Is(plant.IndexSaveWithoutSync) {
		return nil
	}
	names := false
	for _, f := range dirty {
		h, err := x.handles.acquire(f)
		if err == nil {
			err = h.Sync()
			x.handles.release(f)
		}
		if err != nil && !errors.Is(err, errGone) {
			x.markDamaged(x.corrupt(f, 0, "sync failed", err))
			return err
		}
		names = names || f.fresh
	}
	if !names {
		return nil
	}
	if err := x.fsys.SyncDir("."); err != nil {
		x.markDamaged(fmt.Errorf("index: sync the folder: %w", err))
		return err
	}
	x.buildMu.Lock()
	for _, f := range dirty {
		f.fresh = false
	}
	x.buildMu.Unlock()
	return nil
}

// writeImage replaces the state file; the caller holds saveMu.
func (x *Index) writeImage(im *image) error {
	if err := fs.WriteFile(x.state, stateName, im.encode(x.g)); err != nil {
		return err
	}
	x.last = im
	x.setSaved(im.mark, true, "")
	return nil
}

// Close stops the builder and closes the files. When the last save covers
// everything that was built, slots and header of the active file are written too,
// so that RocketMQ and the next Open read them; otherwise the next Open computes
// the slots. Freeze and save come before it. It may be called more than once.
func (x *Index) Close() error {
	if x.closed.Swap(true) {
		return nil
	}
	x.cancel()
	x.steps.broadcast()
	x.wg.Wait()
	var err error
	if !x.o.ReadOnly {
		if err = x.seal(); err != nil {
			err = fmt.Errorf("index: close: %w", err)
		}
	}
	x.handles.closeAll()
	return err
}

// Abandon stops the builder, closes the files and writes nothing: the next open
// has what was saved last. It may be called more than once.
func (x *Index) Abandon() error {
	if x.closed.Swap(true) {
		return nil
	}
	x.cancel()
	x.wg.Wait()
	x.handles.closeAll()
	return nil
}

// seal writes the active file's slots and header and saves that they are there.
func (x *Index) seal() error {
	x.saveMu.Lock()
	defer x.saveMu.Unlock()
	x.roundMu.Lock()
	defer x.roundMu.Unlock()
	f := x.active
	if f == nil || x.last == nil || !x.loaded.Load() || x.Damaged() != nil || len(x.last.rows) == 0 {
		return nil
	}
	r := x.last.rows[len(x.last.rows)-1]
	if r.number != f.number || r.head.Next != f.head.Next || r.slotsInFile {
		return nil
	}
	x.buildMu.Lock()
	defer x.buildMu.Unlock()
	if !f.stored {
		if err := x.writeSlots(f); err != nil {
			return err
		}
	}
	if err := x.makeDurableLocked(f); err != nil {
		return err
	}
	im := &image{mark: x.last.mark, rows: slices.Clone(x.last.rows)}
	last := &im.rows[len(im.rows)-1]
	last.slotsInFile, last.slotsCRC = true, f.slotsCRC
	return x.writeImage(im)
}

func (x *Index) makeDurableLocked(f *file) error {
	if !f.dirty {
		return nil
	}
	f.dirty = false
	h, err := x.handles.acquire(f)
	if err != nil {
		return err
	}
	defer x.handles.release(f)
	return h.Sync()
}
