package producer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/embermq/embermq/message"
)

// Selector chooses the queue of a message. The functions of this package that
// return one are all there are; ByFunc takes any rule.
type Selector struct {
	// fixed says that a retry stays on the queue.
	pick  func(t *topic, n int, m *message.Message) (queue int32, fixed bool, err error)
	given bool // the message's own queue; nothing is asked for
}

// topic is what a Producer knows of a topic.
type topic struct {
	name   string
	next   atomic.Uint32                   // of the round robin
	queues atomic.Pointer[[]message.Queue] // for selectors that want to see them
}

func newTopic(name string) *topic {
	t := &topic{name: name}
	t.next.Store(rand.Uint32()) // many producers that start together spread out
	return t
}

// list returns the first n queues. It is shared.
func (t *topic) list(n int) []message.Queue {
	if qs := t.queues.Load(); qs != nil && len(*qs) == n {
		return *qs
	}
	qs := make([]message.Queue, n)
	for i := range qs {
		qs[i] = message.Queue{Topic: t.name, ID: int32(i)}
	}
	t.queues.Store(&qs)
	return qs
}

func (t *topic) turn(n int) int32 { return int32((t.next.Add(1) - 1) % uint32(n)) }

// RoundRobin takes the queues of a topic in turn, from a random one on. Messages
// with a sharding key are spread like all others.
func RoundRobin() Selector {
	return Selector{pick: func(t *topic, n int, _ *message.Message) (int32, bool, error) {
		return t.turn(n), false, nil
	}}
}

// Random draws a queue for each message.
func Random() Selector {
	return Selector{pick: func(_ *topic, n int, _ *message.Message) (int32, bool, error) {
		return int32(rand.IntN(n)), false, nil
	}}
}

// ByKey, the default, puts messages of one sharding key into one queue: the
// key's FNV-1a hash, 32 bits, modulo the number of queues. Messages without a key
// go round robin. When a topic gets more queues, keys move.
func ByKey() Selector {
	return Selector{pick: func(t *topic, n int, m *message.Message) (int32, bool, error) {
		if m.ShardingKey == "" {
			return t.turn(n), false, nil
		}
		return int32(fnv1a(m.ShardingKey) % uint32(n)), true, nil
	}}
}

// ByJavaKey is ByKey with the hash of RocketMQ's Java client, String.hashCode,
// so that producers of both kinds agree.
func ByJavaKey() Selector {
	return Selector{pick: func(t *topic, n int, m *message.Message) (int32, bool, error) {
		if m.ShardingKey == "" {
			return t.turn(n), false, nil
		}
		return javaQueue(message.JavaHash(m.ShardingKey), n), true, nil
	}}
}

// javaQueue takes the remainder first: the smallest int has no absolute value.
func javaQueue(hash int32, n int) int32 {
	q := int64(hash) % int64(n)
	if q < 0 {
		q = -q
	}
	return int32(q)
}

func fnv1a(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

// ByFunc asks f, which gets the topic's queues and the message and must change
// neither. A retry stays on the queue. If f panics, fails or returns a queue that
// the topic does not have, nothing is stored and the error is *SelectorError.
func ByFunc(f func(qs []message.Queue, m *message.Message) (message.Queue, error)) Selector {
	return Selector{pick: func(t *topic, n int, m *message.Message) (id int32, fixed bool, err error) {
		defer func() {
			if v := recover(); v != nil {
				err = &SelectorError{Topic: t.name, Panic: v}
			}
		}()
		q, err := f(t.list(n), m)
		if err != nil {
			return 0, true, &SelectorError{Topic: t.name, Err: err}
		}
		if q.Topic != t.name || q.ID < 0 || int(q.ID) >= n {
			return 0, true, &SelectorError{Topic: t.name, Queue: q}
		}
		return q.ID, true, nil
	}}
}

// errNoRoom is inside the error of a topic that has no queue in the given rooms.
var errNoRoom = errors.New("no queue in the given machine rooms")

// InRooms goes round robin over the queues whose machine room, as room tells, is
// one of rooms. If there are none the error matches ErrNotFound. room is asked
// about every queue for every message and must be fast.
func InRooms(room func(message.Queue) string, rooms ...string) Selector {
	rooms = slices.Clone(rooms)
	return Selector{pick: func(t *topic, n int, _ *message.Message) (id int32, fixed bool, err error) {
		defer func() {
			if v := recover(); v != nil {
				err = &SelectorError{Topic: t.name, Panic: v}
			}
		}()
		qs := t.list(n)
		start := int(t.turn(n))
		for i := range qs {
			if q := qs[(start+i)%n]; slices.Contains(rooms, room(q)) {
				// A retry on the next queue might leave the room.
				return q.ID, true, nil
			}
		}
		return 0, true, fmt.Errorf("producer: topic %s: %w: %w", t.name, errNoRoom, message.ErrNotFound)
	}}
}

// choose sets the queue of a send.
func (p *Producer) choose(s *send) error {
	if p.o.selector.given {
		if s.m.QueueID < 0 {
			return &message.InvalidError{Field: "QueueID", Reason: "negative"}
		}
		s.fixed = true
		return nil
	}
	n, err := p.e.QueueCount(s.m.Topic)
	if err != nil {
		return err
	}
	if n < 1 {
		return fmt.Errorf("producer: topic %s has no queues: %w", s.m.Topic, message.ErrNotFound)
	}
	s.queues = int32(n)
	s.m.QueueID, s.fixed, err = p.o.selector.pick(s.topic, n, &s.m)
	return err
}

// elsewhere moves a send to the next queue, if it may go there.
func (s *send) elsewhere() {
	if !s.fixed && s.queues > 1 {
		s.m.QueueID = (s.m.QueueID + 1) % s.queues
	}
}
