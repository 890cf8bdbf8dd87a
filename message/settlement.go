package message

import (
	"strings"
	"time"
)

// Settlement names one record that a group needs no more. It stands in the
// record that takes its place for the group: a retry, a dead letter, a copy in
// another topic. So one append both writes the copy and settles the original.
type Settlement struct {
	Group string
	Epoch uint64 // the group's; a settlement of an older one does not count
	Queue Queue
	// Offset is the settled record's in Queue.
	Offset int64
}

// The value of PropSettles behind the own position: epoch and offset as 16 hex
// digits each, the queue's number as 8, topic, a colon, group. No name holds a
// colon. On disk. Do not change.
const (
	settlesFixed = 16 + 16 + 8
	settlesSep   = ":"
)

// Property is what the record that takes the other one's place bears.
func (s Settlement) Property() Property {
	var b [settlesFixed]byte
	putHex(b[0:], s.Epoch)
	putHex(b[16:], uint64(s.Offset))
	var id [ownDigits]byte
	putHex(id[:], uint64(uint32(s.Queue.ID)))
	copy(b[32:], id[8:])
	return Property{Name: PropSettles, Value: string(b[:]) + s.Queue.Topic + settlesSep + s.Group, Own: true}
}

// Settles returns what the record settles besides being itself. ok is false for
// one that settles nothing, or whose property was copied from another record.
// The strings alias the bytes.
func (r *Record) Settles() (s Settlement, ok bool) {
	v, ok := r.OwnValue(PropSettles)
	if !ok || len(v) < settlesFixed {
		return Settlement{}, false
	}
	epoch, ok1 := hexNumber(v[:16])
	offset, ok2 := hexNumber(v[16:32])
	id, ok3 := hexNumber(v[32:40])
	topic, group, ok4 := strings.Cut(v[settlesFixed:], settlesSep)
	if !ok1 || !ok2 || !ok3 || !ok4 || topic == "" || group == "" || int64(offset) < 0 || id > 1<<31-1 {
		return Settlement{}, false
	}
	return Settlement{Group: group, Epoch: epoch, Queue: Queue{Topic: topic, ID: int32(id)}, Offset: int64(offset)}, true
}

// ExpireAt returns the time past which the message is not handled any more, if
// it has one.
func (r *Record) ExpireAt() (t time.Time, ok bool) {
	v, ok := r.Property(PropExpire)
	if !ok {
		return time.Time{}, false
	}
	t = parseMillis(v)
	return t, !t.IsZero()
}
