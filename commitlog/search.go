package commitlog

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/embermq/embermq/message"
)

// magicPrefix is what both versions' magic codes begin with.
var magicPrefix = []byte{0xDA, 0xA3, 0x20}

const (
	magicAt     = 4  // where in a record the magic code lies
	positionEnd = 36 // where the field of its position ends
)

// search returns the first valid record that starts at or behind from. It looks
// at every byte that is not in a hole.
func (c *cursor) search(from int64, foreign []Range) (position int64, found bool, err error) {
	for _, s := range c.segs.all() {
		if s.end() <= from {
			continue
		}
		position, found, err = c.searchSegment(s, max(from, s.base), foreign)
		if err != nil || found {
			return position, found, err
		}
	}
	return 0, false, nil
}

func (c *cursor) searchSegment(s *segment, from int64, foreign []Range) (int64, bool, error) {
	for at := from; at < s.end()-message.FrameSize; {
		if err := c.enter(at); err != nil {
			return 0, false, err
		}
		start, end, err := c.h.file.NextData(at - s.base)
		if err == io.EOF {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, err
		}
		// A record may begin in what the file system calls a hole: its length may
		// start with zeros.
		start = max(at, s.base+start-message.FrameSize)
		end = min(s.base+end, s.end())
		position, found, err := c.searchRange(start, end, foreign)
		if err != nil || found {
			return position, found, err
		}
		at = max(end, at+1)
	}
	return 0, false, nil
}

// searchRange looks for records whose magic code lies in [from, to).
func (c *cursor) searchRange(from, to int64, foreign []Range) (int64, bool, error) {
	var rec message.Record
	for at := from; at < to; {
		n := int(min(readChunk/2, to-at))
		b, err := c.bytes(at, n)
		if err != nil {
			return 0, false, err
		}
		i := bytes.Index(b, magicPrefix)
		if i < 0 {
			if len(b) < n || int64(n) == to-at {
				return 0, false, nil
			}
			at += int64(n - len(magicPrefix) + 1)
			continue
		}
		candidate := at + int64(i) - magicAt
		at += int64(i) + 1
		if candidate < from {
			continue
		}
		// Most chance hits fail here, before anything large is read.
		head, err := c.bytes(candidate, positionEnd)
		if err != nil {
			return 0, false, err
		}
		if len(head) < positionEnd || int64(binary.BigEndian.Uint64(head[positionEnd-8:])) != candidate {
			continue
		}
		it, err := c.look(candidate, &rec, inRanges(foreign, candidate))
		if err != nil {
			return 0, false, err
		}
		if it.kind == message.FrameMessage {
			return candidate, true, nil
		}
	}
	return 0, false, nil
}
