package store

import (
	"encoding/binary"
	"fmt"

	"github.com/embermq/embermq/message"
)

// maxQueues bounds the queues of one topic.
const maxQueues = 65_536

// Permission says what a topic's queues may be used for.
type Permission uint8

// PermRead and PermWrite may be combined. Zero in CreateTopic means both.
const (
	PermWrite Permission = 2 // On disk. Do not renumber (RocketMQ's bits).
	PermRead  Permission = 4
)

// Kind restricts the messages of a topic. A Put of another kind is refused
// with ErrKind.
type Kind uint8

// The kinds of topics.
const (
	KindAny           Kind = iota // On disk. Do not renumber.
	KindNormal                    // neither ordered, delayed nor transactional
	KindOrdered                   // every message has a ShardingKey
	KindDelayed                   // every message has a delay
	KindTransactional             // every message arrives through a transaction
)

func (k Kind) String() string {
	names := [...]string{"any", "normal", "ordered", "delayed", "transactional"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Topic is a topic's name and settings. To shrink a topic without losing
// messages lower WriteQueues first, let consumers drain, then lower ReadQueues.
type Topic struct {
	Name        string
	ReadQueues  int        // 1..65536; 0 in CreateTopic = WriteQueues, in UpdateTopic = as it is
	WriteQueues int        // 1..65536; 0 in CreateTopic = 4, in UpdateTopic = as it is
	Permission  Permission // 0 in CreateTopic = read and write, in UpdateTopic = as it is
	Kind        Kind
	Unindexed   bool // its messages cannot be found by key or id
}

// withDefaults fills the fields that are zero from d, and what is zero there too
// with what a new topic has.
func (t Topic) withDefaults(d Topic) Topic {
	if t.WriteQueues == 0 {
		t.WriteQueues = d.WriteQueues
	}
	if t.ReadQueues == 0 {
		t.ReadQueues = d.ReadQueues
	}
	if t.ReadQueues == 0 {
		t.ReadQueues = t.WriteQueues
	}
	if t.Permission == 0 {
		t.Permission = d.Permission
	}
	if t.Permission == 0 {
		t.Permission = PermRead | PermWrite
	}
	return t
}

func (t Topic) check() error {
	if err := message.CheckTopic(t.Name); err != nil {
		return err
	}
	bad := func(field, reason string) error { return &message.InvalidError{Field: field, Reason: reason} }
	switch {
	case t.ReadQueues < 1 || t.ReadQueues > maxQueues:
		return bad("ReadQueues", fmt.Sprintf("%d is not in 1..%d", t.ReadQueues, maxQueues))
	case t.WriteQueues < 1 || t.WriteQueues > maxQueues:
		return bad("WriteQueues", fmt.Sprintf("%d is not in 1..%d", t.WriteQueues, maxQueues))
	case t.Permission&^(PermRead|PermWrite) != 0:
		return bad("Permission", "unknown bits")
	case t.Kind > KindTransactional:
		return bad("Kind", "unknown kind")
	}
	return nil
}

// topicRow is what meta keeps of a topic, dead ones included: a topic that is
// created again continues its queue offsets.
type topicRow struct {
	Topic
	dead bool
	// birth is a log position: records below it belong to an earlier topic of
	// this name and are dead.
	birth int64
	// starts are the queue offsets at which the queues of this life began, or
	// begin since retention dropped what was before.
	starts []int64
}

// On disk. Do not renumber.
const (
	topicRowVersion = 1

	rowDead      = 1 << 0
	rowUnindexed = 1 << 1
)

func (r *topicRow) start(id int32) int64 {
	if int(id) < len(r.starts) {
		return r.starts[id]
	}
	return 0
}

// queues is how many queues the topic has, those included that are neither read
// nor written since it shrank.
func (r *topicRow) queues() int { return max(r.ReadQueues, r.WriteQueues, len(r.starts)) }

func (r *topicRow) encode() []byte {
	b := []byte{topicRowVersion, byte(r.Permission), byte(r.Kind), 0}
	if r.dead {
		b[3] |= rowDead
	}
	if r.Unindexed {
		b[3] |= rowUnindexed
	}
	b = binary.BigEndian.AppendUint32(b, uint32(r.ReadQueues))
	b = binary.BigEndian.AppendUint32(b, uint32(r.WriteQueues))
	b = binary.BigEndian.AppendUint64(b, uint64(r.birth))
	for _, s := range r.starts {
		b = binary.BigEndian.AppendUint64(b, uint64(s))
	}
	return b
}

func decodeTopicRow(name string, b []byte) (*topicRow, error) {
	const fixed = 20
	if len(b) < fixed || b[0] != topicRowVersion || (len(b)-fixed)%8 != 0 {
		return nil, fmt.Errorf("store: topic %s: bad row of %d bytes: %w", name, len(b), message.ErrCorrupt)
	}
	r := &topicRow{
		Topic: Topic{
			Name: name, Permission: Permission(b[1]), Kind: Kind(b[2]), Unindexed: b[3]&rowUnindexed != 0,
			ReadQueues:  int(binary.BigEndian.Uint32(b[4:])),
			WriteQueues: int(binary.BigEndian.Uint32(b[8:])),
		},
		dead:  b[3]&rowDead != 0,
		birth: int64(binary.BigEndian.Uint64(b[12:])),
	}
	for b = b[fixed:]; len(b) > 0; b = b[8:] {
		r.starts = append(r.starts, int64(binary.BigEndian.Uint64(b)))
	}
	if r.ReadQueues > maxQueues || r.WriteQueues > maxQueues || len(r.starts) > maxQueues {
		return nil, fmt.Errorf("store: topic %s: row with too many queues: %w", name, message.ErrCorrupt)
	}
	return r, nil
}
