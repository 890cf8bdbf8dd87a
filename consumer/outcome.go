package consumer

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// Commit, from a handler under WithManualCommit, settles everything that the
	// handler has taken since the last Commit. Elsewhere it is nil.
	Commit error = mark("commit")
	// Rollback, from a handler under WithManualCommit, delivers everything since
	// the last Commit again, in order, after the suspension time. Elsewhere it is
	// an ordinary error.
	Rollback error = mark("rollback")
)

// mark is an outcome without details.
type mark string

func (m mark) Error() string { return "consumer: " + string(m) }

type retryAfter struct{ d time.Duration }

func (r *retryAfter) Error() string { return "consumer: retry after " + r.d.String() }

// RetryAfter makes a handler's messages come again after d instead of the retry
// table's time; at once if d is not positive. Where order is kept they stay in
// place and hold up what is behind them. It counts as a failed attempt. Wrapped
// with fmt.Errorf it carries a reason.
func RetryAfter(d time.Duration) error { return &retryAfter{d} }

// Shortest and longest suspension, as in RocketMQ.
const (
	minSuspend = 10 * time.Millisecond
	maxSuspend = 30 * time.Second
)

// Suspend is RetryAfter with d kept between 10 milliseconds and 30 seconds: for
// handlers that keep order.
func Suspend(d time.Duration) error {
	return &retryAfter{min(max(d, minSuspend), maxSuspend)}
}

type deadLetter struct{ reason string }

func (d *deadLetter) Error() string { return "consumer: dead letter: " + d.reason }

// DeadLetter puts a handler's messages among the group's dead letters, without a
// further attempt.
func DeadLetter(reason string) error { return &deadLetter{reason} }

type partial struct{ failed map[int]error }

func (p *partial) Error() string {
	return fmt.Sprintf("consumer: %d messages of the batch failed", len(p.failed))
}

func (p *partial) Unwrap() []error {
	errs := make([]error, 0, len(p.failed))
	for _, err := range p.failed {
		errs = append(errs, err)
	}
	return errs
}

// Partial tells, by their index in the batch, which messages failed and how; each
// error is an outcome of its own, but neither Partial nor FirstDone. The others
// are done. A nil error in failed is done as well. Partial keeps the map.
func Partial(failed map[int]error) error { return &partial{failed} }

type firstDone struct {
	n   int
	err error
}

func (f *firstDone) Error() string {
	return fmt.Sprintf("consumer: %d of the batch done, then: %v", f.n, f.err)
}

func (f *firstDone) Unwrap() error { return f.err }

// FirstDone tells that the first n messages of the batch are done and that err
// befell the next one. Those behind it fail with err too; where order is kept,
// they just come again after it and no attempt of theirs is counted. FirstDone of
// the whole batch, or with a nil err, is nil.
func FirstDone(n int, err error) error {
	if err == nil {
		return nil
	}
	return &firstDone{n, err}
}

// PanicError is the failure of a message whose handler panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error names the value.
func (e *PanicError) Error() string { return fmt.Sprintf("consumer: handler panicked: %v", e.Value) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errUntried is the outcome of a message behind one that failed, where order is
// kept: it stays, and nothing counts.
var errUntried = errors.New("not tried")

// outcomes takes a handler's error apart, once for a batch.
type outcomes struct {
	err     error
	partial *partial
	first   *firstDone
	ordered bool
}

func newOutcomes(err error, ordered bool) outcomes {
	o := outcomes{err: err, ordered: ordered}
	if err != nil && !errors.As(err, &o.partial) && !errors.As(err, &o.first) && errors.Is(err, Commit) {
		o.err = nil
	}
	return o
}

// of is what became of message i; nil is done.
func (o *outcomes) of(i int) error {
	switch {
	case o.err == nil:
		return nil
	case o.partial != nil:
		return o.partial.failed[i]
	case o.first != nil && i < o.first.n:
		return nil
	case o.first != nil && i > o.first.n && o.ordered:
		return errUntried
	case o.first != nil:
		return o.first.err
	}
	return o.err
}

// wait is how long a failed message wants to wait; ok is false if it did not say.
func wait(err error) (d time.Duration, ok bool) {
	var r *retryAfter
	if errors.As(err, &r) {
		return max(r.d, 0), true
	}
	return 0, false
}

// maxReason bounds what a dead letter says about itself: it is a property.
const maxReason = 1024

// reason is err as a dead letter may hold it, and whether the handler asked for
// one.
func reason(err error) (text string, asked bool) {
	var d *deadLetter
	if errors.As(err, &d) {
		text, asked = d.reason, true
	} else {
		text = err.Error()
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "")
	}
	if text == "" {
		text = "no reason given"
	}
	return text, asked
}
