package schedule

import (
	"encoding/binary"

	"github.com/embermq/embermq/message"
)

// Import says which waiting records of another program's log still wait. RocketMQ
// keeps this in files beside its log; here it is a rule about records, so that a
// rebuild years later decides the same. The store keeps it (AppendBinary) and
// passes Waits as Options.Foreign.
type Import struct {
	// End is where the foreign part of the log ends: records behind it are ours.
	End int64
	// Levels is RocketMQ's config/delayOffset.json: for each level, the first
	// being level 1, the queue offset from which messages were not delivered. A
	// level that is missing has delivered none.
	Levels []int64
	// Checked says that there was a config/timercheck, and LastRead and
	// QueueOffset are its lastReadTimeMs and lastTimerQueueOffset. Without it, Now
	// decides: what was due before is taken as delivered.
	Checked     bool
	LastRead    int64
	QueueOffset int64
	Now         int64 // ms; when the import was made
	// Table turns levels into delays for records without a due time.
	Table Levels
}

// Waits reports whether a waiting record still counts.
func (i *Import) Waits(r *message.Record) bool {
	if r.Position() >= i.End {
		return true
	}
	if r.Topic() == message.TopicSchedule {
		q := int(r.QueueID())
		return q < 0 || q >= len(i.Levels) || r.Offset() >= i.Levels[q]
	}
	w, ok := i.Table.parse(r)
	switch {
	case !ok || w.cancels != "":
		return true // says nothing about waiting; the Schedule knows what to do
	case i.Checked:
		return w.due >= i.LastRead || r.Offset() >= i.QueueOffset
	}
	return w.due >= i.Now
}

// ClampLevels moves the offsets into what each level's queue holds, as RocketMQ
// does when it loads them.
func (i *Import) ClampLevels(bounds func(q message.Queue) (start, end int64)) {
	for q := range i.Levels {
		start, end := bounds(message.Queue{Topic: message.TopicSchedule, ID: int32(q)})
		i.Levels[q] = min(max(i.Levels[q], start), end)
	}
}

// AppendBinary appends the rule, but for Table, as ParseImport reads it.
func (i *Import) AppendBinary(b []byte) ([]byte, error) {
	checked := byte(0)
	if i.Checked {
		checked = 1
	}
	b = append(b, rowVersion, checked)
	for _, v := range []int64{i.End, i.LastRead, i.QueueOffset, i.Now} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	for _, v := range i.Levels {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b, nil
}

// ParseImport reads what AppendBinary wrote.
func ParseImport(b []byte, table Levels) (*Import, error) {
	const head = 2 + 4*8
	if len(b) < head || (len(b)-head)%8 != 0 || len(b) > head+8*maxLevels || b[0] != rowVersion || b[1] > 1 {
		return nil, &message.CorruptError{Reason: "import of timers: bad length or version"}
	}
	i := &Import{Checked: b[1] == 1, Table: table}
	at := 2
	next := func() int64 {
		at += 8
		return int64(binary.BigEndian.Uint64(b[at-8:]))
	}
	i.End, i.LastRead, i.QueueOffset, i.Now = next(), next(), next(), next()
	for at < len(b) {
		i.Levels = append(i.Levels, next())
	}
	return i, nil
}
