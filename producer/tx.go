package producer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/embermq/embermq/message"
)

// TxEngine holds messages back until somebody has decided about them. What
// store.Halves returns is one.
type TxEngine interface {
	// Prepare stores a message that nobody sees. It is on disk when Prepare
	// returns. ctx bounds the wait.
	Prepare(ctx context.Context, m *message.Message, group string, o message.HalfOptions) (message.Receipt, message.HalfID, error)
	// Commit puts the message into its queue unless there is a verdict, and
	// returns the first one.
	Commit(ctx context.Context, id message.HalfID) (message.Receipt, message.Decision, error)
	// Rollback drops the message unless there is a verdict, and returns the first
	// one.
	Rollback(ctx context.Context, id message.HalfID) (message.Decision, error)
	// OnCheck has a function asked about halves of a group without a verdict.
	OnCheck(group string, check message.Checker, o message.CheckOptions) (stop func(), err error)
}

// ErrUndecided is for a local transaction that cannot say how it has ended: an
// error that wraps it leaves the verdict to check-back.
var ErrUndecided = errors.New("local transaction undecided")

// LocalPanicError is the error of a Send whose local transaction has panicked. Its
// half is undecided.
type LocalPanicError struct {
	Value any
	Stack []byte
}

// Error tells what the local transaction panicked with.
func (e *LocalPanicError) Error() string {
	return fmt.Sprintf("producer: the local transaction panicked: %v", e.Value)
}

// Is reports whether target is ErrUndecided.
func (e *LocalPanicError) Is(target error) bool { return target == ErrUndecided }

// TxOptions of a TxProducer. The zero value puts each message into its own
// QueueID and asks the checker as RocketMQ does.
type TxOptions struct {
	// Queues is how many queues a topic has, such as a store's QueueCount. With it
	// Selector chooses the queue; without it the message's QueueID counts.
	Queues func(topic string) (int, error)
	// Selector chooses among Queues; ByKey if not set.
	Selector Selector
	// Half holds for every message.
	Half message.HalfOptions
	// Check bounds what the checker is asked at a time.
	Check message.CheckOptions
}

// TxProducer sends messages that become visible with a local transaction, or not
// at all. Its methods may be called by many goroutines.
type TxProducer struct {
	e     TxEngine
	group string
	o     TxOptions
	stop  func()

	mu     sync.Mutex
	topics map[string]*topic
}

// NewTx makes a TxProducer of a group. check is asked about the group's halves
// whose verdict did not come, those of earlier processes included; nil if another
// TxProducer of the group, or a database, is asked.
func NewTx(e TxEngine, group string, check message.Checker, o TxOptions) (*TxProducer, error) {
	if err := message.CheckGroup(group); err != nil {
		return nil, err
	}
	if o.Selector.pick == nil && !o.Selector.given {
		o.Selector = ByKey()
	}
	p := &TxProducer{e: e, group: group, o: o, stop: func() {}, topics: make(map[string]*topic)}
	if check != nil {
		stop, err := e.OnCheck(group, check, o.Check)
		if err != nil {
			return nil, err
		}
		p.stop = stop
	}
	return p, nil
}

// Close takes the checker back. Sends under way go on.
func (p *TxProducer) Close() { p.stop() }

// Send stores m, runs local, and decides by how it ends:
//
//	nil                              the message is committed
//	an error                         it is rolled back, and Send returns the error
//	an error that wraps ErrUndecided,
//	a panic, or an error when ctx    nobody knows; the checker is asked later, and Send
//	has ended                        returns the error with message.Undecided
//
// local does not run if m could not be stored on disk; it gets the half's id, to
// keep it in its database. The verdict is written also when ctx has ended
// meanwhile. The receipt is that of the message if it was committed; its offset is
// -1 otherwise. m is not changed, and not kept.
//
// How tells the verdict that counts: the first one. If somebody else was faster
// and decided otherwise, the error matches message.ErrFenced. If the verdict could
// not be written, the error says why, and check-back decides.
func (p *TxProducer) Send(ctx context.Context, m *message.Message, local func(ctx context.Context, id message.HalfID) error) (r message.Receipt, how message.Decision, err error) {
	none := message.Receipt{Offset: -1}
	if local == nil {
		return none, message.Undecided, &message.InvalidError{Field: "local", Reason: "is nil"}
	}
	if m, err = p.place(m); err != nil {
		return none, message.Undecided, err
	}
	r, id, err := p.e.Prepare(ctx, m, p.group, p.o.Half)
	if err != nil {
		return none, message.Undecided, fmt.Errorf("producer: prepare: %w", err)
	}
	localErr := run(ctx, local, id)
	verdict := context.WithoutCancel(ctx)
	switch {
	case localErr == nil:
		committed, how, err := p.e.Commit(verdict, id)
		if err == nil && how != message.Committed {
			err = fmt.Errorf("producer: half %s was decided by somebody else: %v: %w", id, how, message.ErrFenced)
		}
		if err != nil {
			return r, how, fmt.Errorf("producer: commit: %w", err)
		}
		return committed, how, nil
	case errors.Is(localErr, ErrUndecided) || ctx.Err() != nil:
		return r, message.Undecided, localErr
	}
	how, err = p.e.Rollback(verdict, id)
	if err == nil && how != message.RolledBack {
		err = fmt.Errorf("producer: half %s was decided by somebody else: %v: %w", id, how, message.ErrFenced)
	}
	return r, how, errors.Join(localErr, err)
}

// place returns m with the queue that the selector wants.
func (p *TxProducer) place(m *message.Message) (*message.Message, error) {
	if m == nil || p.o.Queues == nil || p.o.Selector.given {
		return m, nil
	}
	n, err := p.o.Queues(m.Topic)
	if err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, fmt.Errorf("producer: topic %s has no queue: %w", m.Topic, message.ErrNotFound)
	}
	p.mu.Lock()
	t := p.topics[m.Topic]
	if t == nil {
		t = newTopic(m.Topic)
		p.topics[m.Topic] = t
	}
	p.mu.Unlock()
	c := *m
	if c.QueueID, _, err = p.o.Selector.pick(t, n, m); err != nil {
		return nil, err
	}
	return &c, nil
}

// run keeps a panic of the local transaction from ending the process.
func run(ctx context.Context, local func(context.Context, message.HalfID) error, id message.HalfID) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &LocalPanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return local(ctx, id)
}
