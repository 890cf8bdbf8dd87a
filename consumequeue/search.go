package consumequeue

import (
	"errors"
	"fmt"

	"github.com/embermq/embermq/message"
)

// Expire moves the starts up to the first entries at or behind minPosition, the
// log's new beginning. A queue whose entries all lie before it becomes empty and
// keeps its end. Whole queue files that hold nothing else, never the last one,
// are removed after the next save. A damaged queue follows when it is rebuilt.
func (s *Queues) Expire(minPosition int64) error {
	s.minPosition.Store(minPosition)
	var errs []error
	for _, q := range s.All() {
		err := q.expire(minPosition)
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, message.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (q *Queue) expire(minPosition int64) error {
	err := q.moveStart(minPosition)
	if errors.Is(err, message.ErrOutOfRange) {
		return nil // another call has moved it while this one looked
	}
	return err
}

// FirstAt is the start that Expire would give the queue: the offset of the first
// entry at or behind minPosition, or the end. The error of a damaged queue
// matches ErrDamaged.
func (q *Queue) FirstAt(minPosition int64) (int64, error) {
	start, end := q.Bounds()
	if start == end || minPosition <= 0 && q.s.o.ReadOnly {
		return start, nil // a reader leaves it to whoever reads the queue to find damage
	}
	// Most queues of a call keep their start: look at it first.
	if e, err := q.at(start); err != nil || !e.Blank() && e.Position >= minPosition {
		return start, err
	}
	to, err := q.search(start, end, func(_ int64, e Entry) (bool, error) { return e.Position >= minPosition, nil })
	if err != nil {
		return start, err
	}
	return q.skipBlank(to, end)
}

func (q *Queue) moveStart(minPosition int64) error {
	to, err := q.FirstAt(minPosition)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flags&flagDead == 0 && to > q.start && to <= q.end {
		q.touchLocked()
		q.start = to
	}
	return nil
}

// OffsetAt finds a queue offset by the time its record was stored, in
// milliseconds. storedAt looks the record of an entry up; an error of it that
// matches message.ErrOutOfRange or message.ErrNotFound means that the record
// has expired, which counts as stored before everything.
//
//	                     Lower            Upper
//	all stored before    end              last
//	all stored after     start            start
//	stored at ms         first of them    last of them
//	between two          the right one    the left one
//
// Of an empty queue it is the start.
func (q *Queue) OffsetAt(ms int64, bound message.Bound, storedAt func(offset int64, e Entry) (int64, error)) (int64, error) {
	start, end := q.Bounds()
	behind := func(offset int64, e Entry) (bool, error) {
		at, err := storedAt(offset, e)
		if errors.Is(err, message.ErrOutOfRange) || errors.Is(err, message.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if bound == message.Upper {
			return at > ms, nil
		}
		return at >= ms, nil
	}
	offset, err := q.search(start, end, behind)
	if err == nil && bound == message.Lower {
		offset, err = q.skipBlank(offset, end)
	}
	if err != nil {
		return 0, err
	}
	if bound == message.Upper {
		offset--
	}
	now, _ := q.Bounds() // retention may have moved it meanwhile
	return min(max(offset, start, now), max(end, now)), nil
}

// search returns the first offset of [lo, hi) from which on behind holds, or hi.
// A pre-blank entry counts as the record after it.
func (q *Queue) search(lo, hi int64, behind func(int64, Entry) (bool, error)) (int64, error) {
	for lo < hi {
		mid := lo + (hi-lo)/2
		at, err := q.skipBlank(mid, hi)
		if err != nil {
			return 0, err
		}
		if at == hi {
			hi = mid
			continue
		}
		e, err := q.at(at)
		if err != nil {
			return 0, err
		}
		ok, err := behind(at, e)
		if err != nil {
			return 0, fmt.Errorf("consumequeue: queue %s offset %d: %w", q.name, at, err)
		}
		if ok {
			hi = mid
		} else {
			lo = at + 1
		}
	}
	return lo, nil
}

// skipBlank returns the first offset of [from, to) that is not pre-blank, or to.
func (q *Queue) skipBlank(from, to int64) (int64, error) {
	var es [64]Entry
	for from < to {
		n, err := q.Read(from, es[:min(int64(len(es)), to-from)])
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return to, nil
		}
		for _, e := range es[:n] {
			if !e.Blank() {
				return from, nil
			}
			from++
		}
	}
	return to, nil
}

func (q *Queue) at(offset int64) (Entry, error) {
	var es [1]Entry
	n, err := q.Read(offset, es[:])
	if err == nil && n == 0 {
		err = fmt.Errorf("consumequeue: queue %s has no offset %d: %w", q.name, offset, message.ErrOutOfRange)
	}
	return es[0], err
}
