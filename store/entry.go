package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// entryError says that a queue entry names something else than its record. The
// queue has been given up to a rebuild, and who waits for that and asks again gets
// the record.
type entryError struct{ *CorruptError }

func (e *entryError) Unwrap() error { return e.CorruptError }

// wrongEntry gives the queue up to a rebuild, which its readers wait for.
func (s *Store) wrongEntry(q *queue, offset int64, reason string) error {
	reason = fmt.Sprintf("entry %d of %s %s", offset, q.name, reason)
	q.entries.MarkDamaged(offset, reason)
	return &entryError{&CorruptError{Path: s.queueFS.Path(q.name.String()), Offset: offset * consumequeue.EntrySize, Reason: reason}}
}

// belongs checks that a record is the one that its queue entry promised.
func (s *Store) belongs(r *message.Record, q *queue, offset int64) error {
	if r.Offset() == offset && r.QueueID() == q.name.ID && r.Topic() == q.name.Topic || plant.Enabled && plant.Is(plant.StoreAnyEntry) {
		return nil
	}
	if s.foreign(r.Position()) && inQueue(r, q.name) {
		return nil // foreign ranges may repeat or jump
	}
	return s.wrongEntry(q, offset, fmt.Sprintf("names record %d of %s/%d", r.Offset(), r.Topic(), r.QueueID()))
}

// blame finds out whose fault it is that the record of an entry could not be
// read: the log's, whose error it then is, or the entry's. An entry is wrong for
// sure when it names a place outside the log, or one that whole records cover.
func (s *Store) blame(q *queue, offset int64, e consumequeue.Entry, err error) error {
	switch {
	case errors.Is(err, ErrOutOfRange):
		if s.cfg.readOnly { // its log may end early
			return &CorruptError{Path: s.logFS.Path("."), Offset: e.Position, Reason: fmt.Sprintf("record %d of %s lies behind the log's end", offset, q.name), Err: err}
		}
		return s.wrongEntry(q, offset, fmt.Sprintf("names position %d, behind the log's end", e.Position))
	case errors.Is(err, ErrNotFound):
		start, _ := q.entries.Bounds()
		if offset < start || s.cfg.readOnly {
			return err // expired
		}
		return s.wrongEntry(q, offset, fmt.Sprintf("names position %d, in front of the log's start", e.Position))
	case errors.Is(err, ErrCorrupt):
		if covered, cerr := s.log.Covered(e.Position, int64(e.Size)); cerr == nil && covered {
			return s.wrongEntry(q, offset, fmt.Sprintf("names %d bytes at %d, where no record begins", e.Size, e.Position))
		}
	}
	return err
}

// saneSize comes before anything is allocated for a record.
func (s *Store) saneSize(q *queue, offset int64, e consumequeue.Entry) error {
	if int64(e.Size) > s.format.segmentSize {
		return s.wrongEntry(q, offset, fmt.Sprintf("names a record of %d bytes", e.Size))
	}
	return nil
}

// recordOf reads the record of an entry and checks that it is the entry's.
func (s *Store) recordOf(q *queue, offset int64, e consumequeue.Entry, buf []byte, r *message.Record) error {
	if _, err := s.log.Record(e.Position, int(e.Size), buf, r); err != nil {
		return s.blame(q, offset, e, err)
	}
	return s.belongs(r, q, offset)
}

// patiently calls f once more when it met a damaged queue, after the rebuild.
func (q *queue) patiently(ctx context.Context, f func() error) error {
	err := f()
	var wrong *entryError
	if !errors.Is(err, consumequeue.ErrDamaged) && !errors.As(err, &wrong) {
		return err
	}
	if err := q.entries.Ready(ctx); err != nil {
		return err
	}
	if err = f(); errors.As(err, &wrong) {
		return wrong.CorruptError
	}
	return err
}

// offsetAt finds an offset by store time. A damaged queue is rebuilt first.
func (s *Store) offsetAt(ctx context.Context, q *queue, t time.Time, b message.Bound) (offset int64, err error) {
	storedAt := func(offset int64, e consumequeue.Entry) (int64, error) {
		var r message.Record
		err := s.recordOf(q, offset, e, nil, &r)
		if err != nil {
			return 0, err
		}
		return r.StoredAtMillis(), nil
	}
	err = q.patiently(ctx, func() (err error) {
		offset, err = q.entries.OffsetAt(t.UnixMilli(), b, storedAt)
		return err
	})
	return offset, s.queueError(err, q)
}

// positionOf is the log position of the record at an offset, or of the next one
// behind it when there is no record at that offset. Retention trusts it, so a wrong
// entry must not pass.
func (s *Store) positionOf(ctx context.Context, q *queue, offset int64) (position int64, err error) {
	err = q.patiently(ctx, func() (err error) {
		position, err = s.firstFrom(q, offset)
		return err
	})
	return position, err
}

func (s *Store) firstFrom(q *queue, offset int64) (int64, error) {
	var es [16]consumequeue.Entry
	for {
		n, err := q.entries.Read(offset, es[:])
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return s.log.Appended(), nil
		}
		for i, e := range es[:n] {
			if e.Blank() {
				continue
			}
			var r message.Record
			err := s.recordOf(q, offset+int64(i), e, nil, &r)
			var wrong *entryError
			if errors.Is(err, ErrCorrupt) && !errors.As(err, &wrong) {
				err = nil // the record is rotten, but this is its place
			}
			return e.Position, err
		}
		offset += int64(n)
	}
}

// startAt is where a queue begins once the log begins at position before.
//
// The search for it may be led astray by a wrong entry, and too far means that
// messages are gone. So the last entry in front must name its record.
func (s *Store) startAt(ctx context.Context, q *queue, before int64) (start int64, err error) {
	err = q.patiently(ctx, func() (err error) {
		if start, err = q.entries.FirstAt(before); err != nil {
			return err
		}
		now, _ := q.entries.Bounds()
		for at := start - 1; at >= now; at-- {
			var e [1]consumequeue.Entry
			if _, err := q.entries.Read(at, e[:]); err != nil {
				return err
			}
			if e[0].Blank() {
				continue
			}
			if e[0].Position < s.log.Start() {
				return nil // it has expired already
			}
			var r message.Record
			err := s.recordOf(q, at, e[0], nil, &r)
			var wrong *entryError
			if errors.As(err, &wrong) {
				return err
			}
			return nil
		}
		return nil
	})
	if errors.Is(err, ErrNotFound) { // deleted meanwhile
		return start, nil
	}
	return start, err
}
