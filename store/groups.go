package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/embermq/embermq/message"
)

// Committed is the offset that a group reads next in a queue; ok is false when
// it has committed none.
func (s *Store) Committed(ctx context.Context, group string, q message.Queue) (offset int64, ok bool, err error) {
	if err := s.hasGroups(); err != nil {
		return 0, false, err
	}
	if err := ctx.Err(); err != nil {
		return 0, false, err
	}
	offset, ok = s.progress.Committed(group, q)
	return offset, ok, nil
}

// Commit records that a group has settled everything below the given offsets,
// all of them or, on an error, none. It takes effect at once and is on disk
// within 100 ms, or at return with WithDurableSettle; Sync and Close force it. After a
// crash the group may so see messages again, it never skips one. An offset below
// the one committed already is ignored (ResetOffsets goes back). An unknown group is created
// unless WithoutGroupCreation.
//
// The error is *NameError, *RangeError for an offset outside its queue,
// ErrNotFound for an unknown queue or group, ErrReadOnly or ErrClosed.
func (s *Store) Commit(ctx context.Context, group string, offsets map[message.Queue]int64) error {
	if err := s.writable(); err != nil {
		return err
	}
	return s.progress.Commit(ctx, group, offsets)
}

// ResetOffsets moves a group to another place in every queue of a topic; it is
// on disk when the call returns, and commits of consumers that worked before it
// are void.
func (s *Store) ResetOffsets(ctx context.Context, group, topic string, to message.Start) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.clustering(group); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	tp, ok := s.topics.get(topic)
	if !ok {
		return fmt.Errorf("store: topic %q: %w", topic, ErrNotFound)
	}
	offsets := make(map[message.Queue]int64)
	for _, q := range *tp.queues.Load() {
		offset, err := s.place(q, to)
		if err != nil {
			return err
		}
		offsets[q.name] = offset
	}
	return s.progress.Reset(ctx, group, offsets)
}

// place turns a Start into an offset of q.
func (s *Store) place(q *queue, to message.Start) (int64, error) {
	start, end := q.entries.Bounds()
	switch to.Kind {
	case message.StartFirst:
		return start, nil
	case message.StartLast:
		return end, nil
	case message.StartOffset:
		if to.Offset < start || to.Offset > end {
			return 0, &RangeError{Queue: q.name, Offset: to.Offset, Start: start, End: end}
		}
		return to.Offset, nil
	case message.StartTime:
		return s.offsetAt(s.ctx, q, to.Time, message.Lower)
	}
	return 0, fmt.Errorf("store: start %v: %w", to, errors.ErrUnsupported)
}

func (s *Store) hasGroups() error {
	if s.cfg.readOnly {
		return fmt.Errorf("store: groups belong to the process that writes: %w", ErrReadOnly)
	}
	return s.usable()
}
