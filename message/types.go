package message

import (
	"context"
	"strconv"
	"time"
)

// Queue names one queue of a topic. It is comparable and may be a map key.
type Queue struct {
	Topic string
	ID    int32
}

// String returns "topic/3".
func (q Queue) String() string {
	return q.Topic + "/" + strconv.FormatInt(int64(q.ID), 10)
}

// Durability says what a Put waits for before it returns.
type Durability uint8

const (
	// StoreDefault leaves the choice to the store's own default.
	StoreDefault Durability = iota
	// OnDisk waits until the record is synced: a power cut does not lose it.
	OnDisk
	// InCache waits until the kernel has the record: a kill of the process does
	// not lose it, a power cut may.
	InCache
)

// String returns the name of the constant.
func (d Durability) String() string {
	switch d {
	case StoreDefault:
		return "StoreDefault"
	case OnDisk:
		return "OnDisk"
	case InCache:
		return "InCache"
	}
	return "Durability(" + strconv.Itoa(int(d)) + ")"
}

// Message is what a user sends. The store does not change it and does not keep
// it: once a Put has returned, or a PutAsync has been accepted, the caller may
// use it and its body again.
type Message struct {
	Topic string
	// Tag is what tag filters compare; at most one, empty for none.
	Tag string
	// ShardingKey chooses the queue for producers that keep order by key.
	ShardingKey string
	// UniqueID is the message's name, kept through retries, timers and dead
	// letters: property UNIQ_KEY. Whoever sets it can ask for the message by it
	// when the outcome of a put is unknown. If empty, the store names the
	// messages that need a name.
	UniqueID string
	// IdempotencyKey lets the store recognise a message that is sent twice.
	IdempotencyKey string
	// QueueID is the queue that a Put on the store itself uses. A producer
	// overwrites it unless it was told to keep the caller's choice.
	QueueID int32
	// Keys are what the index finds the message by. They are joined by a space
	// on disk, so a key is neither empty nor does it contain one.
	Keys []string
	// Body may be empty. It is stored as it is; Encoding tells readers how it
	// is compressed.
	Body []byte
	// Properties travel with the message and are stored sorted by name. A value
	// is not empty, and neither names nor values hold the bytes 0x01 and 0x02.
	Properties map[string]string

	// DelayLevel, Delay and DeliverAt ask for a later delivery. At most one of
	// them is set.
	DelayLevel int
	Delay      time.Duration
	DeliverAt  time.Time

	// ExpireAt is the time past which no handler runs any more; zero is never.
	// Milliseconds are kept.
	ExpireAt time.Time

	// ReplyTo says that somebody waits for an answer; nil for nobody.
	ReplyTo *ReplyTo

	// Unindexed keeps the message out of the index: its keys and its id are
	// stored and cannot be queried.
	Unindexed bool

	Durability Durability
	// Flag is 32 bits of the user's own that the store carries and never reads.
	Flag int32
	// Encoding says how Body is already compressed.
	Encoding Encoding
}

// ReplyTo is how an answer finds whoever asked: properties CORRELATION_ID,
// REPLY_TO_CLIENT and TTL.
type ReplyTo struct {
	Correlation string        // names the question
	Client      string        // names who asked
	TTL         time.Duration // how long it waits, in whole milliseconds
}

// Receipt tells where a message went.
type Receipt struct {
	// Queue is the queue of delivery, also for a message that waits elsewhere.
	Queue Queue
	// Offset is the message's offset in Queue, or -1 while it waits (delayed,
	// half).
	Offset int64
	// Position is where the record lies in the commit log. For a waiting
	// message it is the waiting record's.
	Position int64
	StoredAt time.Time
	// Timer identifies a delayed message that can still be cancelled.
	Timer TimerID
}

// Batch is the result of a read. The caller owns the records' bytes. Next is
// the offset to read from next; it passes records that a filter left out.
type Batch struct {
	Records []Record
	Next    int64
}

// Limit bounds a read. A zero field leaves the choice to the callee.
type Limit struct {
	Count int
	Bytes int
}

// Watch waits for records on a set of queues with one goroutine.
type Watch interface {
	// Add watches more queues for records that f may match (nil: all of them);
	// a queue watched already gets the new filter. Add and Remove may be called
	// while Next waits.
	Add(f Filter, qs ...Queue)
	Remove(qs ...Queue)
	// Next returns a queue that may have records its caller has not seen: each
	// queue once after Add, then whenever a matching tag hash arrives. It waits
	// until there is one or ctx ends.
	Next(ctx context.Context) (Queue, error)
	// Close frees the watch and ends a waiting Next with ErrClosed.
	Close() error
}

// Bound chooses between the two answers of a search by time.
type Bound uint8

const (
	// Lower is the first record that was stored at or after the time.
	Lower Bound = iota
	// Upper is the last record that was stored at or before the time.
	Upper
)

// String returns the name of the constant.
func (b Bound) String() string {
	switch b {
	case Lower:
		return "Lower"
	case Upper:
		return "Upper"
	}
	return "Bound(" + strconv.Itoa(int(b)) + ")"
}

// StartKind says which field of a Start counts.
type StartKind uint8

const (
	// StartFirst is the first kept record.
	StartFirst StartKind = iota
	// StartLast is behind the last record: only what comes later.
	StartLast
	// StartOffset is the record at Start.Offset.
	StartOffset
	// StartTime is the first record stored at or after Start.Time.
	StartTime
)

// Start is a place in a queue to begin at. The zero value is First.
type Start struct {
	Kind   StartKind
	Offset int64
	Time   time.Time
}

// First begins at the first kept record.
func First() Start { return Start{} }

// Last begins behind the last record.
func Last() Start { return Start{Kind: StartLast} }

// At begins at an offset.
func At(offset int64) Start { return Start{Kind: StartOffset, Offset: offset} }

// AtTime begins at the first record stored at t or later.
func AtTime(t time.Time) Start { return Start{Kind: StartTime, Time: t} }

// String returns "first", "last", "offset 7" or "time 2006-…".
func (s Start) String() string {
	switch s.Kind {
	case StartFirst:
		return "first"
	case StartLast:
		return "last"
	case StartOffset:
		return "offset " + strconv.FormatInt(s.Offset, 10)
	case StartTime:
		return "time " + s.Time.Format(time.RFC3339Nano)
	}
	return "Start(" + strconv.Itoa(int(s.Kind)) + ")"
}

// HalfID names a half message of a transaction; it survives being carried
// forward in the log.
type HalfID string

// TimerID names a delayed message; it survives being carried forward in the
// log. It is empty for a message that cannot be cancelled.
type TimerID string

// Mark ties derived state to the log: Offset is the log position the state was
// built to, Fingerprint the checksum of the record that ends there. At the very
// start of a log, where no record ends, Fingerprint is zero.
type Mark struct {
	Offset      int64
	Fingerprint uint32
}
