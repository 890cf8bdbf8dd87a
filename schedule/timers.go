package schedule

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	ids "github.com/embermq/embermq/internal/ident"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// Timers is what users see of a Schedule: pending timers to list, cancel and
// reschedule. Its methods may be called from several goroutines.
type Timers struct{ s *Schedule }

// Timers returns the users' side.
func (s *Schedule) Timers() *Timers { return &Timers{s} }

// Len is the number of pending timers, those delayed by level included.
func (t *Timers) Len() int64 { return t.s.pending.Load() }

// Count is the number of pending timers of a topic.
func (t *Timers) Count(topic string) int64 {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if tp := t.s.mu.topics[topic]; tp != nil {
		return tp.count
	}
	return 0
}

// Cancel takes a pending timer back.
//
// Cancelled means that the message will never be delivered; that is on disk when
// Cancel returns. Delivered means that it is in its queue. Unknown means neither:
// there was no such timer, it was delayed by level, its topic was deleted, or it
// ended so long ago that nobody remembers (Options.Remember, Options.Delivered;
// what is remembered is in memory, so a restart forgets all but what the log is
// replayed for). To cancel a cancelled timer again gives Cancelled.
//
// A timer that went with its topic is Cancelled too, as durably as the deletion: on
// disk when DeleteTopic has returned.
//
// A group's retry of a message waits under the message's own id, so that is no
// handle of the retry: what was delivered once stays Delivered.
//
// A timer that is being delivered is waited for. ctx bounds the waiting alone:
// when it ends first the outcome is unknown, and Cancel may be called again.
// With any other error the timer is still pending, except that after
// message.ErrPoisoned and ErrClosed the next Open knows.
func (t *Timers) Cancel(ctx context.Context, id message.TimerID) (Outcome, error) {
	return t.s.end(ctx, string(id), func(tm *timer, r *message.Record, w *waiting, g *Group) Outcome {
		g.Copies = append(g.Copies, recall(tm, w))
		return Cancelled
	})
}

// Reschedule moves a pending timer to another time and keeps its id. A time that
// has passed delivers the message at once. The outcome is Rescheduled, or as for
// Cancel.
func (t *Timers) Reschedule(ctx context.Context, id message.TimerID, at time.Time) (Outcome, error) {
	due, ok := ceilMilli(at)
	if !ok {
		return Unknown, &message.InvalidError{Field: "DeliverAt", Reason: "past what milliseconds since 1970 can say"}
	}
	due = max(0, due)
	return t.s.end(ctx, string(id), func(tm *timer, r *message.Record, w *waiting, g *Group) Outcome {
		w2 := *w
		w2.due = due
		g.Copies = append(g.Copies, recall(tm, w), again(tm, r, &w2))
		return Rescheduled
	})
}

// recall is RocketMQ's record that cancels a timer, and says which one is meant.
func recall(t *timer, w *waiting) Copy {
	return Copy{
		Queue:   message.Queue{Topic: message.TopicTimer},
		Of:      t.pos,
		Message: &message.Message{Tag: "_RECALL_TAG_", Body: []byte("0")},
		Envelope: message.Envelope{Reserved: append(timerProperties(w),
			message.Property{Name: message.PropTimerDelUniq, Value: w.real.Topic + "+" + w.id},
			endsProperty(t.key))},
	}
}

// again is a copy of a waiting record that waits for w.due.
func again(t *timer, r *message.Record, w *waiting, more ...message.Property) Copy {
	return Copy{
		Queue:  message.Queue{Topic: message.TopicTimer},
		Of:     t.pos,
		Source: r,
		Envelope: message.Envelope{
			SysFlag:        r.SysFlag(),
			ReconsumeTimes: r.ReconsumeTimes(),
			PreparedOffset: r.PreparedOffset(),
			Reserved:       append(timerProperties(w), more...),
		},
	}
}

// timerProperties are those of a record in the timer topic.
func timerProperties(w *waiting) []message.Property {
	p := append(make([]message.Property, 0, 6),
		message.Property{Name: message.PropRealTopic, Value: w.real.Topic},
		message.Property{Name: message.PropRealQueue, Value: strconv.Itoa(int(w.real.ID))},
		message.Property{Name: message.PropTimerOutMs, Value: strconv.FormatInt(w.due, 10)})
	if w.id != "" {
		p = append(p, message.Property{Name: message.PropUniqKey, Value: w.id})
	}
	return p
}

type buildFunc func(t *timer, r *message.Record, w *waiting, g *Group) Outcome

// end decides about a timer: it claims it under the lock, appends without it, and
// learns from Apply like everyone else.
func (s *Schedule) end(ctx context.Context, id string, build buildFunc) (Outcome, error) {
	o := newOp(opEnd)
	t, how, err := s.claim(ctx, id, o)
	if t == nil {
		return how, err
	}
	defer s.work.Done()
	if ctx.Done() == nil {
		return s.append(id, t, o, build)
	}
	// The append must be seen to its end, or nobody would know whether the timer
	// is pending. So it outlives a caller that leaves.
	type answer struct {
		how Outcome
		err error
	}
	c := make(chan answer, 1)
	s.work.Add(1) // not from zero: claim counted this call
	go func() {
		defer s.work.Done()
		how, err := s.append(id, t, o, build)
		c <- answer{how, err}
	}()
	select {
	case a := <-c:
		return a.how, a.err
	case <-ctx.Done():
		return Unknown, fmt.Errorf("schedule: outcome unknown: %w", ctx.Err())
	}
}

