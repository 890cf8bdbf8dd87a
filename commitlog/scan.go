package commitlog

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"runtime/debug"
	"sync"

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

// errPassed ends the scan of Covered.
var errPassed = errors.New("commitlog: passed")

// Covered reports that no record of size bytes begins at position, because whole
// ones lie across it. false means that one does, or did before it was damaged.
func (l *Log) Covered(position, size int64) (bool, error) {
	s := l.segs.find(position)
	if s == nil {
		return false, fmt.Errorf("commitlog: look at %d: %w", position, message.ErrNotFound)
	}
	covered := true
	for at := s.base; ; {
		end, err := l.Scan(at, s.end(), func(r *message.Record) error {
			if r.Position()+int64(r.Size()) <= position {
				return nil
			}
			covered = r.Position() != position || int64(r.Size()) != size
			return errPassed
		})
		if !errors.Is(err, message.ErrCorrupt) {
			if errors.Is(err, errPassed) {
				err = nil
			}
			return covered, err
		}
		next, ok, err := l.Resume(end + 1)
		if err != nil || !ok || next > position {
			return false, err
		}
		at = next
	}
}

// Walk calls f for every record from the log's start to end, as Scan does, and
// bad for every stretch that is damaged, behind which it goes on. Segments that
// expire meanwhile are left out. Nothing is changed. The error is ctx's or one of reading.
func (l *Log) Walk(ctx context.Context, end int64, f func(r *message.Record), bad func(err error)) error {
	at := l.Start()
	for n := 0; at < end; {
		next, err := l.scan(at, end, true, func(r *message.Record) error {
			if n++; n&1023 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			f(r)
			return nil
		})
		if err == nil {
			return nil
		}
		if errors.Is(err, message.ErrNotFound) || errors.Is(err, iofs.ErrNotExist) {
			l.rollMu.Lock() // an expiry under way has removed the file and moves the start
			start := l.Start()
			l.rollMu.Unlock()
			if next < start {
				at = start // it expired under the walk
				continue
			}
		}
		if !errors.Is(err, message.ErrCorrupt) {
			return err
		}
		bad(err)
		var ok bool
		if at, ok, err = l.Resume(next + 1); err != nil || !ok {
			return err
		}
	}
	return nil
}

// Lender lends records without copying them, one at a time. It is for one
// goroutine. Reading along a queue with one takes no lock and allocates nothing.
type Lender struct {
	l      *Log
	c      cursor
	verify bool
}

var lenders = sync.Pool{New: func() any { return new(Lender) }}

// NewLender returns a lender that verifies checksums if verify is set. Release it
// in the end. Calls of Lend, and everything that touches what was lent, belong
// into Guard.
func (l *Log) NewLender(verify bool) *Lender {
	d := lenders.Get().(*Lender)
	d.l, d.verify = l, verify
	d.c.segs, d.c.mapped = &l.segs, true
	return d
}

// Release gives back what was lent. The lender must not be used afterwards.
func (d *Lender) Release() {
	d.c.close()
	*d = Lender{}
	lenders.Put(d)
}

// Lend makes r a view of the record of size bytes at position, which is valid
// until the next Lend or Release. Structure and position are always checked.
// Errors are those of Record.
func (d *Lender) Lend(position int64, size int, r *message.Record) error {
	l := d.l
	if l.noReads.Load() {
		return fmt.Errorf("commitlog: read: %w", message.ErrClosed)
	}
	if size < message.MinRecordSize || position < 0 || position > l.visible.Load()-int64(size) {
		return fmt.Errorf("commitlog: read %d bytes at %d: %w", size, position, message.ErrOutOfRange)
	}
	b, err := d.c.bytes(position, size)
	if err != nil {
		return err
	}
	if len(b) < size {
		return l.segs.corrupt(position, string(defectPast))
	}
	if d.verify {
		err = checkRecord(r, b, position, l.foreignAt(position))
	} else if err = r.Reset(b); err == nil && r.Position() != position {
		err = defectPosition
	}
	if err != nil {
		return l.segs.corrupt(position, err.Error())
	}
	return nil
}
