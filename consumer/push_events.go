package consumer

import (
	"errors"

	"github.com/embermq/embermq/message"
)

// ErrExpired is why a message became a dead letter, or was dropped, without a
// handler: its ExpireAt had passed.
var ErrExpired = errors.New("expired")

// ErrHandlerTimeout is the cause of the end of a handler's context after
// WithTimeout.
var ErrHandlerTimeout = errors.New("handler has taken too long")

// EventKind says what an Event tells.
type EventKind uint8

const (
	// QueueGiven: the consumer works on the queue from now on, at Offset.
	QueueGiven EventKind = iota + 1
	// QueueRevoked: it was asked to give the queue back and finishes what runs.
	QueueRevoked
	// QueueReleased: it has given the queue back.
	QueueReleased
	// QueueLost: nothing of the queue can be settled any more.
	QueueLost
	// QueueMoved: the offset to read was not kept any more; reading goes on at
	// Offset.
	QueueMoved
	// QueueStopped: a record cannot be read, the queue stops at Offset.
	QueueStopped
	// RecordSkipped: a record that cannot be read was passed over.
	RecordSkipped
	// MessageFailed: a handler failed for the message at Offset.
	MessageFailed
	// HandlerLate: a handler has taken longer than WithTimeout; Offset is its
	// first message's.
	HandlerLate
	// EngineFailed: the engine has refused a call, which is tried again.
	EngineFailed
)

// String returns the name of the constant.
func (k EventKind) String() string {
	names := [...]string{"EventKind(0)", "QueueGiven", "QueueRevoked", "QueueReleased", "QueueLost", "QueueMoved",
		"QueueStopped", "RecordSkipped", "MessageFailed", "HandlerLate", "EngineFailed"}
	if int(k) < len(names) {
		return names[k]
	}
	return "EventKind(?)"
}

// Event is what OnEvent hears.
type Event struct {
	Kind   EventKind
	Queue  message.Queue
	Offset int64
	Err    error
}

// tell calls the listener. No lock is held.
func (p *Push) tell(e Event) {
	if f := p.o.push.listener; f != nil {
		if protect(func() error { f(e); return nil }) != nil {
			p.count.panics.Add(1)
		}
	}
}

// dropped tells that a message of a broadcasting group is given up.
func (p *Push) dropped(d *Delivery, err error) {
	p.count.dropped.Add(1)
	if f := p.o.push.drop; f != nil {
		if protect(func() error { f(d, err); return nil }) != nil {
			p.count.panics.Add(1)
		}
	}
}
