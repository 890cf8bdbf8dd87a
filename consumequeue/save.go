package consumequeue

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

const (
	imageName = "queues"
	noImage   = "no saved image"
	imageTemp = "queues.tmp"

	// fewDirty is the number of queues up to which files are synced one by one.
	// Beyond it one sync of the whole file system is cheaper.
	fewDirty = 16
)

// trim is a queue whose files below base to may go once the image is durable.
type trim struct {
	q  *Queue
	to int64
}

func (s *Queues) save(epoch uint64, m message.Mark) error {
	s.saveMu.Lock()
	defer s.saveMu.Unlock()
	if s.pending.Load() != epoch {
		return ErrAbandoned
	}
	trims, err := s.writeImage(epoch, m)
	s.pending.CompareAndSwap(epoch, 0)
	s.ready.signal() // the log is synced up to m: tails that waited may go
	if err != nil {
		return err
	}
	s.setSaved(m, true, "")
	s.stats.saves.Add(1)
	for _, t := range trims {
		s.trim(t)
	}
	return nil
}

// writeImage makes the image durable. The order is what counts: the image is
// taken, then every queue file it may rely on is synced, then the image, then
// its name. A power cut in between leaves the image of the save before, whose
// files are all there still.
func (s *Queues) writeImage(epoch uint64, m message.Mark) (trims []trim, err error) {
	if err := s.state.Remove(imageTemp); err != nil && !isNotExist(err) {
		return nil, fmt.Errorf("consumequeue: save: %w", err)
	}
	f, err := s.state.Open(imageTemp, fs.Create)
	if err != nil {
		return nil, fmt.Errorf("consumequeue: save: %w", err)
	}
	w := newImageWriter(f, s.o.FileSize, m)
	for _, q := range s.All() {
		im, ok := s.imageOf(q, epoch)
		if !ok {
			err = ErrAbandoned
			break
		}
		if im == nil {
			continue
		}
		w.row(q.name, im)
		if lo := s.keepFrom(im); im.firstFile >= 0 && im.firstFile < lo {
			trims = append(trims, trim{q, lo})
		}
		s.discard(im)
	}
	if err == nil {
		_, err = w.finish()
	}
	if plant.Enabled && plant.Is(plant.QueueRemovesEarly) {
		for _, t := range trims {
			s.trim(t)
		}
	}
	if err == nil && !(plant.Enabled && plant.Is(plant.QueueSaveWithoutSync)) {
		err = s.syncFiles()
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = s.state.Rename(imageTemp, imageName)
	}
	if err == nil {
		err = s.state.SyncDir(".")
	}
	if err != nil {
		return nil, fmt.Errorf("consumequeue: save: %w", err)
	}
	return trims, nil
}

// keepFrom is the base of the oldest file that the image needs: the one with its
// start, or the last one.
func (s *Queues) keepFrom(im *image) int64 {
	first := min(im.start, max(im.fileEnd-1, 0)) * EntrySize
	return first - first%s.o.FileSize
}

// trim removes the queue's files below t.to, which no image needs any more. What
// fails is tried again after the next save.
func (s *Queues) trim(t trim) {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	t.q.mu.Lock()
	from, skip := t.q.firstFile, t.q.flags&(flagDead|flagDamaged) != 0
	t.q.mu.Unlock()
	if skip || from < 0 {
		return
	}
	s.files.drop(t.q, 0, t.to)
	s.expireSums(t.q, t.to)
	for base := from; base < t.to; base += s.o.FileSize {
		err := s.fsys.Remove(dirName(t.q.name) + "/" + fileName(base))
		if err != nil && !isNotExist(err) {
			s.note(fmt.Errorf("consumequeue: remove expired file of queue %s: %w", t.q.name, err))
			return
		}
		t.q.mu.Lock()
		t.q.firstFile = base + s.o.FileSize
		t.q.mu.Unlock()
	}
}

// dirtyFiles is what one queue may have that is not durable.
type dirtyFiles struct {
	q          *Queue
	from, last int64 // byte offsets of entries in the first and the last file
	end        int64 // byte offset behind the last entry in files
	built      uint32
	newName    bool
}

// syncFiles makes all queue files durable that were written before it was
// called. After a failure nobody knows what is on disk, whatever a second sync
// says, so every queue it was about is damaged. The caller holds saveMu.
func (s *Queues) syncFiles() error {
	dirty := s.takeDirty()
	if len(dirty) == 0 {
		return nil
	}
	err := fs.ErrUnsupported
	if len(dirty) > fewDirty && !s.noSyncFS {
		err = s.fsys.SyncFS()
		s.noSyncFS = err != nil
	}
	if errors.Is(err, fs.ErrUnsupported) {
		err = s.syncEach(dirty)
	}
	if err == nil {
		s.seal(dirty)
		return nil
	}
	for _, d := range dirty {
		d.q.markDamaged(d.from-d.from%s.o.FileSize, 0, "sync failed", err)
	}
	return fmt.Errorf("consumequeue: sync queue files: %w", err)
}

func (s *Queues) takeDirty() []dirtyFiles {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	dirty := make([]dirtyFiles, 0, len(s.dirty))
	for _, q := range s.dirty {
		q.mu.Lock()
		if q.flags&flagDead == 0 {
			last := max(q.fileEnd-1, q.unsynced) * EntrySize
			dirty = append(dirty, dirtyFiles{q, q.unsynced * EntrySize, last, q.fileEnd * EntrySize, q.built, q.flags&flagNewName != 0})
		}
		q.flags &^= flagDirty | flagNewName
		q.mu.Unlock()
	}
	s.dirty = nil
	return dirty
}

