package schedule

import (
	"bytes"

	ids "github.com/embermq/embermq/internal/ident"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

var (
	markTimer = []byte(message.PropTimer + "\x01")
	markReal  = []byte(message.PropRealTopic + "\x01")
)

// Apply learns from the next record of the log what is pending, fired,
// cancelled, carried forward or dropped with its topic.
func (s *Schedule) Apply(r *message.Record) {
	if s.base < 0 {
		s.base = r.Position()
	}
	switch r.Topic() {
	case message.TopicTimer, message.TopicSchedule:
		s.applyWaiting(r)
	case message.TopicTopics:
		if name, ok := r.OwnValue(message.PropDeletes); ok {
			s.applyDeletion(name, r.Position()+int64(r.Size()))
		}
	default:
		if s.pending.Load() != 0 || s.memory.Load() != 0 {
			s.applyDelivered(r)
		}
	}
}

// applyDelivered looks for the copy of a timer in its real topic. This is the
// way of all ordinary messages, so it only searches the bytes.
func (s *Schedule) applyDelivered(r *message.Record) {
	p := r.PropertyBytes()
	if bytes.Contains(p, markTimer) {
		if k, ok := ends(r); ok {
			s.mu.Lock()
			s.endLocked(k, r.Topic(), r.UniqueID(), Delivered)
			s.mu.Unlock()
		}
		return
	}
	// RocketMQ's copies keep the properties of the record that waited.
	if !bytes.Contains(p, markReal) {
		return
	}
	id := r.UniqueID()
	if real, _ := r.Property(message.PropRealTopic); id == "" || real != r.Topic() {
		return
	}
	due := int64(-1)
	if out, ok := r.Property(message.PropTimerOutMs); ok {
		if due, ok = parseMillis(out); !ok {
			return
		}
	} else if _, ok := levelOf(r); !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.foreignLocked(r.Topic(), id, due, r.Position(), Delivered)
}

func (s *Schedule) applyWaiting(r *message.Record) {
	w, ok := s.o.Levels.parse(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok {
		s.counts.ignored.Add(1)
		return
	}
	if w.cancels != "" {
		topic, id := cancelled(w.cancels)
		if k, own := ends(r); own {
			s.endLocked(k, topic, id, Cancelled)
		} else {
			s.foreignLocked(topic, id, w.due, r.Position(), Cancelled)
		}
		return
	}
	if s.o.Foreign != nil && !s.o.Foreign(r) {
		s.counts.leftOut.Add(1)
		return
	}
	tp := s.topicLocked(w.real.Topic)
	if w.carries >= 0 {
		if w.carries < tp.floor {
			return // it waited for a topic that is gone
		}
		s.endLocked(key{w.due, w.carries}, tp.name, w.id, 0)
		s.counts.carried.Add(1)
	}
	if w.rolled {
		s.foreignLocked(tp.name, w.id, w.due, r.Position(), 0)
	}
	s.addLocked(r, &w, tp)
}

func (s *Schedule) addLocked(r *message.Record, w *waiting, tp *topic) {
	t := &timer{key: key{w.due, r.Position()}, topic: tp, size: int32(r.Size())}
	var hashed bool
	if t.id, hashed = ids.Of(w.id); hashed {
		t.flags |= flagHashed
	}
	if w.level {
		t.flags |= flagLevel
	}
	if t.pos < s.ahead && !(plant.Enabled && plant.Is(plant.TimerForgetsAhead)) {
		t.marks = markMaybe
	}
	s.freshLocked(t)
	s.knowLocked(t)
	s.countLocked(tp, t.pos, 1)
	s.placeLocked(t)
}

// endLocked ends the timer that one of our own records names. Such a record is
// written only while the timer is pending, so a timer that is not in memory has
// a row on disk, unless this view's history begins behind it.
func (s *Schedule) endLocked(k key, topic, id string, how Outcome) {
	i, _ := ids.Of(id)
	if t := s.findLocked(k); t != nil {
		if i == (ident{}) {
			i = t.id
		}
		s.killLocked(t)
	} else {
		if s.base < 0 || k.pos < s.base || s.isDeadLocked(k) {
			return
		}
		s.buryLocked(k, i)
		s.countLocked(s.topicLocked(topic), k.pos, -1)
	}
	s.doneLocked(i, how)
}

// doneLocked counts and remembers an outcome.
func (s *Schedule) doneLocked(i ident, how Outcome) {
	switch how {
	case Delivered:
		s.counts.fired.Add(1)
	case Cancelled:
		s.counts.cancelled.Add(1)
	default:
		return
	}
	if i != (ident{}) {
		s.mu.outcomes.add(i, how, s.o.Remember)
	}
}

// applyDeletion drops what waits for a topic: timers of records below floor. It
// only moves the floor; whoever meets such a timer later removes it.
func (s *Schedule) applyDeletion(name string, floor int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.mu.topics[name]
	if t == nil || floor <= t.floor {
		return
	}
	s.pending.Add(-t.count)
	s.counts.dropped.Add(t.count)
	t.dropped, t.count, t.floor = t.count, 0, floor
	s.dirtyLocked(t)
}

// Dropped is how many timers the last deletion of a topic has dropped. To know it
// beforehand ask Timers.Count.
func (s *Schedule) Dropped(topic string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.mu.topics[topic]; t != nil {
		return t.dropped
	}
	return 0
}
