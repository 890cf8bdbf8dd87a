package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// Put stores one message in queue m.QueueID of m.Topic and returns when it is
// as durable as m.Durability, or else the store, promises. It is readable then,
// except that an InCache message in an OnDisk store becomes readable with the
// next sync. An unknown topic is created with 4 queues unless WithoutTopicCreation.
// Messages of one queue get ascending offsets in the order in which their puts
// are served; a put that starts after another one has returned comes behind it.
//
// With WithDedupe, a message whose key is known is not stored again: Put returns
// the receipt of the first.
//
// Put does not keep or change m. ctx bounds the wait only: when it ends first
// the error wraps ctx's and the outcome is unknown, so a caller that sends again
// must be ready for the message twice.
//
// Nothing is stored when the error is *InvalidError, *NameError, *SizeError,
// ErrNotFound (topic or queue), ErrPermission, ErrKind, ErrDiskFull (puts
// resume when there is room), ErrReadOnly or ErrClosed. ErrPoisoned, with the cause, means
// that a write or sync has failed: this store takes no more puts, reads go on,
// and whether this message is stored is known only after a new Open.
func (s *Store) Put(ctx context.Context, m *message.Message) (message.Receipt, error) {
	p, err := s.prepareOne(ctx, m)
	if err != nil {
		return message.Receipt{}, err
	}
	if r, stored, err := s.once(ctx, p, m); stored || err != nil {
		return r, err
	}
	if err := s.log.Append(ctx, &p.group); err != nil {
		return message.Receipt{}, s.failed(p, err)
	}
	r := p.receipt(0)
	p.answer(r)
	s.done(p)
	return r, nil
}

// PutBatch stores messages as one atomic group: after a crash all of them are
// there or none. They may go to different topics and queues; messages of one queue keep
// their order. The batch is as durable as its most demanding message. It is
// limited to 65,535 messages and to the bytes that fit one segment and
// WithMaxUnsynced; beyond that the error is *SizeError. The receipts are in the order of ms.
// Otherwise it behaves like Put.
func (s *Store) PutBatch(ctx context.Context, ms []*message.Message) ([]message.Receipt, error) {
	if len(ms) == 0 {
		return nil, s.writable()
	}
	if s.dedupe != nil {
		return s.putOnce(ctx, ms)
	}
	p, err := s.prepare(ctx, ms)
	if err != nil {
		return nil, err
	}
	if err := s.log.Append(ctx, &p.group); err != nil {
		return nil, s.failed(p, err)
	}
	rs := p.receipts()
	s.done(p)
	return rs, nil
}

// PutAsync queues a message and returns at once; the Pending tells the outcome,
// under the same promises as Put. Messages of one goroutine to one queue are stored
// in the order of the calls. ctx bounds only the wait for room when too much is
// in flight (WithMaxUnsynced bytes). m may be used again when PutAsync returns.
func (s *Store) PutAsync(ctx context.Context, m *message.Message) *message.Pending {
	pending := message.NewPending()
	p, err := s.prepareOne(ctx, m)
	if err != nil {
		pending.Resolve(message.Receipt{}, err)
		return pending
	}
	if r, stored, err := s.once(ctx, p, m); stored || err != nil {
		pending.Resolve(r, err)
		return pending
	}
	p.pending, p.group.Done = pending, answer
	if err := s.log.AppendAsync(ctx, &p.group); err != nil {
		pending.Resolve(message.Receipt{}, s.failed(p, err))
	}
	return pending
}

// putSystem appends a record of the store's own, durably, from the reserve.
// closes are sequences that end with this record.
func (s *Store) putSystem(ctx context.Context, home *queue, m *message.Message, reserved []message.Property, closes []*commitlog.Sequence) error {
	p := s.getPutting()
	m.Topic, m.QueueID = home.name.Topic, home.name.ID
	e := message.Envelope{BornHost: s.format.host, StoreHost: s.format.host, Reserved: reserved}
	en := p.group.Add()
	if err := en.Draft.Encode(m, home.name, &e); err != nil {
		s.putPutting(p)
		return err
	}
	en.Home, en.Seq = home, home.seq
	p.group.OnDisk, p.group.Reserve, p.group.Closes = true, true, closes
	if err := s.log.Append(ctx, &p.group); err != nil {
		return s.failed(p, err)
	}
	s.done(p)
	return nil
}

// prepareOne is prepare for a single message, without a slice.
func (s *Store) prepareOne(ctx context.Context, m *message.Message) (*putting, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	p := s.getPutting()
	err := s.fill(p, 0, m, 1)
	if err == nil && p.newTopics {
		err = s.makeTopics(ctx, p, []*message.Message{m})
	}
	if err == nil {
		err = s.timersRoom(ctx, p)
	}
	if err != nil {
		s.putPutting(p)
		return nil, err
	}
	return p, nil
}

func (s *Store) prepare(ctx context.Context, ms []*message.Message) (*putting, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	if len(ms) > maxGroup {
		return nil, &SizeError{What: "messages in a batch", Size: int64(len(ms)), Limit: maxGroup}
	}
	p := s.getPutting()
	for i, m := range ms {
		if err := s.fill(p, i, m, len(ms)); err != nil {
			s.putPutting(p)
			if len(ms) > 1 {
				err = fmt.Errorf("store: message %d of the batch: %w", i, err)
			}
			return nil, err
		}
	}
	var err error
	if p.newTopics {
		err = s.makeTopics(ctx, p, ms)
	}
	if err == nil {
		err = s.timersRoom(ctx, p)
	}
	if err != nil {
		s.putPutting(p)
		return nil, err
	}
	return p, nil
}

