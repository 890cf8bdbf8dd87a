package message

import (
	"strconv"
	"time"
)

// VerdictKind is what a consumer decided about a record.
type VerdictKind uint8

const (
	// Done settles one offset.
	Done VerdictKind = iota + 1
	// DoneThrough settles an offset and everything below it. The offset below
	// the first one to read, which may be -1, only says where a group begins.
	DoneThrough
	// Retry settles the offset and delivers a copy of the record again after
	// Verdict.After; zero lets the engine's table choose by the record's attempt,
	// and less than zero is at once.
	// A record that has been retried as often as the group allows becomes a dead
	// letter instead. A leased record is not copied: it becomes visible again.
	Retry
	// DeadLetter settles the offset and keeps the record, with Verdict.Reason,
	// among the group's dead letters.
	DeadLetter
	// Extend keeps a leased record invisible for Verdict.After from now on.
	Extend
	// Failed counts a failed delivery of a record that stays unsettled in its
	// place, for groups that keep order.
	Failed
	// Begin says that a group begins at the offset in a queue in which it has
	// settled nothing yet; otherwise it does nothing. Of members that share a
	// queue, the first one decides.
	Begin
)

// String returns the name of the constant.
func (k VerdictKind) String() string {
	switch k {
	case Done:
		return "Done"
	case DoneThrough:
		return "DoneThrough"
	case Retry:
		return "Retry"
	case DeadLetter:
		return "DeadLetter"
	case Extend:
		return "Extend"
	case Failed:
		return "Failed"
	case Begin:
		return "Begin"
	}
	return "VerdictKind(" + strconv.Itoa(int(k)) + ")"
}

// Verdict settles, retries or extends one record for a group.
type Verdict struct {
	Queue  Queue
	Offset int64
	Kind   VerdictKind
	After  time.Duration
	// Reason stands in a dead letter. It holds what a property may.
	Reason string
	// Lease is the lease under which the record was received; zero if it was
	// not leased. A verdict of an earlier lease is ErrFenced.
	Lease uint64
}

// Range is the offsets from From up to To, which is not one of them.
type Range struct{ From, To int64 }

// Standing is how far a group has come in one queue.
type Standing struct {
	// Known is false for a queue in which the group has settled nothing yet;
	// whoever consumes it first chooses where to begin.
	Known bool
	// Committed is the lowest unsettled offset.
	Committed int64
	// Settled are the offsets above Committed that need no delivery any more,
	// sorted, apart from each other.
	Settled []Range
	// Attempts counts, by offset, the failed deliveries of unsettled records;
	// nil for none.
	Attempts map[int64]int
}

// Leased is a record that its receiver alone sees until a time.
type Leased struct {
	Record Record
	// Lease goes back in the verdict. It is never zero.
	Lease uint64
	// Attempt is 1 for the first delivery.
	Attempt int
	Until   time.Time
}

// LeaseBatch is the result of a lease. The caller owns the records' bytes.
type LeaseBatch struct {
	Records []Leased
	// Wait is when the next record that is invisible now becomes visible, if
	// there is one; zero otherwise.
	Wait time.Time
}
