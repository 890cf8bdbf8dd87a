package index

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync/atomic"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// loadBuffer is how much of the active file is read at once: whole pieces, so
// that their checksum can be taken on the way.
const loadBuffer = 16 * pieceEntries * EntrySize

// restore reads the state file and lists the index files.
func (x *Index) restore() error {
	im, reason, err := x.readState()
	if err != nil {
		return err
	}
	if !x.o.ReadOnly {
		if err := x.fsys.MkdirAll("."); err != nil {
			return fmt.Errorf("index: make the folder: %w", err)
		}
	}
	names, err := x.listFiles()
	if err != nil {
		return err
	}
	if im != nil {
		if im, reason = x.match(im, names); im == nil && x.o.ReadOnly {
			// A live writer may have expired files between the two looks.
			if im, _, err = x.readState(); err != nil {
				return err
			}
			if names, err = x.listFiles(); err != nil {
				return err
			}
			if im != nil {
				im, reason = x.match(im, names)
			}
		}
	}
	for _, e := range names {
		n, _ := parseName(e.Name)
		x.number = max(x.number, n)
	}
	if im == nil {
		x.setSaved(message.Mark{}, false, reason)
		x.loaded.Store(true)
		return nil
	}
	if err := x.removeStrays(im, names); err != nil {
		return err
	}
	x.adopt(im)
	return nil
}

func (x *Index) readState() (im *image, reason string, err error) {
	b, err := fs.Read(x.state, stateName)
	if isNotExist(err) {
		return nil, "no saved state", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("index: read saved state: %w", err)
	}
	if im, err = decodeImage(b, x.g); err != nil {
		return nil, err.Error(), nil
	}
	return im, "", nil
}

// listFiles returns what is named like an index file.
func (x *Index) listFiles() ([]fs.Entry, error) {
	list, err := x.fsys.List(".")
	if err != nil && !isNotExist(err) {
		return nil, fmt.Errorf("index: list files: %w", err)
	}
	kept := list[:0]
	for _, e := range list {
		if _, ok := parseName(e.Name); ok && !e.Dir && !e.Link {
			kept = append(kept, e)
		}
	}
	return kept, nil
}

// match compares the state with the files. Beside a live writer the oldest ones
// may be gone: it has expired them.
func (x *Index) match(im *image, names []fs.Entry) (*image, string) {
	sizes := make(map[string]int64, len(names))
	for _, e := range names {
		sizes[e.Name] = e.Size
	}
	for i, r := range im.rows {
		name := formatName(r.number)
		size, ok := sizes[name]
		switch {
		case !ok && x.o.ReadOnly && !r.active && i == 0:
			return x.match(&image{mark: im.mark, rows: im.rows[1:]}, names)
		case !ok:
			return nil, "file " + name + " is missing"
		case size != x.g.size():
			return nil, fmt.Sprintf("file %s has %d bytes, not %d", name, size, x.g.size())
		}
	}
	return im, ""
}

// removeStrays removes files that the state does not name: a crash came between
// their making and the next save. The replay makes their entries again.
func (x *Index) removeStrays(im *image, names []fs.Entry) error {
	if x.o.ReadOnly {
		return nil
	}
	for _, e := range names {
		n, _ := parseName(e.Name)
		known := false
		for _, r := range im.rows {
			known = known || r.number == n
		}
		if known {
			continue
		}
		if err := x.fsys.Remove(e.Name); err != nil && !isNotExist(err) {
			return fmt.Errorf("index: remove stray file: %w", err)
		}
	}
	return nil
}

// adopt makes the files of a state the index.
func (x *Index) adopt(im *image) {
	list := make([]*file, 0, len(im.rows))
	x.loaded.Store(true)
	for i := range im.rows {
		r := &im.rows[i]
		f := bareFile(r.number, x.g)
		f.head, f.loose, f.crc = r.head, r.unorder, r.crc
		f.written, f.created = int64(r.head.Next), true
		f.entriesCRC, f.slotsCRC = r.entriesCRC, r.slotsCRC
		f.stored = !r.active
		f.publish()
		list = append(list, f)
		if r.active {
			x.active, x.toload = f, r
			x.loaded.Store(false)
		}
	}
	if !x.o.ReadOnly {
		x.last = im
	}
	x.setFiles(list)
	x.built.Store(im.mark.Offset)
	x.feed.applied = im.mark.Offset
	x.scanned = im.mark.Offset
	x.setSaved(im.mark, true, "")
}

