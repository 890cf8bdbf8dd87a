package schedule

import (
	"strconv"
	"strings"

	"github.com/embermq/embermq/message"
)

// waiting is what a record in the schedule or the timer topic says. Its strings
// alias the record.
type waiting struct {
	due     int64
	real    message.Queue
	id      string
	cancels string // realTopic+id of a cancellation
	carries int64  // position of the record that this one replaces, or -1
	level   bool
	rolled  bool // RocketMQ put it again: it replaces the one before
}

// parse reads a waiting record or a cancellation. ok is false for one that
// cannot be delivered: nothing says when or where to, or it would go to a system
// topic.
func (l Levels) parse(r *message.Record) (w waiting, ok bool) {
	w.carries = -1
	topic := r.Topic()
	w.level = topic == message.TopicSchedule
	if !w.level && topic != message.TopicTimer {
		return w, false
	}
	haveDue, carries, ownDue, level := false, false, false, ""
	for name, value := range r.Properties() {
		switch name {
		case message.PropRealTopic:
			w.real.Topic = value
		case message.PropRealQueue:
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil || n < 0 {
				return w, false
			}
			w.real.ID = int32(n)
		case message.PropTimerOutMs:
			w.due, haveDue = parseMillis(value)
		case message.PropUniqKey:
			w.id = value
		case message.PropTimerDelUniq:
			w.cancels = value
		case message.PropTimerRollTimes:
			w.rolled = value != "0"
		case message.PropDelay:
			level = value
		case message.PropDue:
			ownDue = true
		case message.PropCarries:
			carries = true
		}
	}
	if w.level {
		w.cancels, w.rolled, haveDue = "", false, false
		if ownDue {
			if v, ok := r.OwnValue(message.PropDue); ok {
				w.due, haveDue = message.ParseHex16(v)
			}
		}
		if !haveDue {
			w.due, haveDue = l.foreignDue(r, level)
		}
	}
	if carries {
		if v, ok := r.OwnValue(message.PropCarries); ok {
			if old, ok := message.ParseHex16(v); ok && old < r.Position() {
				w.carries = old
			}
		}
	}
	if w.cancels != "" {
		return w, haveDue
	}
	return w, haveDue && w.real.Topic != "" && !message.IsSystemTopic(w.real.Topic)
}

// foreignDue is the due time of a level record that RocketMQ wrote.
func (l Levels) foreignDue(r *message.Record, text string) (int64, bool) {
	level, err := strconv.Atoi(text)
	if err != nil {
		level = int(r.QueueID()) + 1
	}
	due := r.StoredAtMillis() + l.Delay(level).Milliseconds()
	return due, due >= 0
}

func parseMillis(s string) (int64, bool) {
	ms, err := strconv.ParseInt(s, 10, 64)
	return ms, err == nil && ms >= 0
}

// ends reads EMBER_TIMER: which pending timer a record ends.
func ends(r *message.Record) (k key, ok bool) {
	v, ok := r.OwnValue(message.PropTimer)
	if !ok || len(v) != 32 {
		return key{}, false
	}
	pos, ok1 := message.ParseHex16(v[:16])
	due, ok2 := message.ParseHex16(v[16:])
	return key{due, pos}, ok1 && ok2 && pos < r.Position()
}

// endsProperty is what ends reads.
func endsProperty(k key) message.Property {
	return message.Property{Name: message.PropTimer, Value: message.Hex16(k.pos) + message.Hex16(k.due), Own: true}
}

// cancelled takes TIMER_DEL_UNIQKEY apart. Topics have no plus sign.
func cancelled(s string) (topic, id string) {
	topic, id, _ = strings.Cut(s, "+")
	return topic, id
}