// syncEach syncs files and, where names were made, the folders above them.
func (s *Queues) syncEach(dirty []dirtyFiles) error {
	dirs := map[string]bool{}
	for _, d := range dirty {
		size := s.o.FileSize
		for base := d.from - d.from%size; base <= d.last; base += size {
			f, err := s.files.acquire(d.q, base, s.openFile)
			if isNotExist(err) {
				continue // removed since, or damage that a read will find
			}
			if err != nil {
				return err
			}
			err = f.f.Sync()
			s.files.release(f)
			if err != nil {
				return err
			}
		}
		if !d.newName {
			continue
		}
		for _, dir := range []string{dirName(d.q.name), d.q.name.Topic, "."} {
			if dirs[dir] {
				continue
			}
			dirs[dir] = true
			if err := s.fsys.SyncDir(dir); err != nil && !isNotExist(err) {
				return err
			}
		}
	}
	return nil
}

// load restores the queues from the image.
func (s *Queues) load() error {
	f, err := s.state.Open(imageName, fs.ReadOnly)
	if isNotExist(err) {
		s.setSaved(message.Mark{}, false, noImage)
		return nil
	}
	if err != nil {
		return fmt.Errorf("consumequeue: open saved image: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("consumequeue: open saved image: %w", err)
	}
	inFiles := false
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), int(min(size, imageBuffer)))
	m, err := decodeImage(r, size, s.o.FileSize, func(r savedRow) (func([]byte, int64), error) {
		inFiles = inFiles || r.flags&rowInFiles != 0
		return s.restore(r)
	})
	if err == nil && inFiles {
		if _, serr := s.fsys.Stat("."); isNotExist(serr) {
			err = fmt.Errorf("%w: the folder of the queue files is missing", errImage)
		}
	}
	switch {
	case err == nil:
		s.setSaved(m, true, "")
		return nil
	case errors.Is(err, errImage):
		s.table, s.list = map[message.Queue]*Queue{}, nil
		s.recent.Store(nil)
		s.pool.bytes.Store(0)
		s.stats.damaged.Store(0)
		s.setSaved(message.Mark{}, false, err.Error())
		return nil
	default:
		return fmt.Errorf("consumequeue: read saved image: %w", err)
	}
}

// restore makes the queue of a row and returns how to fill its tail.
func (s *Queues) restore(r savedRow) (func(b []byte, n int64), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.table[r.name]; ok {
		return nil, fmt.Errorf("%w: queue %s stands there twice", errImage, r.name)
	}
	q := s.addLocked(r.name)
	q.start, q.fileEnd, q.end = r.start, r.fileEnd, r.fileEnd
	if r.flags&rowInFiles != 0 {
		q.flags |= flagInFiles
	}
	if r.flags&rowDamaged != 0 {
		q.flags |= flagInFiles
		q.markDamaged(0, 0, "was damaged when it was saved", nil)
	}
	return q.restoreTail, nil
}

// restoreTail adds encoded entries, or n pre-blank ones when b is nil. Open is
// the only caller and nobody else knows the queue yet.
func (q *Queue) restoreTail(b []byte, n int64) {
	if b == nil {
		q.chunks = append(q.chunks, q.s.pool.gap(q.end, n))
		q.end += n
		return
	}
	for len(b) > 0 {
		c := q.lastLocked()
		if c == nil || c.full() {
			c = q.s.pool.get(classFor(int64(len(b)/EntrySize)), q.end)
			q.chunks = append(q.chunks, c)
		}
		k := copy(c.data[c.n*EntrySize:], b) / EntrySize
		c.n += int64(k)
		q.end += int64(k)
		b = b[k*EntrySize:]
	}
}

// classFor is the smallest class that holds n entries, or the largest.
func classFor(n int64) int {
	for i, size := range chunkEntries {
		if n <= size {
			return i
		}
	}
	return largestClass
}

// forget empties the table; handles stay good and their queues become empty.
func (s *Queues) forget() {
	for _, q := range s.All() {
		q.mu.Lock()
		q.touchLocked()
		if q.flags&flagDamaged != 0 {
			s.stats.damaged.Add(-1)
		}
		q.clearLocked()
		q.mu.Unlock()
	}
}

// clearLocked makes the queue one that has never held an entry.
func (q *Queue) clearLocked() {
	for _, c := range q.chunks {
		q.s.pool.release(c)
	}
	q.chunks = nil
	q.start, q.end, q.fileEnd, q.firstFile = 0, 0, 0, -1
	q.damage, q.grow = nil, 0
	q.flags &= flagReady | flagDirty | flagNoFiles | flagDead
}

// Reset forgets everything: the image, the queue files and what is in memory. A
// replay from the log's start follows. Only files that look like queue files are
// removed; whatever else lies in the folders stays.
func (s *Queues) Reset() error {
	s.setSaved(message.Mark{}, false, "reset")
	s.forget()
	if s.o.ReadOnly {
		return nil
	}
	s.saveMu.Lock()
	defer s.saveMu.Unlock()
	s.pending.Store(0)
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	for _, name := range []string{imageName, imageTemp} {
		if err := s.state.Remove(name); err != nil && !isNotExist(err) {
			return fmt.Errorf("consumequeue: reset: %w", err)
		}
	}
	// The image goes first, durably: it must not name files that are gone.
	if err := s.state.SyncDir("."); err != nil {
		return fmt.Errorf("consumequeue: reset: %w", err)
	}
	for _, q := range s.All() {
		s.files.drop(q, 0, maxOffset*EntrySize)
	}
	if err := s.forgetSumsOf(""); err != nil {
		return fmt.Errorf("consumequeue: reset: %w", err)
	}
	return s.removeTree()
}
