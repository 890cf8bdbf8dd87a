package store

import (
	"context"
	"fmt"
	"time"

	"github.com/embermq/embermq/dedupe"
	"github.com/embermq/embermq/message"
)

// WithDedupe stores a message once that is put several times: a message whose
// IdempotencyKey stands on a record of the same topic is not stored, and the
// put returns that record's receipt. Keys of the last count messages with a key
// are known, up to dedupe.MaxCount, as long as they are younger than window and
// retention has not taken their records. The default is off. A key takes
// 21 to 27 bytes of memory.
//
// Put, PutBatch and PutAsync are checked, delayed messages included: their receipt
// is that of the waiting record, also after they were delivered. In a batch only
// what is new is stored. Of puts of one key at the same time one is stored; the
// others wait for its outcome, as long as their ctx lasts, PutAsync too. A crash
// between the append and the answer changes nothing: whoever puts again gets the
// receipt. What a power cut takes of a store that is InCache, it takes with its
// key.
//
// Half messages are not checked, as they may be rolled back; a commit is not
// either, but the key of a committed message is known. Retries, dead letters and
// other copies that the store makes are neither checked nor known, though they bear
// the key. Record.Message leaves it out, so what was read and is put again is stored.
//
// The first Open with this option reads the whole log to learn the keys.
func WithDedupe(window time.Duration, count int) Option {
	return func(c *config) {
		if window <= 0 || count <= 0 || count > dedupe.MaxCount {
			c.reject("WithDedupe", "window %v and count %d must be positive, count at most %d", window, count, dedupe.MaxCount)
			return
		}
		c.dedupeWindow, c.dedupeCount = window, count
	}
}

func (s *Store) openDedupe() (err error) {
	if s.cfg.dedupeCount == 0 {
		return nil
	}
	s.dedupe, err = dedupe.New(s.db, dedupe.Options{
		Window: s.cfg.dedupeWindow,
		Count:  s.cfg.dedupeCount,
		Read:   s.keyed,
		Clock:  s.cfg.env.Clock,
		Logger: s.cfg.logger,
	})
	if err != nil {
		return fmt.Errorf("store: open dedupe: %w", mapMeta(err))
	}
	s.dispatch.views = append(s.dispatch.views, s.dedupe)
	return nil
}

// keyed reads a record that may bear a key, unless it or its topic is gone.
func (s *Store) keyed(position int64, r *message.Record) error {
	if err := s.log.RecordAt(position, r); err != nil {
		return err
	}
	topic := r.Topic()
	if real, waits := r.Property(message.PropRealTopic); waits && message.IsSystemTopic(topic) {
		topic = real
	}
	if !s.topics.alive(topic, position) {
		return fmt.Errorf("store: topic %s: %w", topic, ErrNotFound)
	}
	return nil
}

// once takes the claim to the key of a message that is ready to be appended. A
// message that is stored already is given up, and r is its receipt.
func (s *Store) once(ctx context.Context, p *putting, m *message.Message) (r message.Receipt, stored bool, err error) {
	if s.dedupe == nil || m.IdempotencyKey == "" {
		return r, false, nil
	}
	c, r, err := s.dedupe.Claim(ctx, m.Topic, m.IdempotencyKey)
	if c != nil {
		p.claims = append(p.claims[:0], c)
		return r, false, nil
	}
	s.putPutting(p)
	if err == nil {
		err = s.asDurable(ctx, m, r)
	}
	if err != nil {
		return message.Receipt{}, false, fmt.Errorf("store: put with an idempotency key: %w", err)
	}
	return r, true, nil
}

// answer tells those who wait for the same key.
func (p *putting) answer(r message.Receipt) {
	for _, c := range p.claims {
		c.Answer(r)
	}
}

// putOnce is PutBatch for what is not stored yet.
func (s *Store) putOnce(ctx context.Context, ms []*message.Message) ([]message.Receipt, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	b, err := s.dedupe.Batch(ctx, ms)
	if err != nil {
		return nil, fmt.Errorf("store: put with an idempotency key: %w", err)
	}
	var rs []message.Receipt
	if len(b.Rest) > 0 {
		p, err := s.prepare(ctx, b.Rest)
		if err != nil {
			b.End()
			return nil, err
		}
		p.claims = b.Claims
		if err := s.log.Append(ctx, &p.group); err != nil {
			return nil, s.failed(p, err)
		}
		rs = b.Receipts(p.receipts())
		s.done(p)
	} else {
		rs = b.Receipts(nil)
	}
	for i, m := range ms {
		if err := s.asDurable(ctx, m, rs[i]); err != nil {
			return nil, err
		}
	}
	return rs, nil
}

// asDurable waits until a record that was stored earlier, perhaps with less care,
// is as durable as a message asks for.
func (s *Store) asDurable(ctx context.Context, m *message.Message, r message.Receipt) error {
	onDisk := m.Durability == message.OnDisk || m.Durability == message.StoreDefault && s.cfg.durability == message.OnDisk
	if !onDisk || r.Position < s.log.Synced() {
		return nil
	}
	return s.log.Sync(ctx)
}
