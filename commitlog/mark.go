package commitlog

import (
	"encoding/binary"

	"github.com/embermq/embermq/message"
)

// sumSize is the size of the checksum property that ends every record of ours.
const sumSize = len(message.PropCRC) + 1 + 10 + 1

// MarkMatches reports whether a record with the mark's fingerprint ends at the
// mark's offset. A mark of nothing, at the start of the log, matches. A mark
// behind the end or in front of the start does not.
func (l *Log) MarkMatches(m message.Mark) (bool, error) {
	if m == (message.Mark{}) {
		return true, nil
	}
	return l.segs.markMatches(m, l.appended.Load(), l.foreignAt(m.Offset-1))
}

// markMatches looks no further than end.
func (ss *segments) markMatches(m message.Mark, end int64, foreign bool) (bool, error) {
	list := ss.all()
	if len(list) == 0 {
		return m.Offset == end && m.Fingerprint == 0, nil
	}
	start := list[0].base
	if m.Offset == start && m.Fingerprint == 0 {
		return true, nil
	}
	if m.Offset < start+message.MinRecordSize || m.Offset > end {
		return false, nil
	}
	// A record never ends at its segment's end, where a blank does.
	s := ss.find(m.Offset - 1)
	if s == nil || m.Offset-s.base < message.MinRecordSize {
		return false, nil
	}
	c := cursor{segs: ss, stopReading: m.Offset}
	defer c.close()
	if foreign {
		return c.walkTo(s.base, m)
	}
	b, err := c.bytes(m.Offset-int64(sumSize), sumSize)
	if err != nil {
		return false, err
	}
	sum, ok := parseSum(b)
	return ok && sum == m.Fingerprint, nil
}

// parseSum reads the checksum property out of a record's last bytes.
func parseSum(b []byte) (sum uint32, ok bool) {
	const name = message.PropCRC + "\x01"
	if len(b) != sumSize || string(b[:len(name)]) != name || b[sumSize-1] != 2 {
		return 0, false
	}
	var v uint64
	for i := sumSize - 2; i >= len(name); i-- {
		d := b[i] - '0'
		if d > 9 {
			return 0, false
		}
		v = v*10 + uint64(d)
	}
	return uint32(v), v <= 1<<31
}

// walkTo steps from record to record until the mark: a foreign record may have
// no checksum of its own, so what it ends with says nothing.
func (c *cursor) walkTo(at int64, m message.Mark) (bool, error) {
	for at < m.Offset {
		b, err := c.bytes(at, message.FrameSize)
		if err != nil {
			return false, err
		}
		size, kind := message.Frame(b)
		if kind != message.FrameMessage || at+int64(size) > m.Offset {
			return false, nil
		}
		if at+int64(size) == m.Offset {
			if b, err = c.bytes(at, size); err != nil {
				return false, err
			}
			r, err := message.ParseRecord(b)
			return err == nil && int64(binary.BigEndian.Uint64(b[28:])) == at && r.Fingerprint() == m.Fingerprint, nil
		}
		at += int64(size)
	}
	return false, nil
}

// foreignAt reports whether position lies in a range that another program wrote.
func (l *Log) foreignAt(position int64) bool { return inRanges(l.recovery.Foreign, position) }

func inRanges(rs []Range, position int64) bool {
	for _, r := range rs {
		if position < r.From {
			return false
		}
		if position < r.To {
			return true
		}
	}
	return false
}
