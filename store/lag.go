package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

// QueueLag is what a group has left to do in one queue.
type QueueLag struct {
	Queue      message.Queue
	Start, End int64
	// Committed is the lowest unsettled offset; Known is false when the group has
	// settled nothing, and all of the queue is counted.
	Committed int64
	Known     bool
	// Records are those not settled, also the ones being handled or leased.
	Records int64
	// Age is how long ago the oldest of them was stored.
	Age time.Duration
}

// GroupLag is what a group has left to do.
type GroupLag struct {
	Queues  []QueueLag // by topic and number
	Records int64
	Age     time.Duration // of the oldest one
}

// Lag tells what a group has not settled in the topics named, or, when none is, in
// those it has a place in, its retry topic among them. The error is ErrNotFound for
// an unknown group or topic and ErrUnsupported for a broadcasting group, whose
// members keep their own places.
func (s *Store) Lag(ctx context.Context, group string, topics ...string) (GroupLag, error) {
	if err := s.hasGroups(); err != nil {
		return GroupLag{}, err
	}
	if err := s.clustering(group); err != nil {
		return GroupLag{}, err
	}
	if len(topics) == 0 {
		for q := range s.progress.Offsets(group) {
			if !slices.Contains(topics, q.Topic) {
				topics = append(topics, q.Topic)
			}
		}
	}
	var lag GroupLag
	for _, name := range topics {
		tp, ok := s.topics.get(name)
		if !ok {
			return GroupLag{}, fmt.Errorf("store: topic %q: %w", name, ErrNotFound)
		}
		for _, q := range *tp.queues.Load() {
			l, err := s.queueLag(ctx, group, q)
			if err != nil {
				return GroupLag{}, err
			}
			lag.Queues = append(lag.Queues, l)
			lag.Records += l.Records
			lag.Age = max(lag.Age, l.Age)
		}
	}
	slices.SortFunc(lag.Queues, func(a, b QueueLag) int {
		return cmp.Or(strings.Compare(a.Queue.Topic, b.Queue.Topic), cmp.Compare(a.Queue.ID, b.Queue.ID))
	})
	return lag, nil
}

func (s *Store) queueLag(ctx context.Context, group string, q *queue) (QueueLag, error) {
	p := s.progress.Place(group, q.name)
	l := QueueLag{Queue: q.name, Known: p.Known, Committed: p.Committed}
	l.Start, l.End = q.entries.Bounds()
	if l.Records = pendingIn(p, l.Start, l.End); l.Records == 0 {
		return l, nil
	}
	position, err := s.positionOf(ctx, q, unsettled(p, l.Start))
	if err != nil {
		return l, s.queueError(err, q)
	}
	var r message.Record
	if err := s.log.RecordAt(position, &r); err != nil {
		return l, s.queueError(err, q)
	}
	l.Age = max(s.cfg.env.Clock.Now().Sub(r.StoredAt()), 0)
	return l, nil
}

// clustering refuses a group whose members keep their own places, by its settings or
// because they have joined so.
func (s *Store) clustering(name string) error {
	g, ok := s.progress.Group(name)
	if !ok {
		return fmt.Errorf("store: group %q: %w", name, ErrNotFound)
	}
	members := s.groups.Members(name)
	if g.Broadcast || len(members) > 0 && members[0].Mode == group.Broadcasting {
		return fmt.Errorf("store: group %s is broadcasting: %w", name, ErrUnsupported)
	}
	return nil
}

// CloneOffsets gives group to what group from has settled in a topic, in place of its
// own there; it is on disk when the call returns, and what consumers of to hold is
// void. The error is ErrNotFound when from has no place in the topic and
// ErrUnsupported when one of them is broadcasting.
func (s *Store) CloneOffsets(ctx context.Context, from, to, topic string) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.clustering(from); err != nil {
		return err
	}
	if err := s.clustering(to); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return s.progress.Clone(ctx, from, to, topic)
}
