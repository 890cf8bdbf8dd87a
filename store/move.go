package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/progress"
)

// moveMost is how many records a mover appends at a time.
const moveMost = 256

// mover copies records of one queue elsewhere, each of them for a group, which has
// settled it once the copy is in the log.
type mover struct {
	s     *Store
	group string
	from  message.Queue
	drops []string
	again bool // the copies replace their originals: they keep their attempts

	batch []replacement
	bytes int64
	sent  int
}

// add takes the record at an offset for a topic; pick, modulo the number of queues,
// is the queue. One that somebody else has settled or is about to is left out.
func (m *mover) add(ctx context.Context, r *message.Record, offset int64, topic string, pick uint32) error {
	to, err := m.target(ctx, topic, pick)
	if err != nil {
		return err
	}
	p := m.s.progress
	f, err := p.TakeOff(m.group, p.Epoch(m.group), m.from, offset, 0)
	if progress.IsSettled(err) || errors.Is(err, ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	src := *r
	c := replacement{source: &src, flight: f, to: to, home: to, drops: m.drops}
	c.env.Reserved = []message.Property{f.Settlement.Property()}
	if m.again {
		c.env.ReconsumeTimes = r.ReconsumeTimes()
	}
	m.batch = append(m.batch, c)
	if m.bytes += c.size(); len(m.batch) >= moveMost || m.bytes >= replaceBytes {
		return m.flush(ctx)
	}
	return nil
}

// target makes sure that a topic can be written to, and picks one of its queues.
func (m *mover) target(ctx context.Context, topic string, pick uint32) (to message.Queue, err error) {
	to.Topic = topic
	if message.IsSystemTopic(topic) {
		return to, ownTopic(topic)
	}
	if err := m.s.ownQueue(ctx, to); err != nil {
		return to, err
	}
	tp, ok := m.s.topics.get(topic)
	if !ok {
		return to, fmt.Errorf("store: topic %q: %w", topic, ErrNotFound)
	}
	row := tp.row.Load()
	if row.Permission&PermWrite == 0 {
		return to, fmt.Errorf("store: put to topic %s: %w", topic, ErrPermission)
	}
	to.ID = int32(pick % uint32(row.WriteQueues))
	return to, nil
}

// flush appends what was taken.
func (m *mover) flush(ctx context.Context) error {
	defer func() {
		land(m.batch)
		clear(m.batch)
		m.batch, m.bytes = m.batch[:0], 0
	}()
	n, err := m.s.appendReplacements(ctx, m.batch)
	m.sent += n
	return err
}

// Move forwards up to most records (zero: all) that a group has not settled in one
// topic to another one, mostly one with more queues, so that more consumers can
// share a backlog. They are settled for the group, which goes on in the other
// topic; other groups keep theirs. Move returns how many were forwarded.
//
// Records with a sharding key go to the queue that a producer chooses by that key,
// the others are spread. Each queue is forwarded in its order, so a key whose
// records lie in one queue keeps its order. One append both writes a copy and
// settles its original, so a crash forwards none twice and loses none: call
// Move again.
//
// The error is ErrBusy while the group has members, ErrNotFound for an unknown group or
// topic, ErrUnsupported for a broadcasting group and for a topic that is moved to
// itself.
func (s *Store) Move(ctx context.Context, group, from, to string, most int) (moved int, err error) {
	if err := s.writable(); err != nil {
		return 0, err
	}
	if err := s.clustering(group); err != nil {
		return 0, err
	}
	switch {
	case from == to:
		return 0, fmt.Errorf("store: move %s to itself: %w", from, ErrUnsupported)
	case len(s.groups.Members(group)) > 0:
		return 0, fmt.Errorf("store: group %s has members: %w", group, ErrBusy)
	}
	tp, ok := s.topics.get(from)
	if !ok {
		return 0, fmt.Errorf("store: topic %q: %w", from, ErrNotFound)
	}
	for _, q := range *tp.queues.Load() {
		n, err := s.moveQueue(ctx, group, q.name, to, most-moved)
		if moved += n; err != nil || most > 0 && moved >= most {
			return moved, err
		}
	}
	return moved, nil
}

// moveQueue forwards one queue; left of zero or less with nothing moved is no
// bound.
func (s *Store) moveQueue(ctx context.Context, group string, q message.Queue, to string, left int) (int, error) {
	m := mover{s: s, group: group, from: q}
	at, end, err := s.Bounds(q)
	if err != nil {
		return 0, err
	}
	for at < end && (left <= 0 || m.sent+len(m.batch) < left) {
		if at = unsettled(s.progress.Place(group, q), at); at >= end {
			break
		}
		limit := message.Limit{Count: moveMost}
		if left > 0 {
			limit.Count = min(limit.Count, left-m.sent-len(m.batch))
		}
		b, err := s.Read(ctx, q, at, limit, nil)
		if err != nil {
			return m.sent, errors.Join(err, m.flush(ctx))
		}
		for i := range b.Records {
			r := &b.Records[i]
			if err := m.add(ctx, r, r.Offset(), to, spread(r)); err != nil {
				return m.sent, errors.Join(err, m.flush(ctx))
			}
		}
		at = b.Next
	}
	err = m.flush(ctx)
	return m.sent, err
}

// spread picks the queue of a record in another topic, as a producer does by
// default: by the FNV-1a hash of its key.
func spread(r *message.Record) uint32 {
	key, ok := r.Property(message.PropShardingKey)
	if !ok {
		return uint32(r.Offset())
	}
	h := fnv.New32a()
	h.Write([]byte(key))
	return h.Sum32()
}