func (s *Schedule) append(id string, t *timer, o *op, build buildFunc) (Outcome, error) {
	defer close(o.done)
	var buf []byte
	var r message.Record
	w, err := s.read(t, &buf, &r)
	if err == nil && w.id != id {
		err = &message.CorruptError{Offset: t.pos, Reason: "the waiting record has another id"}
	}
	how := Unknown
	if err == nil {
		g := Group{OnDisk: true, Reserve: true}
		how = build(t, &r, &w, &g)
		if err = s.o.Appender.Append(context.Background(), &g); err != nil {
			err = fmt.Errorf("schedule: append: %w", err)
		}
	}
	if err == nil {
		return how, nil
	}
	if !fatal(err) {
		s.mu.Lock()
		s.returnLocked([]*timer{t}, o)
		s.mu.Unlock()
	}
	return Unknown, err
}

// claim makes the timer of an id busy with o. Without a timer it tells the
// outcome. With one it also counts the caller in s.work.
func (s *Schedule) claim(ctx context.Context, id string, o *op) (*timer, Outcome, error) {
	i, _ := ids.Of(id)
	if i == (ident{}) {
		return nil, Unknown, nil
	}
	for {
		s.mu.Lock()
		if s.mu.closed {
			s.mu.Unlock()
			return nil, Unknown, fmt.Errorf("schedule: cancel: %w", message.ErrClosed)
		}
		t, wait := s.claimIDLocked(i, o)
		gen, whole := s.mu.gen, s.wholeLocked()
		how := s.mu.outcomes.get(i)
		s.mu.Unlock()
		switch {
		case t != nil:
			return t, Unknown, nil
		case wait != nil:
			select {
			case <-wait:
			case <-ctx.Done():
				return nil, Unknown, fmt.Errorf("schedule: cancel: wait for the append under way: %w", ctx.Err())
			}
			continue
		}
		if !whole {
			rows, err := s.lookup(i)
			if err != nil {
				return nil, Unknown, err
			}
			var again bool
			if t, how, again = s.claimRow(i, rows, gen, o); t != nil {
				return t, Unknown, nil
			}
			if again {
				continue
			}
		}
		if how == Unknown && s.o.Delivered != nil {
			yes, err := s.o.Delivered(ctx, message.TimerID(id))
			if err != nil {
				return nil, Unknown, fmt.Errorf("schedule: look for the delivered message: %w", err)
			}
			if yes {
				how = Delivered
			}
		}
		return nil, how, nil
	}
}

// wholeLocked says that all pending timers are in memory.
func (s *Schedule) wholeLocked() bool {
	return s.mu.live.end == maxKey && s.mu.back.end == s.mu.split
}

// claimIDLocked claims a timer that is in memory. If an append decides about it,
// wait ends with that one.
func (s *Schedule) claimIDLocked(i ident, o *op) (t *timer, wait <-chan struct{}) {
	for t := s.idsLocked()[i]; t != nil; t = t.next {
		if t.flags&flagLevel != 0 || isRetry(t.topic.name) || !t.alive() {
			continue
		}
		if b, ok := s.mu.busy[t.key]; ok && b.op.kind != opPark {
			if !(plant.Enabled && plant.Is(plant.TimerCancelsFiring)) {
				wait = b.op.done
				continue
			}
		}
		s.claimLocked(t, o)
		s.work.Add(1)
		return t, nil
	}
	return nil, wait
}

// isRetry tells timers whose id belongs to somebody else: to the message that is
// retried.
func isRetry(topic string) bool { return strings.HasPrefix(topic, message.PrefixRetry) }

// claimRow claims a timer that is on disk only. again says that memory has
// changed since and has to be asked anew. Without a timer it tells how the last
// one ended, which may have been while the disk was read.
func (s *Schedule) claimRow(id ident, rows []row, gen uint64, o *op) (t *timer, how Outcome, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.gen != gen || s.mu.closed {
		return nil, Unknown, true
	}
	for i := range rows {
		r := &rows[i]
		if r.flags&flagLevel != 0 || isRetry(r.topic) || s.isDeadLocked(r.key) {
			continue
		}
		tp := s.topicLocked(r.topic)
		if r.pos < tp.floor {
			continue
		}
		if s.findLocked(r.key) != nil {
			return nil, Unknown, true
		}
		t := s.timerOf(r, tp)
		s.knowLocked(t)
		s.claimLocked(t, o)
		s.work.Add(1)
		return t, Unknown, false
	}
	return nil, s.mu.outcomes.get(id), false
}
