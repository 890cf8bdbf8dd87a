package producer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/embermq/embermq/message"
)

// maxGroup is how many messages one atomic group may have.
const maxGroup = 65_535

// overhead is what a record takes besides what its message holds, about.
const overhead = 160

func isBusy(err error) bool { return errors.Is(err, message.ErrBusy) }

// weight is about how many bytes a message takes.
func weight(m *message.Message) int64 {
	n := overhead + len(m.Topic) + len(m.Body) + len(m.Tag) + len(m.ShardingKey) + len(m.IdempotencyKey) + len(m.UniqueID)
	for _, k := range m.Keys {
		n += len(k) + 1
	}
	for k, v := range m.Properties {
		n += len(k) + len(v) + 2
	}
	return int64(n)
}

// SendBatch stores messages as one atomic group: all of them or none, also after
// a crash. They may go to several topics. Of one topic, those without a sharding
// key go to one queue together, in their order. The receipts are in the order of
// ms. Those that the spool takes are sent again one by one. The time and the attempts are those of one send.
//
// A batch of more than 65,535 messages or over the limit (WithMaxBatch, or the
// engine's) is ErrTooLarge. With WithSplit it is cut into groups that are stored one
// after the other. If a later one fails, the receipts are those of the stored ones and
// the error is *PartialError. Otherwise errors are as of Send; those about one
// message say which.
func (p *Producer) SendBatch(ctx context.Context, ms []*message.Message) ([]message.Receipt, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	ss, err := p.prepareBatch(ctx, ms)
	var rs []message.Receipt
	if err == nil && len(ss) > 0 {
		if slices.ContainsFunc(ss, p.mustFollow) {
			err = fmt.Errorf("producer: %w", ErrPrecedingFailed)
		} else {
			rs, err = p.sendGroups(ctx, ss)
		}
		if err != nil {
			err = p.keepAll(ss[len(rs):], err)
		}
	}
	for i, s := range ss {
		if i < len(rs) {
			p.finish(s, rs[i], nil)
		} else {
			p.finish(s, message.Receipt{}, err)
		}
	}
	if n := len(rs); err != nil && n > 0 {
		err = &PartialError{Stored: n, Err: err}
	}
	return rs, err
}

func (p *Producer) prepareBatch(ctx context.Context, ms []*message.Message) ([]*send, error) {
	ss := make([]*send, 0, len(ms))
	shared := make(map[string]*send) // where a topic's messages without a key go
	for i, m := range ms {
		s := new(send)
		ss = append(ss, s)
		err := p.prepare(ctx, s, m)
		if err == nil {
			err = s.m.CheckFields()
		}
		if err != nil {
			return ss, indexed(i, err)
		}
		if s.fixed {
			continue
		}
		if other, ok := shared[s.m.Topic]; ok {
			s.m.QueueID, s.queues = other.m.QueueID, other.queues
		} else {
			shared[s.m.Topic] = s
		}
	}
	return ss, nil
}

// sendGroups stores the batch as one group, or as several with WithSplit. The
// receipts are those of the groups that were stored.
func (p *Producer) sendGroups(ctx context.Context, ss []*send) ([]message.Receipt, error) {
	groups, err := p.cut(ss)
	if err != nil {
		return nil, err
	}
	b := &budget{parent: ctx, limit: p.o.timeout, clock: p.o.clock}
	defer b.stop()
	var rs []message.Receipt
	for len(groups) > 0 {
		g := groups[0]
		more, err := p.attemptGroup(b, g)
		switch {
		case err == nil:
			rs = append(rs, more...)
			groups = groups[1:]
		case p.o.split && len(g) > 1 && errors.Is(err, message.ErrTooLarge):
			// The engine takes less than this producer thought.
			half := len(g) / 2
			groups = append([][]*send{g[:half], g[half:]}, groups[1:]...)
		default:
			return rs, err
		}
	}
	return rs, nil
}

// cut divides a batch into groups within the limits.
func (p *Producer) cut(ss []*send) (groups [][]*send, err error) {
	limit := int64(p.o.maxBatch)
	start, size := 0, int64(0)
	for i, s := range ss {
		n := weight(&s.m)
		if i > start && (size+n > limit || i-start == maxGroup) {
			groups = append(groups, ss[start:i])
			start, size = i, 0
		}
		size += n
		if size > limit {
			return nil, indexed(i, &message.SizeError{What: "message of a batch", Size: n, Limit: limit})
		}
	}
	groups = append(groups, ss[start:])
	if len(groups) == 1 || p.o.split {
		return groups, nil
	}
	if len(ss) > maxGroup {
		return nil, &message.SizeError{What: "messages in a batch", Size: int64(len(ss)), Limit: maxGroup}
	}
	for size = 0; len(ss) > 0; ss = ss[1:] {
		size += weight(&ss[0].m)
	}
	return nil, &message.SizeError{What: "batch", Size: size, Limit: limit}
}

// attemptGroup is attempt for messages that belong together.
func (p *Producer) attemptGroup(b *budget, ss []*send) ([]message.Receipt, error) {
	ms := make([]*message.Message, len(ss))
	for i, s := range ss {
		ms[i] = &s.m
	}
	for {
		rs, err := p.e.PutBatch(b, ms)
		if err == nil {
			return rs, nil
		}
		again := false
		for _, s := range ss {
			again = p.retry(s, b, err) || again
		}
		if !again {
			return nil, ss[0].outcome(err)
		}
	}
}

func indexed(i int, err error) error { return &indexError{i, err} }

// indexError says which message of a batch an error is about.
type indexError struct {
	i   int
	err error
}

func (e *indexError) Error() string {
	return "producer: message " + itoa(e.i) + " of the batch: " + e.err.Error()
}
func (e *indexError) Unwrap() error { return e.err }
