package producer

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/embermq/embermq/message"
)

var (
	// ErrUnknownOutcome is matched by *UnknownError.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrPrecedingFailed says that a message was not sent because one before it,
	// with the same sharding key, has failed.
	ErrPrecedingFailed = errors.New("a preceding message of the key has failed")
	// ErrSelector is matched by *SelectorError.
	ErrSelector = errors.New("no queue selected")
	// ErrSpooled says that the spool has the failed message and will send it
	// again: the caller must not.
	ErrSpooled = errors.New("kept in the spool")
	// ErrNoReply says that a request was stored and nobody has answered in time.
	ErrNoReply = errors.New("no reply in time")
)

// UnknownError says that a send has ended and nobody can say whether the message
// is stored: the time was up, or the engine failed on the way. It is
// ErrUnknownOutcome for errors.Is. Whoever sends again must be ready for the
// message twice. The engine can be asked for ID.
type UnknownError struct {
	ID    string // the message's unique id; "" without WithUniqueID
	Topic string
	Err   error // what ended the send
}

// Error names topic, id and cause.
func (e *UnknownError) Error() string {
	s := "producer: send to " + e.Topic
	if e.ID != "" {
		s += " (" + e.ID + ")"
	}
	return s + ": outcome unknown: " + e.Err.Error()
}

// Is reports whether target is ErrUnknownOutcome.
func (e *UnknownError) Is(target error) bool { return target == ErrUnknownOutcome }

// Unwrap returns the cause.
func (e *UnknownError) Unwrap() error { return e.Err }

// SelectorError says why a selector gave no queue: it has failed, panicked, or
// named a queue that the topic does not have. Nothing is stored. It is
// ErrSelector for errors.Is.
type SelectorError struct {
	Topic string
	Queue message.Queue // of a foreign queue
	Panic any           // what the selector panicked with
	Err   error         // what it returned
}

// Error tells which of the three it was.
func (e *SelectorError) Error() string {
	s := "producer: selector for topic " + e.Topic
	switch {
	case e.Panic != nil:
		if err, ok := e.Panic.(error); ok {
			return s + " panicked: " + err.Error()
		}
		if text, ok := e.Panic.(string); ok {
			return s + " panicked: " + text
		}
		return s + " panicked"
	case e.Err != nil:
		return s + ": " + e.Err.Error()
	}
	return s + " returned " + e.Queue.String() + ", which is no queue of it"
}

// Is reports whether target is ErrSelector.
func (e *SelectorError) Is(target error) bool { return target == ErrSelector }

// Unwrap returns what the selector returned.
func (e *SelectorError) Unwrap() error { return e.Err }

// PartialError says that a batch was split and that its first Stored messages
// are stored, while Err befell the group behind them.
type PartialError struct {
	Stored int
	Err    error
}

// Error tells how far the batch came.
func (e *PartialError) Error() string {
	return "producer: batch: the first " + strconv.Itoa(e.Stored) + " are stored, then: " + e.Err.Error()
}

// Unwrap returns what befell the next group.
func (e *PartialError) Unwrap() error { return e.Err }

// notStored are the errors after which a message is certainly not stored.
var notStored = []error{
	message.ErrBusy, message.ErrInvalidMessage, message.ErrInvalidName, message.ErrTooLarge, message.ErrNotFound,
	message.ErrPermission, message.ErrKind, message.ErrDiskFull, message.ErrReadOnly, message.ErrUnsupported,
	message.ErrFenced, message.ErrClosed,
}

// isUnknown reports whether an engine's error leaves the outcome open.
func isUnknown(err error) bool {
	if isTimeout(err) || errors.Is(err, context.Canceled) {
		return true
	}
	for _, e := range notStored {
		if errors.Is(err, e) {
			return false
		}
	}
	return true
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// isFault reports whether the message itself is why it was refused: sending it
// again would not help.
func isFault(err error) bool {
	for _, e := range [...]error{message.ErrInvalidMessage, message.ErrInvalidName, message.ErrTooLarge,
		message.ErrKind, message.ErrUnsupported, ErrSelector} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// outOfTime is how long a send may take, as an error.
func outOfTime(d time.Duration) error {
	return &timeError{d}
}

type timeError struct{ d time.Duration }

func (e *timeError) Error() string        { return "not done within " + e.d.String() }
func (e *timeError) Is(target error) bool { return target == context.DeadlineExceeded }
func (e *timeError) Timeout() bool        { return true }
