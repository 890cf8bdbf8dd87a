package dedupe

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/embermq/embermq/message"
)

// On disk. Do not change. docs/format/dedupe.md describes it.
//
//	v/dedupe/m              version:1 offset:8 fingerprint:4
//	v/dedupe/e/<position>   version:1, then up to 1,024 entries, the first at position:
//	                        position:8 hash:4 second:4
const (
	prefixAll  = "v/dedupe/"
	keyMark    = prefixAll + "m"
	prefixRows = prefixAll + "e/"
	rowVersion = 1
	rowLen     = 1024
	entrySize  = 16
)

// prefixEnd is the first key after all keys that begin with prefix.
func prefixEnd(prefix string) []byte {
	b := []byte(prefix)
	b[len(b)-1]++
	return b
}

func damage(key []byte, what string) error {
	return fmt.Errorf("row %q: %s: %w", key, what, message.ErrCorrupt)
}

func rowKey(position int64) []byte {
	return binary.BigEndian.AppendUint64([]byte(prefixRows), uint64(position))
}

func appendEntry(b []byte, e entry) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(e.position))
	b = binary.BigEndian.AppendUint32(b, e.hash)
	return binary.BigEndian.AppendUint32(b, e.second)
}

func parseEntry(b []byte) entry {
	return entry{
		position: int64(binary.BigEndian.Uint64(b)),
		hash:     binary.BigEndian.Uint32(b[8:]),
		second:   binary.BigEndian.Uint32(b[12:]),
	}
}

// parseRow checks the form of a row of entries and returns its first position.
func parseRow(k, v []byte) (first int64, err error) {
	rest, ok := strings.CutPrefix(string(k), prefixRows)
	switch {
	case !ok || len(rest) != 8:
		return 0, damage(k, "no position")
	case len(v) == 0 || v[0] != rowVersion:
		return 0, damage(k, "unknown version")
	case len(v) == 1 || (len(v)-1)%entrySize != 0 || len(v) > 1+rowLen*entrySize:
		return 0, damage(k, fmt.Sprintf("%d bytes", len(v)))
	}
	return int64(binary.BigEndian.Uint64([]byte(rest))), nil
}

func appendMark(m message.Mark) []byte {
	b := binary.BigEndian.AppendUint64([]byte{rowVersion}, uint64(m.Offset))
	return binary.BigEndian.AppendUint32(b, m.Fingerprint)
}

func parseMark(v []byte) (m message.Mark, err error) {
	if len(v) != 13 || v[0] != rowVersion {
		return m, damage([]byte(keyMark), "unknown version or length")
	}
	m.Offset = int64(binary.BigEndian.Uint64(v[1:]))
	m.Fingerprint = binary.BigEndian.Uint32(v[9:])
	if m.Offset < 0 {
		return message.Mark{}, damage([]byte(keyMark), "negative offset")
	}
	return m, nil
}
