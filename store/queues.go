package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/message"
)

// OffsetAt finds the offset of q by store time. Lower is the first message
// stored at t or later, the end when there is none; Upper the last one stored at t or earlier, the
// start when there is none. Times count in milliseconds.
func (s *Store) OffsetAt(q message.Queue, t time.Time, b message.Bound) (int64, error) {
	qu, err := s.readable(q)
	if err != nil {
		return 0, err
	}
	return s.offsetAt(s.ctx, qu, t, b)
}

// tagCode is what a record's queue entry holds in its last field.
func (s *Store) tagCode(r *message.Record) int64 {
	if due, ok := s.levels.RecordTag(r); ok {
		return due
	}
	return message.TagHash(r.Tag())
}

// entryOf is the queue entry of a record.
func (s *Store) entryOf(r *message.Record) consumequeue.Entry {
	return consumequeue.Entry{Position: r.Position(), Size: int32(r.Size()), TagHash: s.tagCode(r)}
}

// queueError gives an error of a queue the store's words.
func (s *Store) queueError(err error, q *queue) error {
	switch {
	case err == nil:
		return nil
	case s.closed.Load():
		return ErrClosed
	case q.topic.gone.Load():
		return fmt.Errorf("store: topic %s was deleted: %w", q.name.Topic, ErrNotFound)
	}
	return err
}

// rangeError adds the bounds to an offset that lies outside them.
func (s *Store) rangeError(err error, q *queue, offset int64) error {
	if !errors.Is(err, ErrOutOfRange) {
		return s.queueError(err, q)
	}
	start, end := q.entries.Bounds()
	return s.queueError(&RangeError{Queue: q.name, Offset: offset, Start: start, End: end}, q)
}

// foreign reports whether another program wrote the record at position.
func (s *Store) foreign(position int64) bool { return s.log.Foreign(position) }

// pokeVisible starts a sync when something waits to become visible: somebody
// wants to read it.
func (s *Store) pokeVisible() {
	if !s.cfg.readOnly && s.log.Visible() < s.log.Appended() {
		s.log.Poke()
	}
}

// hurry starts a sync when somebody waits for one of a group's records, which
// become visible with the next one.
func (s *Store) hurry(p *putting) {
	for i := range p.group.Entries {
		e := &p.group.Entries[i]
		if e.Home.(*queue).watch.waited(e.Draft.TagHash()) {
			s.log.Poke()
			return
		}
	}
}

func asDamage(err error) (Damage, bool) {
	var c *CorruptError
	if !errors.As(err, &c) {
		return Damage{}, false
	}
	return Damage{Path: c.Path, Offset: c.Offset, Reason: c.Reason}, true
}
