package consumer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/embermq/embermq/message"
)

// DedupeEngine is where DedupeInStore remembers. *store.Store is one.
type DedupeEngine interface {
	// Put stores a message.
	Put(ctx context.Context, m *message.Message) (message.Receipt, error)
	// Read returns records from an offset on.
	Read(ctx context.Context, q message.Queue, from int64, n message.Limit, f message.Filter) (message.Batch, error)
	// Bounds are a queue's first kept offset and the next one to be assigned; the
	// error for an unknown queue is ErrNotFound.
	Bounds(q message.Queue) (start, end int64, err error)
	// OffsetAt finds an offset by the time at which records were stored.
	OffsetAt(q message.Queue, t time.Time, b message.Bound) (int64, error)
}

// DedupeInStore remembers in memory and in queue 0 of a topic, of which it reads
// the last Window when it is made. The topic is its own, made by its first message
// unless it is there, and must keep messages for that long. A message counts as
// handled once the kernel has the record about it: a kill of the process forgets
// nothing, a power cut may forget what the store had not synced.
//
// One Deduper per topic serves the whole process.
func DedupeInStore(ctx context.Context, e DedupeEngine, topic string, o DedupeOptions) (Deduper, error) {
	if err := message.CheckTopic(topic); err != nil {
		return nil, fmt.Errorf("consumer: dedupe: %w", err)
	}
	s := &stored{memory: newMemory(o), e: e, queue: message.Queue{Topic: topic}}
	if err := s.load(ctx); err != nil {
		return nil, fmt.Errorf("consumer: dedupe: read %s: %w", topic, err)
	}
	return s, nil
}

// stored is a memory that outlives its process. A record's body is the group, a
// zero byte and the key. On disk.
type stored struct {
	*memory
	e     DedupeEngine
	queue message.Queue
}

func (s *stored) load(ctx context.Context) error {
	first, end, err := s.e.Bounds(s.queue)
	if errors.Is(err, message.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	at, err := s.e.OffsetAt(s.queue, s.o.Clock.Now().Add(-s.o.Window), message.Lower)
	if err != nil {
		return err
	}
	for at = max(at, first); at < end; {
		b, err := s.e.Read(ctx, s.queue, at, message.Limit{}, nil)
		if err != nil {
			return err
		}
		if b.Next == at {
			return nil
		}
		for i := range b.Records {
			groupName, key, _ := strings.Cut(string(b.Records[i].Body()), "\x00")
			s.remember(dedupeID{groupName, key}, b.Records[i].StoredAt())
		}
		at = b.Next
	}
	return nil
}

// Done is Deduper.Done.
func (s *stored) Done(ctx context.Context, groupName string, d *Delivery) error {
	id := cloneID(s.id(groupName, d))
	m := &message.Message{
		Topic: s.queue.Topic, Body: []byte(id.group + "\x00" + id.key),
		Durability: message.InCache, Unindexed: true,
	}
	r, err := s.e.Put(ctx, m)
	if err != nil {
		return fmt.Errorf("consumer: dedupe: %w", err)
	}
	s.remember(id, r.StoredAt)
	return nil
}

// cloneID owns its strings, which may alias a record.
func cloneID(id dedupeID) dedupeID {
	return dedupeID{id.group, strings.Clone(id.key)}
}
