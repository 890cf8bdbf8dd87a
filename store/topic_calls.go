package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/message"
)

// CreateTopic makes a topic; it is on disk when the call returns. Zero fields
// take their defaults. A topic that was deleted starts again empty and its
// queues continue their offsets, so that an old offset never names a new message.
//
// The error is *NameError for a name that cannot be used (also one that differs
// only in case from an existing topic's), *InvalidError for other settings, or
// ErrExists.
func (s *Store) CreateTopic(ctx context.Context, t Topic) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.topics.free(t.Name); err != nil {
		return err
	}
	_, err := s.topics.create(ctx, t.withDefaults(Topic{WriteQueues: s.cfg.topicQueues}))
	return err
}

// UpdateTopic changes queue numbers, permission and kind of a living topic;
// the change is on disk when the call returns and holds for every later put and read.
// Numbers and a permission of zero stay as they are; the kind is set. Messages in
// queues beyond a lowered ReadQueues stay stored and are readable again when it
// is raised.
//
// The error is ErrNotFound for an unknown topic, *InvalidError for a setting.
func (s *Store) UpdateTopic(ctx context.Context, t Topic) error {
	if err := s.writable(); err != nil {
		return err
	}
	if message.IsSystemTopic(t.Name) {
		return ownTopic(t.Name)
	}
	return s.topics.update(ctx, t)
}

// Topics lists the users' topics, sorted by name.
func (s *Store) Topics() []Topic { return s.topics.list() }

// QueueCount is the number of queues a producer may write to. For a topic that a
// put would create it is the number that the topic would get, so that a key
// keeps the queue of its first message. Otherwise an unknown topic is ErrNotFound.
func (s *Store) QueueCount(topic string) (int, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	tp, ok := s.topics.get(topic)
	if !ok {
		if s.cfg.noAutoCreate || s.cfg.readOnly || message.IsSystemTopic(topic) || s.topics.free(topic) != nil {
			return 0, fmt.Errorf("store: topic %q: %w", topic, ErrNotFound)
		}
		return s.autoTopic(topic).WriteQueues, nil
	}
	return tp.row.Load().WriteQueues, nil
}

// DeleteTopic deletes a topic with its messages. The deletion is a record in the
// log, on disk when the call returns, so that no rebuild brings the topic back.
// Puts that overlap the call end up before it and are deleted, or get
// ErrNotFound. Readers of the topic get ErrNotFound. Its pending timers and halves
// go with it: the logger is told how many, and Stats counts them. ctx is looked at
// before the deletion begins, which is then carried through.
func (s *Store) DeleteTopic(ctx context.Context, name string) error {
	if err := s.writable(); err != nil {
		return err
	}
	if message.IsSystemTopic(name) {
		return ownTopic(name)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, ok := s.topics.get(name); !ok {
		return fmt.Errorf("store: topic %q: %w", name, ErrNotFound)
	}
	ctx = context.WithoutCancel(ctx)
	home, err := s.systemQueue(ctx, message.Queue{Topic: message.TopicTopics})
	if err != nil {
		return err
	}
	s.topics.change.Lock()
	defer s.topics.change.Unlock()
	tp, ok := s.topics.get(name)
	if !ok {
		return fmt.Errorf("store: topic %q: %w", name, ErrNotFound)
	}
	var seqs []*commitlog.Sequence
	for _, q := range *tp.queues.Load() {
		seqs = append(seqs, q.seq)
	}
	// From the log position of this record on the sequences are closed: a put
	// that has resolved the topic already is refused, not written behind it.
	halves := s.halves.Stats().Dropped
	err = s.putSystem(ctx, home, &message.Message{Body: []byte(name)}, []message.Property{{Name: message.PropDeletes, Value: name, Own: true}}, seqs)
	if err != nil {
		return err
	}
	// Invariant: the groups' offsets in the topic are gone from meta before its row
	// says that it is dead: a replay that finds the row so does not drop them again.
	if err := s.progress.Flush(ctx); err != nil {
		return err
	}
	s.groups.Refresh(name)
	s.cfg.logger.Info("topic deleted", "topic", name, "timers", s.timers.Dropped(name), "halves", s.halves.Stats().Dropped-halves)
	// The queues' files are derived: a failure here is repaired by the next Open.
	return errors.Join(s.topics.saveRow(ctx, name), s.queues.Delete(name))
}

// systemQueue returns a queue of one of the store's own topics, made when it is
// missing with as many queues as RocketMQ gives the topic.
func (s *Store) systemQueue(ctx context.Context, name message.Queue) (*queue, error) {
	if q, ok := s.topics.queue(name); ok {
		return q, nil
	}
	n := 1
	if name.Topic == message.TopicSchedule {
		n = len(s.levels)
	}
	n = max(n, int(name.ID)+1)
	t := Topic{Name: name.Topic, ReadQueues: n, WriteQueues: n}.withDefaults(Topic{})
	_, err := s.topics.create(ctx, t)
	if errors.Is(err, ErrExists) {
		if q, ok := s.topics.queue(name); ok {
			return q, nil // another call was faster
		}
		err = s.topics.update(ctx, t) // the table of levels has grown
	}
	if err != nil {
		return nil, err
	}
	q, ok := s.topics.queue(name)
	if !ok {
		return nil, fmt.Errorf("store: queue %s: %w", name, ErrNotFound)
	}
	return q, nil
}
