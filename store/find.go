package store

import (
	"context"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/message"
)

// Find yields the messages of a topic that have a key, newest first, each once:
// q.Limit of them, 32 by default and, in a store of RocketMQSizes, at most 64. It finds everything whose Put had returned
// before the call and so waits for the index, which ctx bounds; puts never wait
// for it. Key and topic are verified in the message. The consumer of the
// sequence owns the records.
//
// A query of many colliding keys is cut off by q's bounds on steps, reads and
// time: then the last thing yielded is *TruncatedError, which tells how to go
// on. Damage of an index file is yielded last too, as *CorruptError; the index is
// rebuilt from the log meanwhile. Other errors are *InvalidError for an empty
// topic or key, ErrUnsupported without an index, ctx's, and ErrClosed.
func (s *Store) Find(ctx context.Context, q index.Query) iter.Seq2[*message.Record, error] {
	return func(yield func(*message.Record, error) bool) {
		if err := s.findable(ctx); err != nil {
			yield(nil, err)
			return
		}
		gone := false
		q.Limit = s.findLimit(q.Limit)
		res, err := s.index.Find(ctx, q, s.candidate, func(r *message.Record) bool {
			gone = !yield(r, nil)
			return !gone
		})
		switch {
		case gone:
		case err != nil && s.closed.Load():
			yield(nil, ErrClosed)
		case err != nil:
			yield(nil, err)
		case res.Truncated:
			yield(nil, &TruncatedError{Found: res.Found, Complete: res.Complete})
		}
	}
}

// TruncatedError says that a query met a bound before it had seen everything.
// What was yielded is complete for log positions from Complete on; a query with
// Before = Complete goes on behind it.
type TruncatedError struct {
	Found    int
	Complete int64
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("store: query cut off after %d messages, complete down to position %d", e.Found, e.Complete)
}

// findLimit is how many messages a query yields: with RocketMQ's sizes of index
// files no more than RocketMQ does.
func (s *Store) findLimit(asked int) int {
	if asked == 0 {
		asked = index.DefaultLimit
	}
	if s.format.indexSlots == rocketMQSlots && s.format.indexEntries == rocketMQEntries {
		asked = min(asked, index.RocketMQLimit)
	}
	return asked
}

func (s *Store) findable(ctx context.Context) error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.index == nil {
		return fmt.Errorf("store: find: the store was opened without an index: %w", ErrUnsupported)
	}
	return s.index.Wait(ctx, math.MaxInt64)
}

// candidate reads a record that the index names.
func (s *Store) candidate(position int64) (*message.Record, error) {
	r := new(message.Record)
	if err := s.log.RecordAt(position, r); err != nil {
		return nil, err
	}
	if !s.topics.alive(r.Topic(), position) {
		return nil, ErrNotFound
	}
	return r, nil
}

// ByOffsetID returns the message that RocketMQ's offset id names: the store's
// host and the record's log position in hex, as message.OffsetID makes it.
func (s *Store) ByOffsetID(ctx context.Context, id string) (message.Record, error) {
	_, position, err := message.ParseOffsetID(id)
	if err != nil {
		return message.Record{}, &InvalidError{Field: "offset id", Reason: err.Error()}
	}
	return s.Get(ctx, position)
}

// At returns the message at an offset of a queue. The error is *RangeError for
// an offset without one, also at the queue's end.
func (s *Store) At(ctx context.Context, q message.Queue, offset int64) (message.Record, error) {
	b, err := s.Read(ctx, q, offset, message.Limit{Count: 1}, nil)
	if err != nil {
		return message.Record{}, err
	}
	if len(b.Records) == 0 || b.Records[0].Offset() != offset {
		start, end, err := s.Bounds(q)
		if err != nil {
			return message.Record{}, err
		}
		return message.Record{}, &RangeError{Queue: q, Offset: offset, Start: start, End: end}
	}
	return b.Records[0], nil
}

// Between yields the messages of a topic that were stored in [from, to), in the
// order of the log. It sees what was visible when it began. A zero to means no
// end. The consumer of the sequence owns the records.
func (s *Store) Between(ctx context.Context, topic string, from, to time.Time) iter.Seq2[*message.Record, error] {
	return func(yield func(*message.Record, error) bool) {
		m, err := s.merge(ctx, topic, from)
		if err != nil {
			yield(nil, err)
			return
		}
		for {
			r, err := m.next(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			if r == nil || !to.IsZero() && r.StoredAtMillis() >= to.UnixMilli() {
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// merger reads the queues of a topic side by side, lowest log position first.
// Store times never fall along the log, so that is also the order of time.
type merger struct {
	s    *Store
	lane []lane
}

type lane struct {
	q       message.Queue
	at, end int64
	batch   []message.Record
}

func (s *Store) merge(ctx context.Context, topic string, from time.Time) (*merger, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	tp, ok := s.topics.get(topic)
	if !ok {
		return nil, fmt.Errorf("store: topic %q: %w", topic, ErrNotFound)
	}
	m := &merger{s: s}
	for id := range tp.row.Load().ReadQueues {
		q := message.Queue{Topic: topic, ID: int32(id)}
		at, err := s.OffsetAt(q, from, message.Lower)
		if err != nil {
			return nil, err
		}
		_, end, err := s.Bounds(q)
		if err != nil {
			return nil, err
		}
		m.lane = append(m.lane, lane{q: q, at: at, end: end})
	}
	return m, ctx.Err()
}

// next returns the record with the lowest position, nil at the end of all lanes.
func (m *merger) next(ctx context.Context) (*message.Record, error) {
	var best *lane
	for i := range m.lane {
		l := &m.lane[i]
		if err := l.fill(ctx, m.s); err != nil {
			return nil, err
		}
		if len(l.batch) > 0 && (best == nil || l.batch[0].Position() < best.batch[0].Position()) {
			best = l
		}
	}
	if best == nil {
		return nil, nil
	}
	r := &best.batch[0]
	best.batch = best.batch[1:]
	return r, nil
}

func (l *lane) fill(ctx context.Context, s *Store) error {
	for len(l.batch) == 0 && l.at < l.end {
		n := int(min(l.end-l.at, readCount))
		b, err := s.Read(ctx, l.q, l.at, message.Limit{Count: n}, nil)
		if err != nil {
			return err
		}
		if b.Next == l.at {
			l.at = l.end
			return nil
		}
		l.batch, l.at = b.Records, b.Next
	}
	return nil
}
