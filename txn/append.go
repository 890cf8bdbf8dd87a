package txn

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// Appender writes into the log what a Coordinator decides. The store implements
// it.
type Appender interface {
	// Append writes the copies as one atomic group, in their order, and returns
	// when they are on disk and have been applied to the views. It fills in the
	// receipts. It may use the last room on the disk, except for a new half,
	// which it checks like any put.
	//
	// A *CopyError says that one of them cannot be written; any other error but
	// ErrPoisoned, ErrClosed and the context's, that none can be just now. Nothing
	// was written in either case. After ErrPoisoned or ErrClosed the outcome is
	// unknown, and no later append succeeds.
	//
	// The appender keeps nothing of g. It refuses, with a *CopyError that matches
	// message.ErrNotFound, a copy for a topic that does not exist or was created
	// behind Copy.Of.
	Append(ctx context.Context, g *Group) error
}

// Group is what one Append writes.
type Group struct {
	Copies []Copy
	// New is set for a half that a user sends, alone in its group.
	New bool
}

// Copy is one record to write.
type Copy struct {
	// Queue is where the record goes.
	Queue message.Queue
	// Real is, for a half, the queue that the message is for.
	Real message.Queue
	// Of is the position of the half that this record speaks of.
	Of int64
	// Source is the stored record to copy; if nil, Message is what to write.
	Source  *message.Record
	Message *message.Message
	// Envelope lacks only the store's own host.
	Envelope message.Envelope

	// Receipt tells afterwards where the record lies; its queue is Queue.
	Receipt message.Receipt
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
	return d.EncodeRecord(c.Source, c.Queue, &e)
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

// CommitRoom is by how much the group that ends a half may be larger than the
// half: the verdict's record and what the copy has more. A half is taken only if
// its end fits into the log.
const CommitRoom = 1 << 10

var (
	halfQueue = message.Queue{Topic: message.TopicHalf}
	opQueue   = message.Queue{Topic: message.TopicOpHalf}
	maxQueue  = message.Queue{Topic: message.TopicCheckMax}
)

// newHalf is the record that holds a message back.
func newHalf(m *message.Message, group, id string, immunity time.Duration, reserved []message.Property) Copy {
	r := append(reserved,
		message.Property{Name: message.PropRealTopic, Value: m.Topic},
		message.Property{Name: message.PropRealQueue, Value: strconv.Itoa(int(m.QueueID))},
		message.Property{Name: message.PropTranMsg, Value: "true"},
		message.Property{Name: message.PropProducerGroup, Value: group},
		message.Property{Name: message.PropUniqKey, Value: id},
		message.Property{Name: message.PropTransactionID, Value: id})
	if immunity > 0 {
		s := int64((immunity + time.Second - 1) / time.Second)
		r = append(r, message.Property{Name: message.PropCheckImmunity, Value: strconv.FormatInt(s, 10)})
	}
	return Copy{Queue: halfQueue, Real: message.Queue{Topic: m.Topic, ID: m.QueueID}, Message: m,
		Envelope: message.Envelope{Reserved: r}}
}

// Letters of EMBER_VERDICT. On disk. Do not change.
const (
	letterCommit   = 'C'
	letterRollback = 'R'
	letterGiveUp   = 'G'
)

// opRecord is RocketMQ's op record, which says which half is done, and how.
type opRecord struct {
	message message.Message
	body    [24]byte
	props   [2]message.Property
}

func (o *opRecord) copy(h *half, letter byte) Copy {
	o.message = message.Message{Tag: "d", Body: append(strconv.AppendInt(o.body[:0], h.offset, 10), ',')}
	value := string(rune(letter)) + message.Hex16(h.pos)
	o.props[0] = message.Property{Name: message.PropVerdict, Value: value, Own: true}
	o.props[1] = message.Property{Name: message.PropWait, Value: "false"}
	return Copy{Queue: opQueue, Of: h.pos, Message: &o.message, Envelope: message.Envelope{Reserved: o.props[:]}}
}

// visible is the message in its real topic, as RocketMQ writes it: with the
// properties that the half has.
func visible(h *half, r *message.Record) Copy {
	c := Copy{Queue: h.real, Of: h.pos, Source: r, Envelope: message.Envelope{
		SysFlag: message.FlagCommit, ReconsumeTimes: r.ReconsumeTimes(), PreparedOffset: h.pos}}
	c.Envelope.Reserved = h.named(r)
	return c
}

// aside is a half that is given up.
func aside(h *half, r *message.Record) Copy {
	// Its verdict names the half's place in the half topic, also when it comes
	// after this record has been carried forward.
	return moved(h, r, maxQueue, message.Hex16(h.pos)+message.Hex16(h.offset))
}

// again is a half that is carried forward.
func again(h *half, r *message.Record) Copy {
	if h.state == givenUp && !(plant.Enabled && plant.Is(plant.HalfRevived)) {
		return aside(h, r)
	}
	return moved(h, r, halfQueue, message.Hex16(h.pos))
}

func moved(h *half, r *message.Record, to message.Queue, carries string) Copy {
	c := Copy{Queue: to, Real: h.real, Of: h.pos, Source: r, Envelope: message.Envelope{ReconsumeTimes: r.ReconsumeTimes()}}
	c.Envelope.Reserved = append(h.named(r), message.Property{Name: message.PropCarries, Value: carries, Own: true})
	if h.checks > 0 {
		c.Envelope.Reserved = append(c.Envelope.Reserved, message.Property{Name: message.PropTranChecks, Value: strconv.Itoa(int(h.checks))})
	}
	return c
}

// named gives a copy the half's id if its record has none, as some of RocketMQ's.
func (h *half) named(r *message.Record) []message.Property {
	if r.UniqueID() != "" {
		return nil
	}
	return []message.Property{{Name: message.PropUniqKey, Value: h.handle()}}
}