// load brings the active file's slots into memory: as they were saved when the
// last close was clean and their checksum holds, else computed from the entries.
// Only the last piece of the entries is kept in memory, to be completed.
func (x *Index) load() error {
	f, r := x.active, x.toload
	slots := make([]uint32, f.g.slots)
	pieces := make([]atomic.Pointer[piece], f.g.pieces())
	ok, err := false, error(nil)
	if r.slotsInFile || plant.Enabled && plant.Is(plant.IndexTrustsSlots) {
		if ok, err = x.loadSlots(f, r, slots); err != nil {
			return err
		}
	}
	if !ok {
		clear(slots)
		if err := x.computeSlots(f, r, slots); err != nil {
			return err
		}
	}
	next := int64(r.head.Next)
	i := next / pieceEntries
	held := int64(0)
	if n := next - i*pieceEntries; n > 0 {
		p := &piece{b: make([]byte, f.g.pieceLen(i)*EntrySize)}
		if err := x.readAt(f, p.b[:n*EntrySize], f.g.entryAt(i*pieceEntries)); err != nil {
			return err
		}
		if sum := crc32.Update(r.crc, castagnoli, p.b[:n*EntrySize]); sum != r.entriesCRC {
			return x.corrupt(f, f.g.entryAt(i*pieceEntries), "entries do not match their checksum", nil)
		}
		pieces[i].Store(p)
		held = int64(len(p.b))
	}
	x.buildMu.Lock()
	defer x.buildMu.Unlock()
	x.pending += held
	f.pieces = pieces
	f.slots.Store(&slots)
	f.sound.Store(true)
	x.toload = nil
	x.loaded.Store(true)
	return nil
}

// loadSlots reads the slot table; ok is false when it is not what was saved.
func (x *Index) loadSlots(f *file, r *row, slots []uint32) (ok bool, err error) {
	crc, err := x.readSlots(f, func(s int64, v uint32) {
		slots[s] = v
		// A slot that leads nowhere fails the checksum; it must not lead outside.
		if int64(v) >= f.g.entries {
			slots[s] = 0
		}
	})
	if err != nil {
		return false, err
	}
	return crc == r.slotsCRC || plant.Enabled && plant.Is(plant.IndexTrustsSlots), nil
}

// readSlots reads the slot table of a file sequentially and returns its checksum.
func (x *Index) readSlots(f *file, each func(s int64, v uint32)) (crc uint32, err error) {
	buf := make([]byte, min(256<<10, f.g.slots*slotSize))
	for s := int64(0); s < f.g.slots; {
		if x.ctx.Err() != nil {
			return 0, errStopped
		}
		b := buf[:min(int64(len(buf)), (f.g.slots-s)*slotSize)]
		if err := x.readAt(f, b, f.g.slotAt(s)); err != nil {
			return 0, err
		}
		crc = crc32.Update(crc, castagnoli, b)
		if each != nil {
			for i := 0; i < len(b); i += slotSize {
				each(s+int64(i/slotSize), binary.BigEndian.Uint32(b[i:]))
			}
		}
		s += int64(len(b) / slotSize)
	}
	return crc, nil
}

// computeSlots reads the entries in order and lays the chains as put did.
func (x *Index) computeSlots(f *file, r *row, slots []uint32) error {
	last := int64(-1)
	sum, err := x.eachEntry(f, int64(r.head.Next), func(k int64, e Entry) error {
		if reason := follows(f.g, slots, k, e, last); reason != "" {
			return x.corrupt(f, f.g.entryAt(k), reason, nil)
		}
		last = e.Position
		slots[f.g.slotOf(e.Hash)] = uint32(k)
		return nil
	})
	if err == nil && sum != r.entriesCRC {
		err = x.corrupt(f, f.g.entryAt(0), "entries do not match their checksum", nil)
	}
	return err
}

// follows says what is wrong with entry k, given the chains of those before it.
func follows(g geometry, slots []uint32, k int64, e Entry, last int64) string {
	switch {
	case e.Hash < 0:
		return "entry has a negative hash"
	case e.Position < last:
		return "entries are out of order"
	case e.Prev < 0 || int64(e.Prev) >= k || uint32(e.Prev) != slots[g.slotOf(e.Hash)]:
		return "entry does not go on with its chain"
	}
	return ""
}

// eachEntry reads the entries [1, next) sequentially and returns the checksum of
// all of them with the empty one.
func (x *Index) eachEntry(f *file, next int64, each func(k int64, e Entry) error) (crc uint32, err error) {
	buf := make([]byte, min(loadBuffer, next*EntrySize))
	for k := int64(0); k < next; {
		if x.ctx.Err() != nil {
			return 0, errStopped
		}
		b := buf[:min(int64(len(buf)), (next-k)*EntrySize)]
		if err := x.readAt(f, b, f.g.entryAt(k)); err != nil {
			return 0, err
		}
		crc = crc32.Update(crc, castagnoli, b)
		for ; len(b) > 0; b, k = b[EntrySize:], k+1 {
			if k == 0 {
				continue
			}
			if err := each(k, DecodeEntry(b)); err != nil {
				return 0, err
			}
		}
	}
	return crc, nil
}
