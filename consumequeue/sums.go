package consumequeue

import (
	"fmt"
	"hash/crc32"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// Sums keeps the checksums of sealed queue files. A file is sealed when it is full:
// it is written once more only when its queue is rebuilt. The layout of a queue file has
// no room for a checksum, and the tag hash of an entry is covered by nothing else.
//
// What it keeps is derived and may be lost at any time: a file without a checksum is
// taken as it is. Its methods are called without a queue's lock.
type Sums interface {
	// Sum is the checksum of the file that begins at byte offset base, if there is one.
	Sum(q message.Queue, base int64) (crc uint32, ok bool)
	// Keep stores checksums of files that have been synced, in the place of older ones.
	// They need not be durable.
	Keep(sums []FileSum) error
	// Expire drops those of a queue's files that begin below an offset, which are never
	// made again. That need not be durable.
	Expire(q message.Queue, below int64) error
	// Forget drops all those of a queue, durably: other files take the same names.
	Forget(q message.Queue) error
	// ForgetTopic is Forget for a topic, or for everything when it is empty.
	ForgetTopic(topic string) error
}

// FileSum is the CRC-32C of a whole queue file.
type FileSum struct {
	Queue message.Queue
	Base  int64
	CRC   uint32
}

const badSum = "checksum does not match"

// maxSummedRead is the longest file that a reader compares with its checksum. Longer
// ones would make a read of a few entries slow; Check reads them.
const maxSummedRead = 1 << 20

// seal keeps the checksums of files that have just been synced and were full before.
// A checksum that cannot be had or kept is left out.
//
// Invariant: the bytes it sums up are on disk. So a power cut never leaves a checksum
// of bytes that are gone.
func (s *Queues) seal(synced []dirtyFiles) {
	if s.o.Sums == nil {
		return
	}
	var sums []FileSum
	for _, d := range synced {
		for base := d.from - d.from%s.o.FileSize; base+s.o.FileSize <= d.end; base += s.o.FileSize {
			if crc, ok := s.sumSealed(d, base); ok {
				sums = append(sums, FileSum{d.q.name, base, crc})
			}
		}
	}
	if len(sums) == 0 {
		return
	}
	if err := s.o.Sums.Keep(sums); err != nil {
		s.note(fmt.Errorf("consumequeue: keep checksums: %w", err))
	}
}

// sumSealed sums up a file, unless it has been rebuilt or removed since it was synced.
func (s *Queues) sumSealed(d dirtyFiles, base int64) (crc uint32, ok bool) {
	s.flushMu.Lock() // so that no rebuild begins meanwhile
	defer s.flushMu.Unlock()
	d.q.mu.Lock()
	same := d.q.built == d.built && d.q.flags&(flagDamaged|flagDead) == 0
	d.q.mu.Unlock()
	if !same {
		return 0, false
	}
	f, err := s.files.acquire(d.q, base, s.openFile)
	if err != nil {
		return 0, false
	}
	defer s.files.release(f)
	crc, err = s.sum(f)
	return crc, err == nil
}

func (s *Queues) sum(f *file) (crc uint32, err error) {
	buf := make([]byte, min(flushBuffer, s.o.FileSize))
	for at := int64(0); at < s.o.FileSize; {
		b := buf[:min(int64(len(buf)), s.o.FileSize-at)]
		if _, err := f.f.ReadAt(b, at); err != nil {
			return 0, err
		}
		crc = crc32.Update(crc, castagnoli, b)
		at += int64(len(b))
	}
	return crc, nil
}

// proven compares a sealed file with its checksum, once for each time that it is
// opened. It reports false for a file that has another one.
func (q *Queue) proven(f *file, fileEnd int64) (bool, error) {
	s := q.s
	if plant.Enabled && plant.Is(plant.QueueSumUnchecked) {
		return true, nil
	}
	if s.o.Sums == nil || s.o.FileSize > maxSummedRead || f.base+s.o.FileSize > fileEnd*EntrySize || f.proven.Load() {
		return true, nil
	}
	want, ok := s.sumOf(q, f.base)
	if ok {
		crc, err := s.sum(f)
		if err != nil || crc != want {
			return false, err
		}
	}
	f.proven.Store(true)
	return true, nil
}

// sumOf is the checksum that a file must have, if one is known.
func (s *Queues) sumOf(q *Queue, base int64) (crc uint32, ok bool) {
	if s.o.Sums == nil {
		return 0, false
	}
	q.mu.Lock()
	unknown := q.flags&flagSumsStale != 0
	q.mu.Unlock()
	if unknown {
		return 0, false
	}
	return s.o.Sums.Sum(q.name, base)
}

// expireSums drops the checksums of files that have expired.
func (s *Queues) expireSums(q *Queue, below int64) {
	if s.o.Sums == nil {
		return
	}
	if err := s.o.Sums.Expire(q.name, below); err != nil {
		s.note(fmt.Errorf("consumequeue: forget checksums of queue %s: %w", q.name, err))
	}
}

// forgetSums drops the checksums of a queue whose files go. When it fails they are not
// looked at again: what is built in their place may differ.
func (s *Queues) forgetSums(q *Queue) {
	if s.o.Sums == nil {
		return
	}
	if err := s.o.Sums.Forget(q.name); err != nil {
		q.mu.Lock()
		q.flags |= flagSumsStale
		q.mu.Unlock()
		s.note(fmt.Errorf("consumequeue: forget checksums of queue %s: %w", q.name, err))
	}
}

func (s *Queues) forgetSumsOf(topic string) error {
	if s.o.Sums == nil {
		return nil
	}
	return s.o.Sums.ForgetTopic(topic)
}
