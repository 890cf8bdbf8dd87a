package consumer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/embermq/embermq/message"
)

// youngDefault is how far back a start by time without a time lies: RocketMQ's.
const youngDefault = 30 * time.Minute

// start says where to begin in a queue. RocketMQ's ConsumeFromWhere is one case
// of it:
//
//	stored offset         FIRST    LAST     TIMESTAMP
//	there is one          it       it       it
//	none                  first    last     first stored at T or later
//	none, retry topic     first    first    last (ours: first)
//	could not be read     error, try later
//
// The two deviations of RocketMQ are options: a young queue begins at its first
// message under LAST, and a retry topic behind its last under TIMESTAMP.
type start struct {
	set    bool // by the user; else the mode decides
	normal message.Start
	retry  message.Start
	young  time.Duration
}

// WithStart says where a group begins in a queue in which it has settled nothing
// yet: message.First by default, which loses nothing that was sent before the
// group existed; Last in a broadcasting group, whose new instances want news. A
// group that has an offset goes on from there, whatever this says.
//
// At begins at the nearest kept offset. AtTime with the zero time is 30 minutes
// before the consumer was made, in whole seconds, as in RocketMQ.
func WithStart(s message.Start) Option {
	return func(o *options) {
		if o.checkStart("WithStart", &s) {
			o.start.set, o.start.normal = true, s
		}
	}
}

// WithRetryStart is WithStart for the group's retry topic. The default is
// message.First, always: what waits there belongs to the group. RocketMQ under
// CONSUME_FROM_TIMESTAMP is message.Last.
func WithRetryStart(s message.Start) Option {
	return func(o *options) {
		if o.serves("WithRetryStart", usePush) && o.checkStart("WithRetryStart", &s) {
			o.start.retry = s
		}
	}
}

// WithYoungQueues makes a start at Last begin at the first message of a queue
// whose very first message is kept and was stored less than age ago. RocketMQ
// does so while that message is in memory. The default is zero: Last is last.
func WithYoungQueues(age time.Duration) Option {
	return func(o *options) {
		if age < 0 {
			o.reject("WithYoungQueues", "%v is negative", age)
			return
		}
		o.start.young = age
	}
}

func (o *options) checkStart(option string, s *message.Start) bool {
	switch {
	case s.Kind > message.StartTime:
		o.reject(option, "unknown %v", *s)
		return false
	case s.Kind == message.StartOffset && s.Offset < 0:
		o.reject(option, "%v is negative", *s)
		return false
	}
	return true
}

// settle fills in what depends on the other options.
func (s *start) settle(broadcasting bool, now time.Time) {
	if !s.set && broadcasting {
		s.normal = message.Last()
	}
	for _, p := range []*message.Start{&s.normal, &s.retry} {
		if p.Kind == message.StartTime && p.Time.IsZero() {
			p.Time = now.Truncate(time.Second).Add(-youngDefault)
		}
	}
}

// resolve is the offset to read first in q: stored, if known, else what the
// options say. An offset that is not kept any more, or not yet given, moves to
// the nearest that is. After an error nothing is known: try later.
func (s *start) resolve(ctx context.Context, e Engine, q message.Queue, stored int64, known bool, now time.Time) (int64, error) {
	first, end, err := e.Bounds(q)
	if err != nil {
		return 0, fmt.Errorf("consumer: start in %v: %w", q, err)
	}
	if known {
		return min(max(stored, first), end), nil
	}
	at := s.normal
	if strings.HasPrefix(q.Topic, message.PrefixRetry) {
		at = s.retry
	}
	switch at.Kind {
	case message.StartLast:
		young, err := s.isYoung(ctx, e, q, first, end, now)
		if err != nil {
			return 0, fmt.Errorf("consumer: start in %v: %w", q, err)
		}
		if young {
			return first, nil
		}
		return end, nil
	case message.StartOffset:
		return min(max(at.Offset, first), end), nil
	case message.StartTime:
		offset, err := e.OffsetAt(q, at.Time, message.Lower)
		if err != nil {
			return 0, fmt.Errorf("consumer: start in %v: %w", q, err)
		}
		return min(max(offset, first), end), nil
	}
	return first, nil
}

// isYoung reports whether a queue still has its very first message and that
// message was stored lately.
func (s *start) isYoung(ctx context.Context, e Engine, q message.Queue, first, end int64, now time.Time) (bool, error) {
	if s.young == 0 || first > 0 || end == 0 {
		return false, nil
	}
	b, err := e.Read(ctx, q, first, message.Limit{Count: 1}, nil)
	if err != nil || len(b.Records) == 0 {
		return false, err
	}
	return b.Records[0].Offset() == first && now.Sub(b.Records[0].StoredAt()) < s.young, nil
}
