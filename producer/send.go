package producer

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/embermq/embermq/message"
)

// send is one message on its way. It owns m, not what m points to.
type send struct {
	m        message.Message
	ctx      context.Context // the caller's, or an interceptor's
	topic    *topic
	queues   int32 // how many there were when one was chosen
	fixed    bool  // a retry stays on the queue
	attempts int
	unknown  bool // an attempt has ended without anybody knowing how
	oneWay   bool
	again    bool      // it comes out of the spool
	spare    *budget   // for the next send: no timer was made from it
	befores  int       // interceptors that have seen it
	began    time.Time // if somebody wants to know how long it took
}

// Send sends one message and returns when the engine has stored it. It neither
// changes nor keeps m.
//
// A send that fails with ErrBusy or by a time-out of the engine is tried up to
// two more times, all within 3 seconds (WithRetries, WithTimeout). If ctx or that
// time ends during an attempt, or an attempt fails without saying how, the error
// is *UnknownError: the message may be stored or not, and may be stored later.
// After any other error it is not stored. Those are *NameError, *InvalidError
// and *SizeError for a message that cannot be sent; *SelectorError; ErrNotFound,
// ErrPermission, ErrKind, ErrDiskFull and others of the engine; ErrBusy after the
// last attempt; ErrClosed; ctx's if it had ended before. Matching ErrSpooled beside
// these, the message is in the spool and will be sent.
func (p *Producer) Send(ctx context.Context, m *message.Message) (message.Receipt, error) {
	if err := p.enter(); err != nil {
		return message.Receipt{}, err
	}
	defer p.leave()
	s := p.newSend()
	r, err := p.sendOne(ctx, s, m)
	p.freeSend(s)
	return r, err
}

func (p *Producer) sendOne(ctx context.Context, s *send, m *message.Message) (r message.Receipt, err error) {
	if err = p.prepare(ctx, s, m); err == nil {
		if p.mustFollow(s) {
			err = p.keep(s, fmt.Errorf("producer: %w", ErrPrecedingFailed))
		} else if r, err = p.attempt(s); err != nil {
			err = p.keep(s, err)
		}
	}
	p.finish(s, r, err)
	return r, err
}

func (p *Producer) newSend() *send {
	if s, ok := p.sends.Get().(*send); ok {
		return s
	}
	return new(send)
}

func (p *Producer) freeSend(s *send) {
	*s = send{spare: s.spare}
	p.sends.Put(s)
}

// prepare does everything that comes before the first attempt.
func (p *Producer) prepare(ctx context.Context, s *send, m *message.Message) error {
	s.ctx = ctx
	if m == nil {
		return &message.InvalidError{Field: "Message", Reason: "is nil"}
	}
	s.m = *m
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.o.sends != nil {
		s.began = p.o.clock.Now()
	}
	if p.o.uniqueID && s.m.UniqueID == "" {
		s.m.UniqueID = p.ids.Next()
	}
	if p.o.dedupe && s.m.IdempotencyKey == "" {
		s.m.IdempotencyKey = p.idempotencyKey(m)
	}
	if p.o.trace != nil && !s.again {
		p.o.trace(ctx, message.CarrierOf(&s.m))
	}
	for _, i := range p.o.intercept {
		s.befores++
		if i.Before == nil {
			continue
		}
		c, err := i.Before(s.ctx, &s.m)
		if err != nil {
			return err
		}
		if c != nil {
			s.ctx = c
		}
	}
	if s.m.Properties != nil {
		dropBadTrace(&s.m)
	}
	if err := p.check(s); err != nil {
		return err
	}
	if p.o.encoding != message.None && s.m.Encoding == message.None && len(s.m.Body) >= p.o.threshold {
		compress(&s.m, p.o.encoding)
	}
	return p.choose(s)
}

func (p *Producer) idempotencyKey(m *message.Message) string {
	if p.o.dedupeKey != nil {
		return p.o.dedupeKey(m)
	}
	return p.ids.Next()
}

// check validates what costs next to nothing; the engine does the rest.
func (p *Producer) check(s *send) error {
	m := &s.m
	known := p.topics.Load()
	if s.topic = (*known)[m.Topic]; s.topic == nil {
		var err error
		if s.topic, err = p.newTopic(m.Topic); err != nil {
			return err
		}
	}
	if len(m.Body) > p.o.maxBody {
		return &message.SizeError{What: "body", Size: int64(len(m.Body)), Limit: int64(p.o.maxBody)}
	}
	return nil
}

