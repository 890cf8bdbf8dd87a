package schedule

import (
	"math"
	"strconv"
	"time"

	"github.com/embermq/embermq/message"
)

// RouteKind says how a message is delivered.
type RouteKind uint8

const (
	// Immediate: the message is put into its own queue, as it is.
	Immediate RouteKind = iota
	// ByLevel: it waits in the schedule topic.
	ByLevel
	// ByTime: it waits in the timer topic and has a handle.
	ByTime
)

// Route is what becomes of a message that is put.
type Route struct {
	Kind RouteKind
	// Queue is where the record goes: the message's own queue, or where it waits.
	Queue message.Queue
	// Due is when the message is delivered, in milliseconds; 0 for Immediate.
	Due int64
	// Timer is the handle of a message that waits ByTime.
	Timer message.TimerID
	// Reserved are the properties that the waiting record needs.
	Reserved []message.Property
}

// Route decides about a message. now is the store's clock; newID gives the
// unique id of a timer and is called for those alone; reserved is the slice that
// Route.Reserved is appended to.
//
// A due time is rounded up to a millisecond, so that no message is early. A time
// that has passed, or no delay at all, is Immediate. The error is an
// *InvalidError: for a negative delay, a level over the table, more than one way
// of saying when, a time past what milliseconds can say, and a delayed message
// of a system topic.
func (l Levels) Route(m *message.Message, now time.Time, newID func() string, reserved []message.Property) (Route, error) {
	r := Route{Queue: message.Queue{Topic: m.Topic, ID: m.QueueID}, Reserved: reserved}
	due, delayed, err := l.due(m, now)
	if err != nil || !delayed {
		return r, err
	}
	if message.IsSystemTopic(m.Topic) {
		return r, &message.InvalidError{Field: "Topic", Reason: "a message of a system topic cannot be delayed"}
	}
	if due <= now.UnixMilli() {
		return r, nil
	}
	r.Due = due
	r.Reserved = append(r.Reserved,
		message.Property{Name: message.PropRealTopic, Value: m.Topic},
		message.Property{Name: message.PropRealQueue, Value: strconv.Itoa(int(m.QueueID))})
	if m.DelayLevel > 0 {
		r.Kind = ByLevel
		r.Queue = message.Queue{Topic: message.TopicSchedule, ID: int32(m.DelayLevel - 1)}
		r.Reserved = append(r.Reserved,
			message.Property{Name: message.PropDelay, Value: strconv.Itoa(m.DelayLevel)},
			message.Property{Name: message.PropDue, Value: message.Hex16(due), Own: true})
		return r, nil
	}
	r.Kind = ByTime
	r.Queue = message.Queue{Topic: message.TopicTimer}
	id := newID()
	r.Timer = message.TimerID(id)
	r.Reserved = append(r.Reserved,
		message.Property{Name: message.PropTimerOutMs, Value: strconv.FormatInt(due, 10)},
		message.Property{Name: message.PropUniqKey, Value: id})
	return r, nil
}

// due is when m is to be delivered; delayed is false for a message without any
// of the three ways of saying so.
func (l Levels) due(m *message.Message, now time.Time) (due int64, delayed bool, err error) {
	ways := 0
	var at time.Time
	if m.DelayLevel != 0 {
		ways++
		if m.DelayLevel < 0 {
			return 0, false, &message.InvalidError{Field: "DelayLevel", Reason: "negative"}
		}
		if m.DelayLevel > len(l) {
			return 0, false, &message.InvalidError{Field: "DelayLevel",
				Reason: strconv.Itoa(m.DelayLevel) + " is over the table's " + strconv.Itoa(len(l))}
		}
		at = now.Add(l[m.DelayLevel-1])
	}
	if m.Delay != 0 {
		ways++
		if m.Delay < 0 {
			return 0, false, &message.InvalidError{Field: "Delay", Reason: "negative"}
		}
		at = now.Add(m.Delay)
	}
	if !m.DeliverAt.IsZero() {
		ways++
		at = m.DeliverAt
	}
	switch {
	case ways == 0:
		return 0, false, nil
	case ways > 1:
		return 0, false, &message.InvalidError{Field: "Delay",
			Reason: "more than one of DelayLevel, Delay and DeliverAt is set"}
	}
	due, ok := ceilMilli(at)
	if !ok {
		return 0, false, &message.InvalidError{Field: "DeliverAt", Reason: "past what milliseconds since 1970 can say"}
	}
	return due, true, nil
}

// ceilMilli is the first millisecond that is not before t. A time too far in the
// past is the earliest one there is; one too far in the future is not ok.
func ceilMilli(t time.Time) (ms int64, ok bool) {
	const most = math.MaxInt64/1000 - 1
	switch s := t.Unix(); {
	case s > most:
		return 0, false
	case s < 0:
		return -1, true
	}
	return t.Unix()*1000 + (int64(t.Nanosecond())+999_999)/1_000_000, true
}
