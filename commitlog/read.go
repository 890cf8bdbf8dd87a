package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/embermq/embermq/message"
)

// recent is how far behind the end the kernel surely still has what this process
// wrote, so that touching a mapping does not wait for the disk.
const recent = 64 << 20

// Record reads and verifies the record of size bytes at position into buf, which
// grows if need be, makes r a view of it and returns it. The caller owns the
// result.
//
// The error is a *message.CorruptError if something else lies there, and
// ErrOutOfRange or ErrNotFound for a position that is not visible yet or kept no
// longer.
func (l *Log) Record(position int64, size int, buf []byte, r *message.Record) ([]byte, error) {
	h, err := l.hold(position, size)
	if err != nil {
		return buf, err
	}
	defer h.release()
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if err := l.copyOut(h, position, buf); err != nil {
		return buf[:0], err
	}
	if err := checkRecord(r, buf, position, l.foreignAt(position)); err != nil {
		return buf, l.segs.corrupt(position, err.Error())
	}
	return buf, nil
}

// RecordAt reads and verifies the record that begins at position into memory of
// its own. A position at which none begins is ErrNotFound.
func (l *Log) RecordAt(position int64, r *message.Record) error {
	h, err := l.hold(position, message.MinRecordSize)
	if errors.Is(err, message.ErrOutOfRange) || errors.Is(err, message.ErrCorrupt) {
		err = fmt.Errorf("commitlog: no record begins at %d: %w", position, message.ErrNotFound)
	}
	if err != nil {
		return err
	}
	var head [positionEnd]byte
	err = l.copyOut(h, position, head[:])
	h.release()
	if err != nil {
		return err
	}
	size, kind := message.Frame(head[:])
	if kind != message.FrameMessage || int64(binary.BigEndian.Uint64(head[positionEnd-8:])) != position ||
		position+int64(size) > h.seg.end() || position+int64(size) > l.visible.Load() {
		return fmt.Errorf("commitlog: no record begins at %d: %w", position, message.ErrNotFound)
	}
	_, err = l.Record(position, size, nil, r)
	return err
}

// Path is the file that holds position, as a person would write it.
func (l *Log) Path(position int64) string {
	return l.segs.corrupt(position, "").Path
}

// InFile is where in its file position lies.
func (l *Log) InFile(position int64) int64 {
	return l.segs.corrupt(position, "").Offset
}

// Foreign reports whether position lies in a range that another program wrote.
func (l *Log) Foreign(position int64) bool { return l.foreignAt(position) }

// hold checks the bounds and returns the held handle of position's segment.
func (l *Log) hold(position int64, size int) (*handle, error) {
	if l.noReads.Load() {
		return nil, fmt.Errorf("commitlog: read: %w", message.ErrClosed)
	}
	if size < message.MinRecordSize || position < 0 || position > l.visible.Load()-int64(size) {
		return nil, fmt.Errorf("commitlog: read %d bytes at %d: %w", size, position, message.ErrOutOfRange)
	}
	for {
		s := l.segs.find(position)
		if s == nil {
			return nil, fmt.Errorf("commitlog: read at %d: %w", position, message.ErrNotFound)
		}
		if position+int64(size) > s.end() {
			return nil, l.segs.corrupt(position, string(defectPast))
		}
		h, err := l.segs.acquire(s)
		if err == nil {
			return h, nil
		}
		if l.segs.find(position) == s {
			return nil, err
		}
		// It was expired between the look and the open.
	}
}

// copyOut copies bytes at position into p: from memory what was written lately,
// else from the file.
func (l *Log) copyOut(h *handle, position int64, p []byte) error {
	off := position - h.seg.base
	if position >= max(l.recovery.End, l.appended.Load()-recent) {
		if v := h.bytes(); v.b != nil {
			return copyMapped(v.b, p, v.b[off:off+int64(len(p))])
		}
	}
	if n, err := h.file.ReadAt(p, off); n < len(p) {
		if err == nil || errors.Is(err, io.EOF) {
			return l.segs.corrupt(position, "file is shorter than its segment")
		}
		return fmt.Errorf("commitlog: read segment %s at %d: %w", h.seg.name, off, err)
	}
	return nil
}

// copyMapped copies from a mapping and turns a fault into an error.
func copyMapped(mapping, dst, src []byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = faultError(p)
		}
	}()
	copy(dst, src)
	return nil
}

// Guard calls f and turns a fault on mapped memory into an error: the disk could
// not deliver a page, or the file was cut by somebody else. Code that reads bytes
// from a Lender runs in it.
func Guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = faultError(p)
		}
	}()
	return f()
}

// faultError turns a recovered fault into an error and passes on any other panic.
func faultError(p any) error {
	e, ok := p.(runtime.Error)
	if !ok {
		panic(p)
	}
	a, ok := p.(interface{ Addr() uintptr })
	if !ok {
		panic(p)
	}
	return fmt.Errorf("commitlog: read mapped memory at %#x: %w", a.Addr(), e)
}
