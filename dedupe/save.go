package dedupe

import (
	"context"
	"errors"
	"fmt"

	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// row is a row of entries on disk.
type row struct {
	first int64  // position of its first entry, which is its key
	end   uint64 // sequence number behind its last entry
}

// frozen is what one save writes.
type frozen struct {
	entries  ring // [head, tail) is what is new; the chunks are shared
	mark     message.Mark
	was      message.Mark // of the save before
	keepFrom int64        // rows below have no entry in the window any more
	kept     int          // how many rows those are
}

// Freeze takes what came up to m and returns the function that saves it. One save
// runs at a time. A freeze whose save failed, or never ran, is part of the next one.
func (w *Window) Freeze(m message.Mark) func() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.restoreLocked()
	r := &w.mu.ring
	from := max(w.mu.unsaved, r.head)
	f := &frozen{mark: m, was: w.mu.saved, keepFrom: w.mu.saved.Offset}
	f.entries = ring{head: from, tail: r.tail}
	if from < r.tail {
		f.entries.chunks = append(f.entries.chunks, r.chunks[from/chunkLen-r.head/chunkLen:]...)
	}
	for f.kept < len(w.mu.rows) && w.mu.rows[f.kept].end <= r.head {
		f.kept++
	}
	if f.kept < len(w.mu.rows) {
		f.keepFrom = w.mu.rows[f.kept].first
	}
	w.mu.unsaved = r.tail
	w.mu.frozen = f
	return func() error { return w.save(f) }
}

// restoreLocked takes back a freeze that is not on disk. Parts of it may be.
func (w *Window) restoreLocked() {
	if f := w.mu.frozen; f != nil {
		w.mu.unsaved = f.entries.head
	}
	w.mu.frozen = nil
}

var errSuperseded = errors.New("dedupe: save: a later freeze has taken this one back")

// save writes a freeze in one batch or, if it is large, in several, of which the
// last has the mark.
func (w *Window) save(f *frozen) error {
	w.saving.Lock()
	defer w.saving.Unlock()
	w.mu.Lock()
	current := w.mu.frozen == f
	w.mu.Unlock()
	if !current {
		return errSuperseded
	}
	rows, err := w.write(f)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.frozen != f {
		return errors.Join(errSuperseded, err)
	}
	if err != nil {
		w.restoreLocked()
		return fmt.Errorf("dedupe: save: %w", err)
	}
	w.mu.frozen = nil
	w.mu.saved, w.mu.isNew = f.mark, false
	w.mu.rows = append(w.mu.rows[f.kept:], rows...)
	return nil
}

func (w *Window) write(f *frozen) (rows []row, err error) {
	b := new(kv.Batch)
	// What lies behind the last mark is of a save that did not come to its end.
	b.DeleteRange(rowKey(f.was.Offset), prefixEnd(prefixRows))
	b.DeleteRange([]byte(prefixRows), rowKey(f.keepFrom))
	for at := f.entries.head; at < f.entries.tail; {
		if plant.Enabled && plant.Is(plant.DedupeSavesMarkOnly) {
			break
		}
		end := min(at+rowLen, f.entries.tail)
		first := f.entries.at(at).position
		v := []byte{rowVersion}
		for ; at < end; at++ {
			v = appendEntry(v, *f.entries.at(at))
		}
		b.Set(rowKey(first), v)
		rows = append(rows, row{first, end})
		if b.Size() >= w.o.saveBytes {
			if err := w.db.Apply(context.Background(), b, false); err != nil {
				return nil, err
			}
			b.Reset()
		}
	}
	b.Set([]byte(keyMark), appendMark(f.mark))
	return rows, w.db.Apply(context.Background(), b, true)
}

// Reset forgets everything, on disk too. A replay from the log's start follows.
func (w *Window) Reset() error {
	w.saving.Lock()
	defer w.saving.Unlock()
	b := new(kv.Batch)
	b.DeleteRange([]byte(prefixAll), prefixEnd(prefixAll))
	if err := w.db.Apply(context.Background(), b, true); err != nil {
		return fmt.Errorf("dedupe: reset: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clearLocked()
	return nil
}

// load reads what was saved, up to the mark. State that cannot be read is no
// state: the view is then rebuilt.
func (w *Window) load() error {
	var bad error
	found := false
	var mark message.Mark
	for r, err := range w.db.Scan([]byte(keyMark), []byte(keyMark+"\x00")) {
		if err != nil {
			return fmt.Errorf("dedupe: load: %w", err)
		}
		found = true
		mark, bad = parseMark(r.Value)
	}
	if found && bad == nil {
		last := int64(-1)
		for r, err := range w.db.Scan([]byte(prefixRows), rowKey(mark.Offset)) {
			if err != nil {
				return fmt.Errorf("dedupe: load: %w", err)
			}
			if last, bad = w.loadRow(r.Key, r.Value, last, mark.Offset); bad != nil {
				break
			}
		}
	}
	if bad != nil {
		w.o.Logger.Error("saved keys cannot be read; they are rebuilt", "error", bad)
	}
	if bad != nil || !found {
		w.clearLocked()
		return nil
	}
	w.mu.saved, w.mu.isNew, w.mu.unsaved = mark, false, w.mu.ring.tail
	return nil
}

func (w *Window) loadRow(k, v []byte, last, mark int64) (int64, error) {
	first, err := parseRow(k, v)
	if err != nil {
		return last, err
	}
	for at := 1; at < len(v); at += entrySize {
		e := parseEntry(v[at:])
		if e.position <= last || e.position >= mark || at == 1 && e.position != first {
			return last, damage(k, "entries out of order")
		}
		last = e.position
		w.pushLocked(e)
	}
	w.mu.rows = append(w.mu.rows, row{first, w.mu.ring.tail})
	return last, nil
}
