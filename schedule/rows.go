package schedule

import (
	"bytes"
	"encoding/binary"

	"github.com/embermq/embermq/message"
)

// Keys. On disk. Do not change. See doc.go.
const (
	prefixAll    = "v/timer/"
	keyAhead     = "v/timer/a"
	prefixBucket = "v/timer/b/"
	prefixTopic  = "v/timer/c/"
	prefixID     = "v/timer/i/"
	keyMark      = "v/timer/m"
	prefixTimer  = "v/timer/t/"

	rowVersion = 1
)

// end is the first key behind all that begin with prefix, whose last byte is a
// slash.
func end(prefix string) []byte { return []byte(prefix[:len(prefix)-1] + "0") }

func appendKey(b []byte, k key) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(k.due))
	return binary.BigEndian.AppendUint64(b, uint64(k.pos))
}

// parseKey reads what appendKey wrote.
func parseKey(b []byte) (key, bool) {
	if len(b) != 16 {
		return key{}, false
	}
	k := key{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))}
	return k, k.due >= 0 && k.pos >= 0
}

func timerKey(b []byte, k key) []byte { return appendKey(append(b, prefixTimer...), k) }

func idKey(b []byte, i ident, k key) []byte {
	return appendKey(append(append(b, prefixID...), i[:]...), k)
}

// row is a timer as it lies on disk.
type row struct {
	key
	id    ident
	size  int32
	flags uint8
	topic string
	disk  bool // read from disk, by page
}

func damage(k []byte, reason string) error {
	return &message.CorruptError{Reason: "timer row " + string(bytes.ToValidUTF8(k, []byte("."))) + ": " + reason}
}

func appendTimer(b []byte, t *timer) []byte {
	b = append(b, rowVersion, t.flags)
	b = binary.BigEndian.AppendUint32(b, uint32(t.size))
	b = append(b, t.id[:]...)
	return append(b, t.topic.name...)
}

// parseTimer reads a row. topic is reused as the row's if it has the same bytes.
func parseTimer(k, v []byte, topic string) (r row, err error) {
	var ok bool
	if !bytes.HasPrefix(k, []byte(prefixTimer)) {
		return r, damage(k, "key is not a timer's")
	}
	if r.key, ok = parseKey(k[len(prefixTimer):]); !ok {
		return r, damage(k, "bad key")
	}
	if len(v) > 0 && v[0] != rowVersion {
		return r, damage(k, "unknown version")
	}
	if len(v) < 23 {
		return r, damage(k, "too short")
	}
	r.flags = v[1]
	size := binary.BigEndian.Uint32(v[2:])
	if r.flags&^flagsRow != 0 || size > 1<<31-1 {
		return r, damage(k, "bad flags or size")
	}
	r.size = int32(size)
	copy(r.id[:], v[6:])
	if r.topic = topic; topic != string(v[22:]) {
		r.topic = string(v[22:])
	}
	return r, nil
}

// parseID reads the key of an index row.
func parseID(k []byte) (i ident, at key, ok bool) {
	if !bytes.HasPrefix(k, []byte(prefixID)) || len(k) != len(prefixID)+32 {
		return i, at, false
	}
	k = k[len(prefixID):]
	copy(i[:], k)
	at, ok = parseKey(k[16:])
	return i, at, ok
}

// topicRow is a topic's state at a freeze.
type topicRow struct {
	name         string
	count, floor int64
}

func (r *topicRow) append(b []byte) []byte {
	b = append(b, rowVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(r.count))
	return binary.BigEndian.AppendUint64(b, uint64(r.floor))
}

func parseTopic(k, v []byte) (r topicRow, err error) {
	if len(k) <= len(prefixTopic) || len(v) != 17 || v[0] != rowVersion {
		return r, damage(k, "bad topic row")
	}
	r.name = string(k[len(prefixTopic):])
	r.count = int64(binary.BigEndian.Uint64(v[1:]))
	r.floor = int64(binary.BigEndian.Uint64(v[9:]))
	if r.count < 0 || r.floor < 0 {
		return r, damage(k, "negative number")
	}
	return r, nil
}

func parseBucket(k, v []byte) (b, n int64, err error) {
	if len(k) != len(prefixBucket)+8 || len(v) != 9 || v[0] != rowVersion {
		return 0, 0, damage(k, "bad bucket row")
	}
	b = int64(binary.BigEndian.Uint64(k[len(prefixBucket):]))
	n = int64(binary.BigEndian.Uint64(v[1:]))
	if b < 0 || n <= 0 {
		return 0, 0, damage(k, "bad number")
	}
	return b, n, nil
}

// markRow is what a save writes last.
type markRow struct {
	mark  message.Mark
	base  int64
	floor key // no timer row is below
}

func (r *markRow) append(b []byte) []byte {
	b = append(b, rowVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(r.mark.Offset))
	b = binary.BigEndian.AppendUint32(b, r.mark.Fingerprint)
	b = binary.BigEndian.AppendUint64(b, uint64(r.base))
	return appendKey(b, r.floor)
}

func parseMark(k, v []byte) (r markRow, err error) {
	if len(v) != 37 || v[0] != rowVersion {
		return r, damage(k, "bad mark")
	}
	r.mark.Offset = int64(binary.BigEndian.Uint64(v[1:]))
	r.mark.Fingerprint = binary.BigEndian.Uint32(v[9:])
	r.base = int64(binary.BigEndian.Uint64(v[13:]))
	var ok bool
	if r.floor, ok = parseKey(v[21:]); !ok || r.mark.Offset < 0 || r.base < -1 {
		return r, damage(k, "bad number")
	}
	return r, nil
}
