package producer

import (
	"context"

	"github.com/embermq/embermq/message"
)

// Engine is what a Producer sends to. *store.Store is one.
//
// An engine validates what it is given as message.Message.Check does. When a call
// has returned it keeps neither ctx nor the messages nor what they point to. These
// errors say that nothing is stored: ErrInvalidMessage, ErrInvalidName,
// ErrTooLarge, ErrNotFound, ErrPermission, ErrKind, ErrDiskFull, ErrReadOnly,
// ErrUnsupported, ErrFenced, ErrClosed, and ErrBusy, after which a new attempt
// may succeed. Any other error leaves the outcome open; one that matches
// context.DeadlineExceeded, or has a method Timeout that returns true, is a
// time-out of the engine.
type Engine interface {
	// Put stores a message in queue m.QueueID of m.Topic. ctx bounds the wait.
	Put(ctx context.Context, m *message.Message) (message.Receipt, error)
	// PutBatch stores messages as one atomic group.
	PutBatch(ctx context.Context, ms []*message.Message) ([]message.Receipt, error)
	// PutAsync queues a message. ctx bounds the wait for room only. Messages of
	// one goroutine to one queue are stored in the order of the calls.
	PutAsync(ctx context.Context, m *message.Message) *message.Pending
	// QueueCount is how many queues a message of the topic can go to, also for a
	// topic that its first message creates. Otherwise the error is ErrNotFound.
	QueueCount(topic string) (int, error)
}