// newTopic checks the name of a topic and remembers that it is good. The map is
// replaced, not changed: every send looks into it.
func (p *Producer) newTopic(name string) (*topic, error) {
	if err := message.CheckTopic(name); err != nil {
		return nil, err
	}
	if message.IsSystemTopic(name) {
		return nil, &message.NameError{Kind: "topic", Name: name, Reason: "belongs to the store itself"}
	}
	p.learning.Lock()
	defer p.learning.Unlock()
	known := *p.topics.Load()
	if t := known[name]; t != nil {
		return t, nil
	}
	t := newTopic(strings.Clone(name))
	if len(known) >= maxTopics {
		known = nil // forget them: only turns are lost
	}
	more := make(map[string]*topic, len(known)+1)
	maps.Copy(more, known)
	more[t.name] = t
	p.topics.Store(&more)
	return t, nil
}

// maxTopics bounds what is remembered, as names may come from anywhere.
const maxTopics = 10_000

// compress replaces the body if that makes it smaller. A body that does not
// compress is sent as it is.
func compress(m *message.Message, e message.Encoding) {
	b, err := message.Compress(make([]byte, 0, len(m.Body)/2), m.Body, e)
	if err == nil && len(b) < len(m.Body) {
		m.Body, m.Encoding = b, e
	}
}

func dropBadTrace(m *message.Message) {
	parent, ok := m.Properties[message.PropTraceparent]
	if !ok {
		return
	}
	if _, good := message.ParseTraceparent(parent); good {
		return
	}
	kept := make(map[string]string, len(m.Properties))
	for k, v := range m.Properties {
		if k != message.PropTraceparent && k != message.PropTracestate {
			kept[k] = v
		}
	}
	m.Properties = kept
}

// attempt tries until the message is stored, or it makes no sense any more.
func (p *Producer) attempt(s *send) (message.Receipt, error) {
	b := s.spare
	if b == nil {
		b = new(budget)
	}
	s.spare = nil
	b.parent, b.limit, b.clock = s.ctx, p.o.timeout, p.o.clock
	for {
		r, err := p.e.Put(b, &s.m)
		if err != nil && p.retry(s, b, err) {
			continue
		}
		if b.timed.Load() == nil && b.limit > 0 { // nobody has derived from it
			b.parent = nil
			s.spare = b
		} else {
			b.stop()
		}
		if err != nil {
			return message.Receipt{}, s.outcome(err)
		}
		return r, nil
	}
}

// retry decides about a failed attempt and prepares the next one.
func (p *Producer) retry(s *send, b *budget, err error) bool {
	s.unknown = s.unknown || isUnknown(err)
	s.attempts++
	if s.oneWay || s.attempts > p.o.retries || b.Err() != nil || !isBusy(err) && !isTimeout(err) {
		return false
	}
	s.elsewhere()
	return b.begin().Err() == nil
}

// outcome is the error of a send whose last attempt ended with err.
func (s *send) outcome(err error) error {
	if s.unknown {
		return &UnknownError{ID: s.m.UniqueID, Topic: s.m.Topic, Err: err}
	}
	return err
}

// finish tells everybody who wants to know. err is final.
func (p *Producer) finish(s *send, r message.Receipt, err error) {
	if err == nil {
		p.sent.Add(1)
	} else {
		p.failed.Add(1)
		if s.oneWay {
			p.lost.Add(1)
		}
	}
	for i := s.befores - 1; i >= 0; i-- {
		if f := p.o.intercept[i].After; f != nil {
			f(s.ctx, &s.m, r, err)
		}
	}
	if p.o.sends != nil {
		p.log(s, r, err)
	}
	if err != nil && p.o.onFailure != nil && !s.again && !isFault(err) {
		p.o.onFailure(s.ctx, &s.m, err)
	}
}

func (p *Producer) log(s *send, r message.Receipt, err error) {
	a := make([]slog.Attr, 0, 8)
	a = append(a, slog.String("topic", s.m.Topic), slog.String("keys", strings.Join(s.m.Keys, " ")),
		slog.String("id", s.m.UniqueID), slog.Int("queue", int(s.m.QueueID)))
	if err == nil {
		a = append(a, slog.Int64("offset", r.Offset))
	} else {
		a = append(a, slog.Int64("offset", -1), slog.String("error", err.Error()))
	}
	if !s.began.IsZero() {
		a = append(a, slog.Duration("time", p.o.clock.Now().Sub(s.began)))
	}
	p.o.sends.LogAttrs(s.ctx, slog.LevelInfo, "send", a...)
}

// early wraps ctx's error when nothing has been sent.
func early(err error) error { return fmt.Errorf("producer: not sent: %w", err) }