// admit says whether puts are taken at all right now.
func (s *Store) admit(ctx context.Context) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.full.Load() {
		return fmt.Errorf("store: the disk is at its full watermark: %w", ErrDiskFull)
	}
	if s.queues.Pressure() {
		err := s.queues.Err()
		if !fs.IsFull(err) {
			err = s.queues.Wait(ctx)
		}
		if fs.IsFull(err) {
			err = fmt.Errorf("store: queue entries find no room: %w: %w", ErrDiskFull, err)
		}
		return err
	}
	return nil
}

// fill checks and encodes message i of n outside any lock, and resolves its queue
// unless the topic has to be made first.
func (s *Store) fill(p *putting, i int, m *message.Message, n int) error {
	if m == nil {
		return &InvalidError{Field: "Message", Reason: "is nil"}
	}
	tp, known := s.topics.get(m.Topic)
	if known {
		if err := accepts(&tp.row.Load().Topic, m, p.half != nil); err != nil {
			return err
		}
	} else if err := s.creatable(m, p.half != nil); err != nil {
		return err
	}
	switch {
	case len(m.Body) > s.cfg.maxBody:
		return &SizeError{What: "body", Size: int64(len(m.Body)), Limit: int64(s.cfg.maxBody)}
	case m.Durability > message.InCache:
		return &InvalidError{Field: "Durability", Reason: "unknown"}
	}
	e := &p.envelope
	e.BornHost, e.StoreHost = s.format.host, s.format.host
	e.Reserved = p.reserved[:0]
	if n > 1 && i == 0 {
		e.Reserved = append(e.Reserved, message.Property{Name: message.PropGroup, Value: message.GroupValue(n), Own: true})
	}
	to, timer, err := s.route(p, i, m)
	if err != nil {
		return err
	}
	if s.cfg.uniqueID && timer == "" && m.UniqueID == "" && p.half == nil { // the handle of what waits is its unique id
		e.Reserved = append(e.Reserved, message.Property{Name: message.PropUniqKey, Value: s.ids.Next()})
	}
	en := p.group.Add()
	if err := en.Draft.Encode(m, to, e); err != nil {
		return err
	}
	if known && to.Topic != m.Topic {
		tp, known = s.topics.get(to.Topic)
	}
	if known {
		if q, ok := tp.queue(to.ID); ok {
			en.Home, en.Seq = q, q.seq
		}
	}
	p.newTopics = p.newTopics || en.Home == nil
	if m.Durability == message.OnDisk || m.Durability == message.StoreDefault && s.cfg.durability == message.OnDisk {
		p.group.OnDisk = true
	}
	return nil
}

// accepts says whether a topic takes a message, or a half.
func accepts(t *Topic, m *message.Message, half bool) error {
	switch {
	case t.Permission&PermWrite == 0:
		return fmt.Errorf("store: put to topic %s: %w", t.Name, ErrPermission)
	case m.QueueID < 0 || int(m.QueueID) >= t.WriteQueues:
		return fmt.Errorf("store: topic %s has write queues 0..%d, not %d: %w", t.Name, t.WriteQueues-1, m.QueueID, ErrNotFound)
	case t.Kind != KindAny && t.Kind != kindOf(m, half):
		return fmt.Errorf("store: topic %s takes %v messages, this one is %v: %w", t.Name, t.Kind, kindOf(m, half), ErrKind)
	case message.IsSystemTopic(t.Name):
		return ownTopic(t.Name)
	}
	return nil
}

func ownTopic(name string) error {
	return &NameError{Kind: "topic", Name: name, Reason: "belongs to the store itself"}
}

func kindOf(m *message.Message, half bool) Kind {
	switch {
	case half:
		return KindTransactional
	case m.DelayLevel != 0 || m.Delay != 0 || !m.DeliverAt.IsZero():
		return KindDelayed
	case m.ShardingKey != "":
		return KindOrdered
	}
	return KindNormal
}

// creatable says whether the unknown topic of a message may be made for it.
func (s *Store) creatable(m *message.Message, half bool) error {
	if err := s.topics.free(m.Topic); err != nil {
		return err
	}
	if s.cfg.noAutoCreate {
		return fmt.Errorf("store: topic %s: %w", m.Topic, ErrNotFound)
	}
	t := s.autoTopic(m.Topic)
	return accepts(&t, m, half)
}

func (s *Store) autoTopic(name string) Topic {
	return Topic{Name: name}.withDefaults(Topic{ReadQueues: s.cfg.topicQueues, WriteQueues: s.cfg.topicQueues})
}

// makeTopics creates the topics that a group lacks. Everything else about the
// group is known to be good by then: what is refused leaves no topic behind.
func (s *Store) makeTopics(ctx context.Context, p *putting, ms []*message.Message) error {
	if size, limit := p.size(), s.log.GroupLimit(); size > limit {
		return &SizeError{What: "group", Size: size, Limit: limit}
	}
	for i, m := range ms {
		en := &p.group.Entries[i]
		if en.Home != nil {
			continue
		}
		tp, ok := s.topics.get(m.Topic)
		if !ok {
			var err error
			tp, err = s.topics.create(ctx, s.autoTopic(m.Topic))
			if errors.Is(err, ErrExists) { // another put was faster
				tp, ok = s.topics.get(m.Topic)
				if err = nil; !ok {
					err = fmt.Errorf("store: topic %s: %w", m.Topic, ErrNotFound)
				}
			}
			if err != nil {
				return err
			}
		}
		if err := accepts(&tp.row.Load().Topic, m, p.half != nil); err != nil {
			return err
		}
		q, _ := tp.queue(m.QueueID)
		for j := range p.waits {
			if w := &p.waits[j]; w.entry == i {
				var err error
				if q, err = s.systemQueue(ctx, w.in); err != nil {
					return err
				}
			}
		}
		en.Home, en.Seq = q, q.seq
	}
	return nil
}
