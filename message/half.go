package message

import (
	"context"
	"strconv"
	"time"
)

// Decision is what became of a half message.
type Decision uint8

const (
	// Undecided: the half waits for a verdict. As an answer of a Checker it
	// means that nobody can say yet.
	Undecided Decision = iota // On disk. Do not renumber.
	// Committed: the message is in its real topic.
	Committed
	// RolledBack: the message will never be delivered.
	RolledBack
	// GivenUp: nobody could say in time. The half is kept aside until somebody
	// recovers it.
	GivenUp
)

// String returns the name of the constant.
func (d Decision) String() string {
	switch d {
	case Undecided:
		return "Undecided"
	case Committed:
		return "Committed"
	case RolledBack:
		return "RolledBack"
	case GivenUp:
		return "GivenUp"
	}
	return "Decision(" + strconv.Itoa(int(d)) + ")"
}

// Half is a half message as it is listed, and as a Checker is asked about it.
type Half struct {
	ID       HalfID
	Group    string // the producer group that is asked
	Queue    Queue  // where the message goes when it is committed
	Position int64  // where the waiting record lies in the log
	BornAt   time.Time
	Age      time.Duration
	Checks   int  // how often a checker was asked about it and could not say
	GivenUp  bool // it waits for somebody who recovers it
	// Message is what was sent. A listing leaves it out.
	Message *Message
}

// Checker says what became of the local transaction of a half: Committed,
// RolledBack or Undecided. Any other answer, an error and a panic are Undecided.
// ctx ends when the answer is no longer waited for; a later answer still counts
// if nobody else has decided.
type Checker func(ctx context.Context, h *Half) (Decision, error)

// CheckOptions bound what one registered checker is asked at a time. Zero values
// are RocketMQ's: one worker, always there, and 2,000 halves that wait for it.
type CheckOptions struct {
	MinWorkers int // goroutines kept while there is nothing to ask; 1
	MaxWorkers int // goroutines at most; 1
	Queue      int // halves that wait for a worker; 2,000
}

// HalfOptions of one half message.
type HalfOptions struct {
	// Immunity is how long nobody is asked about the half, instead of the usual
	// time. It is kept in whole seconds, rounded up. Zero is the usual time.
	Immunity time.Duration
}
