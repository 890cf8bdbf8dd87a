package commitlog

import (
	"fmt"
	"runtime/debug"

	"github.com/embermq/embermq/message"
)

// Scan calls f for every record from the one at from on, in the order of the log,
// until to or the visible end. from is a record's position, or the end of one.
// The record and its bytes are lent: they are valid only during the call. end is
// where Scan stopped: behind the last record that f took, or at the place of the
// error.
//
// Damage is a *message.CorruptError; Resume finds what lies behind it. f's own
// error ends the scan and is returned as it is.
func (l *Log) Scan(from, to int64, f func(r *message.Record) error) (end int64, err error) {
	return l.scan(from, to, true, f)
}

func (l *Log) scan(from, to int64, mapped bool, f func(r *message.Record) error) (end int64, err error) {
	if l.noReads.Load() {
		return from, fmt.Errorf("commitlog: scan: %w", message.ErrClosed)
	}
	if from < l.Start() {
		return from, fmt.Errorf("commitlog: scan from %d: %w", from, message.ErrNotFound)
	}
	to = min(to, l.visible.Load())
	c := cursor{segs: &l.segs, mapped: mapped, stopReading: to}
	defer c.close()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	inLog := true // a panic inside f is f's
	defer func() {
		if !inLog {
			return
		}
		if p := recover(); p != nil {
			err = faultError(p)
		}
	}()
	var r message.Record
	foreign := len(l.recovery.Foreign) > 0
	for end = from; end < to; {
		it, err := c.look(end, &r, foreign && l.foreignAt(end))
		if err != nil {
			return end, err
		}
		switch it.kind {
		case message.FrameNone:
			return end, l.segs.corrupt(end, string(defectZeros))
		case message.FrameBad:
			return end, l.segs.corrupt(end, string(it.defect))
		case message.FrameMessage:
			inLog = false
			err = f(&r)
			inLog = true
			if err != nil {
				return end, err
			}
		}
		end += it.size
	}
	return end, nil
}

// Resume returns the position of the first whole record at or behind from, for
// going on behind damage. ok is false if there is none in front of the visible
// end.
func (l *Log) Resume(from int64) (position int64, ok bool, err error) {
	if l.noReads.Load() {
		return 0, false, fmt.Errorf("commitlog: resume: %w", message.ErrClosed)
	}
	c := cursor{segs: &l.segs}
	defer c.close()
	position, ok, err = c.search(max(from, l.Start()), l.recovery.Foreign)
	return position, ok && position < l.visible.Load(), err
}

// Ref holds what Lend has lent. The zero value is ready; one Ref serves one
// goroutine and is kept across calls, so that reading along a queue takes no lock
// and allocates nothing. Release it in the end.
type Ref struct {
	c cursor
}

// Release gives the lent bytes back.
func (f *Ref) Release() { f.c.close() }

// Lend returns the bytes of the record of size bytes at position, without a copy
// where the platform allows. They are valid until the next Lend or Release of the
// same Ref. r becomes a view of them; its checksum is verified if verify is set,
// its structure and position always. Call it inside Guard, and touch the bytes
// only there.
//
// Errors are those of Record.
func (l *Log) Lend(f *Ref, position int64, size int, verify bool, r *message.Record) ([]byte, error) {
	if l.noReads.Load() {
		return nil, fmt.Errorf("commitlog: read: %w", message.ErrClosed)
	}
	if size < message.MinRecordSize || position < 0 || position > l.visible.Load()-int64(size) {
		return nil, fmt.Errorf("commitlog: read %d bytes at %d: %w", size, position, message.ErrOutOfRange)
	}
	c := &f.c
	c.segs, c.mapped = &l.segs, true
	b, err := c.bytes(position, size)
	if err != nil {
		return nil, err
	}
	if len(b) < size {
		return nil, l.segs.corrupt(position, string(defectPast))
	}
	if verify {
		err = checkRecord(r, b, position, l.foreignAt(position))
	} else if err = r.Reset(b); err == nil && r.Position() != position {
		err = defectPosition
	}
	if err != nil {
		return nil, l.segs.corrupt(position, err.Error())
	}
	return b, nil
}
