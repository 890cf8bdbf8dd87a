package schedule

import (
	"context"
	"fmt"

	"github.com/embermq/embermq/message"
)

// Appender writes into the log what a Schedule decides. The store implements it.
type Appender interface {
	// Append writes the copies as one atomic group, in their order, and returns
	// when they have been applied to the views and are as durable as asked. It
	// may use the last room on the disk for a group that is Reserve.
	//
	// A *CopyError says that one of them cannot be written; any other error but
	// ErrPoisoned and ErrClosed, that none can be just now. Nothing was written
	// in either case. After ErrPoisoned or ErrClosed the outcome is unknown, and
	// no later append succeeds.
	//
	// The appender keeps nothing of g. It refuses, with a *CopyError that matches
	// message.ErrNotFound, a copy for a topic that does not exist or was created
	// behind Copy.Of.
	Append(ctx context.Context, g *Group) error
}

// Group is what one Append writes.
type Group struct {
	Copies []Copy
	// OnDisk waits for the sync. Otherwise the records are as durable as the
	// store's default is, which is also when they become visible.
	OnDisk bool
	// Reserve marks what makes room or takes none for long.
	Reserve bool
}

// Copy is one record to write.
type Copy struct {
	// Queue is where the record goes.
	Queue message.Queue
	// Of is the position of the waiting record that this one speaks of.
	Of int64
	// Source is the stored record to copy; if nil, Message is what to write.
	Source  *message.Record
	Message *message.Message
	// Envelope lacks only the store's own host.
	Envelope message.Envelope
}

// dropped are the properties that a copy does not take from the waiting record.
var dropped = []string{
	message.PropRealTopic, message.PropRealQueue, message.PropDelay, message.PropWait,
	message.PropTimerOutMs, message.PropTimerDelaySec, message.PropTimerDelayMs,
	message.PropTimerDeliverMs, message.PropTimerEnqueueMs, message.PropTimerDequeueMs,
	message.PropTimerRollTimes, message.PropTimerDelUniq, message.PropTimerLevel,
}

// Encode writes the copy into a draft. more are further reserved properties, such as
// the one that begins an atomic group.
func (c *Copy) Encode(d *message.Draft, more ...message.Property) error {
	e := c.Envelope
	if len(more) > 0 {
		e.Reserved = append(append(make([]message.Property, 0, len(e.Reserved)+len(more)), e.Reserved...), more...)
	}
	if c.Source == nil {
		return d.Encode(c.Message, c.Queue, &e)
	}
	return d.EncodeRecord(c.Source, c.Queue, &e, dropped...)
}

// CopyError says which copy of a group cannot be written, ever or for as long as
// its topic is as it is.
type CopyError struct {
	Index int
	Err   error
}

// Error names the copy and the cause.
func (e *CopyError) Error() string { return fmt.Sprintf("copy %d: %v", e.Index, e.Err) }

// Unwrap returns the cause.
func (e *CopyError) Unwrap() error { return e.Err }
