package consumequeue

import (
	"fmt"
)

// verify compares the queue's files with its ends before the first read of
// them. A mismatch marks the queue damaged and is returned.
func (s *Queues) verify(q *Queue) error {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	q.mu.Lock()
	damage, done := q.damage, q.flags&flagVerified != 0
	q.mu.Unlock()
	if damage != nil {
		return q.damagedError(damage)
	}
	if done {
		return nil
	}
	return s.verifyLocked(q)
}

// extent is the range of byte offsets at which the queue must have files: from
// lo up to and with hi. A queue that needs no file has lo > hi: it has none, or
// all entries in files have expired.
//
// Files below lo hold expired entries only, files above hi were made after the
// last save; neither belongs to the queue as it was restored.
func (q *Queue) extent() (lo, hi int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flags&flagInFiles == 0 || q.start >= q.fileEnd {
		return 0, -1
	}
	size := q.s.o.FileSize
	first, last := q.start*EntrySize, (q.fileEnd-1)*EntrySize
	return first - first%size, last - last%size
}

// verifyLocked is verify for a caller that holds flushMu. It lists one folder
// and reads two entries.
func (s *Queues) verifyLocked(q *Queue) error {
	dir := dirName(q.name)
	list, err := s.fsys.List(dir)
	if err != nil && !isNotExist(err) {
		return fmt.Errorf("consumequeue: look into queue %s: %w", q.name, err)
	}
	lo, hi := q.extent()
	sizes := make(map[int64]int64, len(list))
	for _, e := range list {
		base, ok := parseFileName(e.Name)
		if !ok || e.Dir || e.Link {
			continue
		}
		if base < lo || base > hi {
			if s.o.ReadOnly {
				continue
			}
			if err := s.fsys.Remove(dir + "/" + e.Name); err != nil && !isNotExist(err) {
				return fmt.Errorf("consumequeue: remove stale file of queue %s: %w", q.name, err)
			}
			continue
		}
		sizes[base] = e.Size
	}
	if s.o.LiveWriter {
		lo = s.skipRemoved(q, sizes, lo, hi)
	}
	for base := lo; base <= hi; base += s.o.FileSize {
		size, ok := sizes[base]
		switch {
		case !ok:
			q.markDamaged(base, 0, "file is missing", nil)
			return q.damageNow()
		case size != s.o.FileSize:
			q.markDamaged(base, size, "file has the wrong length", nil)
			return q.damageNow()
		}
	}
	if err := s.verifyEnds(q); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.damage != nil { // declared meanwhile
		return q.damagedError(q.damage)
	}
	q.flags |= flagVerified
	if lo <= hi {
		q.firstFile = lo
	} else if !s.o.ReadOnly {
		// Nothing is left: the next flush makes the file anew.
		q.touchLocked()
		q.flags &^= flagInFiles | flagCleared
		q.firstFile = -1
	}
	return nil
}

// skipRemoved moves the start behind files that a live writer beside us has
// removed since it saved the image that we read.
func (s *Queues) skipRemoved(q *Queue, sizes map[int64]int64, lo, hi int64) int64 {
	for lo < hi {
		if _, ok := sizes[lo]; ok {
			break
		}
		lo += s.o.FileSize
	}
	q.mu.Lock()
	q.start = max(q.start, min(lo/EntrySize, q.fileEnd))
	q.mu.Unlock()
	return lo
}

// verifyEnds reads the first and the last entry in files.
func (s *Queues) verifyEnds(q *Queue) error {
	q.mu.Lock()
	start, fileEnd, inFiles, built := q.start, q.fileEnd, q.flags&flagInFiles != 0, q.built
	q.mu.Unlock()
	if !inFiles || start >= fileEnd {
		return nil
	}
	var first, last [1]Entry
	if _, err := q.readFile(start, fileEnd, built, first[:]); err != nil {
		return err
	}
	if _, err := q.readFile(fileEnd-1, fileEnd, built, last[:]); err != nil {
		return err
	}
	if !first[0].Blank() && !last[0].Blank() && first[0].Position > last[0].Position {
		at := (fileEnd - 1) * EntrySize
		q.markDamaged(at-at%s.o.FileSize, at%s.o.FileSize, "entries are out of order", nil)
		return q.damageNow()
	}
	return nil
}
