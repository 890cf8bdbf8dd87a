package kv

import (
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/embermq/embermq/internal/fs"
)

// poison is the latch for the first failure that cannot be waited out. It never
// opens again.
type poison struct {
	done chan struct{} // closed when latched

	mu  sync.Mutex
	err error // guarded by mu; set before done is closed
}

func newPoison() *poison { return &poison{done: make(chan struct{})} }

// latch keeps the first cause and wakes everyone who waits on done.
func (p *poison) latch(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return
	}
	p.err = fmt.Errorf("%w: %w", ErrPoisoned, cause)
	close(p.done)
}

// Err is the cause wrapped in ErrPoisoned, or nil.
func (p *poison) Err() error {
	select {
	case <-p.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.err
	default:
		return nil
	}
}

// park stops the calling goroutine for ever. Letting it go on instead would
// hand it an error that Pebble answers by ending the process, or by trying
// again without a pause.
func park() {
	select {}
}

// fatal is Pebble's logger and the listener for its background errors. It is
// silent, and it never lets Pebble go on after a failure: Fatalf ends the
// process by Pebble's contract and so must not return.
type fatal struct {
	poison *poison
	gate   *gate
}

var _ pebble.Logger = (*fatal)(nil)

func (*fatal) Infof(string, ...interface{})  {}
func (*fatal) Errorf(string, ...interface{}) {}

// Fatalf latches the poison and parks the goroutine, which may hold any of
// Pebble's locks.
func (l *fatal) Fatalf(format string, args ...interface{}) {
	l.poison.latch(fatalCause(format, args))
	park()
}

// fatalCause keeps the chain of the error among the arguments, so that the
// poison matches its cause.
func fatalCause(format string, args []interface{}) error {
	for _, a := range args {
		if err, ok := a.(error); ok {
			return fmt.Errorf("kv: %w", err)
		}
	}
	return fmt.Errorf("kv: "+format, args...)
}

// background receives failed flushes and compactions, for example of a table
// that cannot be read. Pebble would try again at once, for ever.
func (l *fatal) background(err error) {
	if fs.IsFull(err) && l.gate.ending() {
		// Close ends the wait for room with this error, and Pebble tries again
		// only until its own Close has begun.
		return
	}
	l.poison.latch(typed("background work", err))
	park()
}
