package progress

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/embermq/embermq/message"
)

// Prefixes of the key space. On disk. Do not change.
const (
	keyEpoch     = "p/e"
	prefixGroup  = "p/g/"
	prefixOffset = "p/o/"
)

// The first byte of every value. On disk. Do not renumber. Zero is never valid.
const rowVersion = 1

// rowVersionAbove is that of a place with something above the committed offset.
// On disk. Do not renumber.
const rowVersionAbove = 2

// Flags of a group row. On disk. Do not renumber.
const (
	flagBroadcast = 1 << iota
	flagDisabled
	flagsKnown = flagBroadcast | flagDisabled
)

const (
	epochRowSize  = 1 + 8
	groupRowSize  = 1 + 1 + 8 + 8 + 4 + 4
	offsetRowSize = 1 + 8
)

// groupRow is what p/g/ holds besides the name.
type groupRow struct {
	settings Group // Name is in the key
	epoch    uint64
	seen     int64
}

func groupKey(name string) []byte { return append([]byte(prefixGroup), name...) }

// groupRange is the range of all offsets of a group. No name contains a zero
// byte, so the end excludes every other group.
func groupRange(group string) (from, to []byte) {
	from = make([]byte, 0, len(prefixOffset)+len(group)+1)
	from = append(from, prefixOffset...)
	from = append(from, group...)
	to = append(append([]byte(nil), from...), 1)
	return append(from, 0), to
}

// topicRange is the range of a group's offsets in one topic.
func topicRange(group, topic string) (from, to []byte) {
	from, _ = groupRange(group)
	from = append(from, topic...)
	to = append(append([]byte(nil), from...), 1)
	return append(from, 0), to
}

// appendOffsetKey appends the key of one offset to dst.
func appendOffsetKey(dst []byte, group, topic string, id int32) []byte {
	dst = append(dst, prefixOffset...)
	dst = append(dst, group...)
	dst = append(dst, 0)
	dst = append(dst, topic...)
	dst = append(dst, 0)
	return binary.BigEndian.AppendUint32(dst, uint32(id))
}

// parseGroupKey takes any bytes; the result does not alias them.
func parseGroupKey(key []byte) (name string, err error) {
	name, ok := strings.CutPrefix(string(key), prefixGroup)
	if !ok || name == "" || strings.IndexByte(name, 0) >= 0 {
		return "", damage(key, "not the key of a group")
	}
	return name, nil
}

// parseOffsetKey takes any bytes; the results do not alias them.
func parseOffsetKey(key []byte) (group string, q message.Queue, err error) {
	bad := func() (string, message.Queue, error) {
		return "", message.Queue{}, damage(key, "not the key of an offset")
	}
	rest, ok := strings.CutPrefix(string(key), prefixOffset)
	if !ok {
		return bad()
	}
	group, rest, ok = strings.Cut(rest, "\x00")
	if !ok || group == "" {
		return bad()
	}
	topic, id, ok := strings.Cut(rest, "\x00")
	if !ok || topic == "" || len(id) != 4 {
		return bad()
	}
	n := binary.BigEndian.Uint32([]byte(id))
	if n > 1<<31-1 {
		return bad()
	}
	return group, message.Queue{Topic: topic, ID: int32(n)}, nil
}

func encodeEpoch(epoch uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{rowVersion}, epoch)
}

func decodeEpoch(key, v []byte) (uint64, error) {
	if err := checkRow(key, v, epochRowSize); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v[1:]), nil
}

func encodeGroup(r groupRow) []byte {
	b := make([]byte, 0, groupRowSize)
	var flags byte
	if r.settings.Broadcast {
		flags |= flagBroadcast
	}
	if r.settings.Disabled {
		flags |= flagDisabled
	}
	b = append(b, rowVersion, flags)
	b = binary.BigEndian.AppendUint64(b, r.epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(r.seen))
	b = binary.BigEndian.AppendUint32(b, uint32(int32(r.settings.RetryMax)))
	return binary.BigEndian.AppendUint32(b, uint32(int32(r.settings.RetryQueues)))
}

// decodeGroup leaves the name empty and checks the settings as CreateGroup does.
func decodeGroup(key, v []byte) (groupRow, error) {
	if err := checkRow(key, v, groupRowSize); err != nil {
		return groupRow{}, err
	}
	if v[1]&^flagsKnown != 0 {
		return groupRow{}, damage(key, "unknown flags")
	}
	r := groupRow{
		settings: Group{
			Broadcast:   v[1]&flagBroadcast != 0,
			Disabled:    v[1]&flagDisabled != 0,
			RetryMax:    int(int32(binary.BigEndian.Uint32(v[18:]))),
			RetryQueues: int(int32(binary.BigEndian.Uint32(v[22:]))),
		},
		epoch: binary.BigEndian.Uint64(v[2:]),
		seen:  int64(binary.BigEndian.Uint64(v[10:])),
	}
	// Zero means "the default" in a call; a stored row has it resolved.
	if r.settings.RetryMax == 0 || r.settings.RetryQueues == 0 || r.settings.normalise() != nil {
		return groupRow{}, damage(key, "settings out of range")
	}
	return r, nil
}

func appendOffset(dst []byte, offset int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, rowVersion), uint64(offset))
}

func decodeOffset(key, v []byte) (int64, error) {
	if err := checkRow(key, v, offsetRowSize); err != nil {
		return 0, err
	}
	offset := int64(binary.BigEndian.Uint64(v[1:]))
	if offset < 0 {
		return 0, damage(key, "negative offset")
	}
	return offset, nil
}

func checkRow(key, v []byte, size int) error {
	if len(v) == 0 || v[0] == 0 {
		return damage(key, "row without a version")
	}
	if v[0] != rowVersion {
		return &unknownVersion{key: string(key), version: v[0]}
	}
	if len(v) != size {
		return damage(key, "row of "+strconv.Itoa(len(v))+" bytes, not "+strconv.Itoa(size))
	}
	return nil
}

// damage names the key as the path: rows have no place in a file that a reader
// could look up.
func damage(key []byte, reason string) error {
	return &message.CorruptError{Path: "key " + strconv.Quote(string(key)), Reason: reason}
}

// unknownVersion is a row that a newer program wrote.
type unknownVersion struct {
	key     string
	version byte
}

func (e *unknownVersion) Error() string {
	return "progress: key " + strconv.Quote(e.key) + ": row version " +
		strconv.Itoa(int(e.version)) + " is not known here"
}

func (e *unknownVersion) Is(target error) bool { return target == message.ErrUnknownFormat }
