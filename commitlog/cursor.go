package commitlog

import (
	"errors"
	"fmt"
	"io"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// cursor reads the log from front to back. The bytes it returns are valid until
// its next call.
//
// With a mapping it lends the file's own pages after having brought the next MiB
// into memory; otherwise it reads pieces into a buffer.
type cursor struct {
	segs *segments
	h    *handle

	mapped      bool // may use the mapping
	view        *view
	inMem       [2]int64 // positions known to be in memory
	buf         []byte
	from, to    int64 // positions in buf
	stopReading int64 // position at which reading ahead ends, 0 for the segment's end
}

func (c *cursor) close() {
	if c.h != nil {
		c.h.release()
		c.h = nil
	}
	putBuf(c.buf)
	c.buf = nil
}

// enter holds the segment of position.
func (c *cursor) enter(position int64) error {
	if c.h != nil {
		if s := c.h.seg; position >= s.base && position < s.end() {
			return nil
		}
		c.h.release()
		c.h, c.view = nil, nil
	}
	s := c.segs.find(position)
	if s == nil {
		return fmt.Errorf("commitlog: position %d: %w", position, message.ErrNotFound)
	}
	h, err := c.segs.acquire(s)
	if err != nil {
		return err
	}
	c.h, c.from, c.to = h, 0, 0
	c.inMem = [2]int64{}
	if c.mapped {
		c.view = h.bytes()
	}
	return nil
}

// bytes returns n bytes at position, or fewer at the segment's end.
func (c *cursor) bytes(position int64, n int) ([]byte, error) {
	if err := c.enter(position); err != nil {
		return nil, err
	}
	s := c.h.seg
	end := min(position+int64(n), s.end())
	if c.view != nil && c.view.b != nil {
		if c.populate(position, end) {
			return c.view.b[position-s.base : end-s.base], nil
		}
		c.view = nil // this platform cannot populate
	}
	if position < c.from || end > c.to {
		if err := c.fill(position, end); err != nil {
			return nil, err
		}
	}
	return c.buf[position-c.from : end-c.from], nil
}

func (c *cursor) populate(from, to int64) bool {
	if from >= c.inMem[0] && to <= c.inMem[1] {
		return true
	}
	s := c.h.seg
	end := min(max(to, from+readChunk), s.end())
	if err := c.view.m.Populate(from-s.base, end-from); err != nil {
		return false
	}
	c.inMem = [2]int64{from, end}
	return true
}

func (c *cursor) fill(from, to int64) error {
	s := c.h.seg
	end := s.end()
	if c.stopReading > from {
		end = min(end, c.stopReading)
	}
	end = max(to, min(end, from+readChunk))
	n := int(end - from)
	if cap(c.buf) < n {
		putBuf(c.buf)
		c.buf = getBuf(n)
	}
	c.buf = c.buf[:n]
	c.from, c.to = from, from
	if m, err := c.h.file.ReadAt(c.buf, from-s.base); m < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("commitlog: read segment %s at %d: %w", s.name, from-s.base, err)
	}
	c.to = end
	return nil
}

// What may be wrong at a place, beside what message knows.
const (
	defectPosition message.Defect = "record names another position"
	defectPast     message.Defect = "record reaches past its segment"
	defectFrame    message.Defect = "neither a record nor a blank"
	defectBlank    message.Defect = "blank of the wrong size"
	defectZeros    message.Defect = "zeros where a record should be"
)

// errNotCleared says that a failed write left bytes which do not go away.
var errNotCleared = errors.New("bytes of a failed write remain")

// item is what lies at a position.
type item struct {
	kind   message.FrameKind // FrameMessage and FrameBlank only if they are whole
	size   int64
	defect message.Defect // with FrameBad
}

// look examines what lies at position. A record is checked in full and left in r.
// The error is one of reading, not of what was read.
func (c *cursor) look(position int64, r *message.Record, foreign bool) (item, error) {
	head, err := c.bytes(position, message.FrameSize)
	if err != nil {
		return item{}, err
	}
	size, kind := message.Frame(head)
	remaining := c.h.seg.end() - position
	switch {
	case kind == message.FrameNone:
		return item{kind: kind}, nil
	case kind == message.FrameBlank && int64(size) == remaining:
		return item{kind: kind, size: remaining}, nil
	case kind == message.FrameBlank:
		return item{kind: message.FrameBad, defect: defectBlank}, nil
	case kind != message.FrameMessage:
		return item{kind: message.FrameBad, defect: defectFrame}, nil
	case int64(size) > remaining:
		return item{kind: message.FrameBad, defect: defectPast}, nil
	}
	b, err := c.bytes(position, size)
	if err != nil {
		return item{}, err
	}
	if err := checkRecord(r, b, position, foreign); err != nil {
		return item{kind: message.FrameBad, defect: asDefect(err)}, nil
	}
	return item{kind: kind, size: int64(size)}, nil
}

// checkRecord makes r a view of b and verifies it as the record at position.
func checkRecord(r *message.Record, b []byte, position int64, foreign bool) error {
	if err := r.Reset(b); err != nil {
		return err
	}
	if r.Position() != position && !(plant.Enabled && plant.Is(plant.LogSkipPosition)) {
		return defectPosition
	}
	if foreign {
		return r.VerifyForeign()
	}
	if plant.Enabled && plant.Is(plant.LogSkipChecksum) {
		return nil
	}
	return r.VerifyChecksum()
}

func asDefect(err error) message.Defect {
	var d message.Defect
	if errors.As(err, &d) {
		return d
	}
	return message.Defect(err.Error())
}

// corrupt is the error for a defect at position.
func (ss *segments) corrupt(position int64, reason string) *message.CorruptError {
	e := &message.CorruptError{Path: ss.dir.Path("."), Offset: position, Reason: reason}
	if s := ss.find(position); s != nil {
		e.Path, e.Offset = ss.dir.Path(s.name), position-s.base
	}
	return e
}

// isZero reports whether b holds nothing but zeros.
func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if string(b[:n]) != string(zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
