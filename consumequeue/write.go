package consumequeue

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// flushBuffer bounds one write.
const flushBuffer = 64 << 10

// errSkipped says that a queue is not to be written now, which is no failure.
var errSkipped = errors.New("consumequeue: queue is not flushed now")

// flush writes the queue's tail to its files as far as the log is synced, and
// returns how many entries it wrote. An error leaves the entries in memory.
func (s *Queues) flush(q *Queue, synced int64) (n int64, err error) {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	for {
		k, err := s.flushSome(q, synced)
		n += k
		if errors.Is(err, errSkipped) {
			return n, nil
		}
		if err != nil || k == 0 {
			return n, err
		}
	}
}

// flushSome makes one write, which stays inside one file.
func (s *Queues) flushSome(q *Queue, synced int64) (int64, error) {
	q.mu.Lock()
	skip := q.flags&(flagDamaged|flagDead|flagNoFiles) != 0 || q.fileEnd == q.end
	verified := q.flags&flagVerified != 0
	q.mu.Unlock()
	if skip {
		return 0, errSkipped
	}
	if !verified {
		if err := s.verifyLocked(q); err != nil {
			return 0, err
		}
	}
	from, data := s.gather(q, synced)
	if len(data) == 0 {
		return 0, errSkipped
	}
	if err := s.write(q, from, data); err != nil {
		return 0, err
	}
	n := int64(len(data) / EntrySize)
	q.mu.Lock()
	q.dropLocked(from + n)
	q.mu.Unlock()
	s.stats.flushes.Add(1)
	s.stats.flushed.Add(n)
	return n, nil
}

// gather copies the entries that may be written next: from fileEnd on, not
// beyond synced, not beyond one file or one buffer.
func (s *Queues) gather(q *Queue, synced int64) (from int64, data []byte) {
	if s.scratch == nil {
		s.scratch = make([]byte, flushBuffer)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	from = q.fileEnd
	at := from * EntrySize
	room := min(s.o.FileSize-at%s.o.FileSize, flushBuffer)
	to := min(q.syncedLocked(synced), from+room/EntrySize)
	data = s.scratch[:0]
	for _, c := range q.chunks {
		lo, hi := max(c.base, from), min(c.base+c.n, to)
		if lo >= hi {
			continue
		}
		n := len(data)
		data = data[:n+int(hi-lo)*EntrySize]
		c.copyTo(data[n:], lo, hi)
	}
	return from, data
}

// syncedLocked returns the offset behind the last entry whose record the log has
// synced. Pre-blank entries follow from the record behind them and so wait for
// it: a cut that takes the record would otherwise leave them ahead of the log.
func (q *Queue) syncedLocked(synced int64) int64 {
	if plant.Enabled && plant.Is(plant.QueueAheadOfLog) {
		synced = math.MaxInt64
	}
	for i := len(q.chunks) - 1; i >= 0; i-- {
		c := q.chunks[i]
		if c.data == nil {
			if plant.Enabled && plant.Is(plant.QueueBlankAhead) {
				return c.base + c.n
			}
			continue
		}
		if first := c.entry(c.base); first.end() > synced {
			continue
		}
		for at := c.base + c.n; at > max(c.base, q.fileEnd); at-- {
			if e := c.entry(at - 1); !e.Blank() && e.end() <= synced {
				return at
			}
		}
	}
	return q.fileEnd
}

// write puts encoded entries where they belong; they lie in one file. The caller
// holds flushMu and has verified the queue. A full disk and anything that goes
// wrong with a name is a passing trouble; a write that fails otherwise leaves
// bytes nobody knows, so the queue is marked damaged and rebuilt.
func (s *Queues) write(q *Queue, from int64, data []byte) error {
	at := from * EntrySize
	base := at - at%s.o.FileSize
	q.mu.Lock()
	fresh := at == base || q.flags&flagInFiles == 0
	cleared := q.flags&flagCleared != 0
	q.mu.Unlock()

	open := s.openFile
	if fresh {
		open = s.createFile
		s.files.drop(q, base, base+1) // a leftover descriptor of a failed attempt
	}
	f, err := s.files.acquire(q, base, open)
	if isNotExist(err) && !fresh {
		q.markDamaged(base, 0, "file is missing", err)
	}
	if err != nil {
		return fmt.Errorf("consumequeue: open file of queue %s: %w", q.name, err)
	}
	defer s.files.release(f)
	s.setDirty(q, from, fresh)
	if fresh && at > base {
		data = append(make([]byte, at-base, at-base+int64(len(data))), data...)
		fillBlank(data[:at-base])
		at = base
	}
	if !fresh && !cleared {
		if err := s.clearBehind(f, at-base); err != nil {
			return s.writeFailed(q, base, err)
		}
	}
	if _, err := f.f.WriteAt(data, at-base); err != nil {
		return s.writeFailed(q, base, err)
	}
	q.mu.Lock()
	q.touchLocked()
	if q.firstFile < 0 && q.flags&flagInFiles == 0 {
		q.firstFile = base
	}
	q.flags |= flagInFiles | flagCleared
	q.mu.Unlock()
	return nil
}

func (s *Queues) writeFailed(q *Queue, base int64, err error) error {
	if !isFull(err) {
		q.mu.Lock()
		q.touchLocked()
		q.flags |= flagInFiles
		q.mu.Unlock()
		q.markDamaged(base, 0, "write failed", err)
	}
	return fmt.Errorf("consumequeue: write queue %s: %w", q.name, err)
}

// setDirty notes that entries from offset on may not be durable.
func (s *Queues) setDirty(q *Queue, from int64, fresh bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flags&flagDirty == 0 {
		q.flags |= flagDirty
		q.unsynced = from
		s.dirty = append(s.dirty, q)
	}
	q.unsynced = min(q.unsynced, from)
	if fresh {
		q.flags |= flagNewName
	}
}

// clearBehind makes everything from off to the file's end zero. A crash may have
// left entries there that were written after the last save: RocketMQ would take
// them for part of the queue until the replay has written them again.
func (s *Queues) clearBehind(f *file, off int64) error {
	size, err := f.f.Size()
	if err != nil {
		return err
	}
	if size != s.o.FileSize {
		return &message.CorruptError{Path: s.fsys.Path(fileName(f.base)), Offset: size, Reason: "file has the wrong length"}
	}
	buf := make([]byte, min(flushBuffer, size-off))
	for off < size {
		start, end, err := f.f.NextData(off)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		start, end = max(start, off), min(end, size)
		for start < end {
			b := buf[:min(int64(len(buf)), end-start)]
			if _, err := f.f.ReadAt(b, start); err != nil {
				return err
			}
			if !allZero(b) {
				clear(b)
				if _, err := f.f.WriteAt(b, start); err != nil {
					return err
				}
			}
			start += int64(len(b))
		}
		off = end
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func isNotExist(err error) bool { return errors.Is(err, iofs.ErrNotExist) }

// isShort reports a read that met the end of the file.
func isShort(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// isFull reports that the disk has no room, which passes.
func isFull(err error) bool { return errors.Is(err, message.ErrDiskFull) || fs.IsFull(err) }
