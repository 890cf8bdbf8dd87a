package commitlog

import (
	"errors"
	"fmt"
	"io"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// A Layout makes the files of a log from another log's bytes: a restored backup,
// a copy. Nothing is a log before Finish has returned.
type Layout struct {
	Log, State  fs.FS
	SegmentSize int64
	MaxUnsynced int64
	// Start is the first segment's base, a multiple of SegmentSize.
	Start int64

	file fs.File // of the segment at base
	base int64
}

// Write puts bytes of the log at a position. Positions rise from call to call.
func (y *Layout) Write(p []byte, at int64) error {
	for len(p) > 0 {
		base := at - at%y.SegmentSize
		if y.file == nil || base != y.base {
			if err := y.next(base); err != nil {
				return err
			}
		}
		n := min(int64(len(p)), base+y.SegmentSize-at)
		if _, err := y.file.WriteAt(p[:n], at-base); err != nil {
			return fmt.Errorf("commitlog: lay %s: %w", segmentName(base), err)
		}
		p, at = p[n:], at+n
	}
	return nil
}

func (y *Layout) next(base int64) error {
	if err := y.seal(); err != nil {
		return err
	}
	f, err := y.Log.Open(segmentName(base), fs.Create|fs.Exclusive)
	if err == nil {
		y.file, y.base = f, base
		err = f.Truncate(y.SegmentSize)
	}
	if err != nil {
		return fmt.Errorf("commitlog: lay %s: %w", segmentName(base), err)
	}
	return nil
}

func (y *Layout) seal() error {
	if y.file == nil {
		return nil
	}
	err := errors.Join(y.file.Sync(), y.file.Close())
	y.file = nil
	if err != nil {
		return fmt.Errorf("commitlog: lay %s: %w", segmentName(y.base), err)
	}
	return nil
}

// Finish syncs the files and marks the log as closed cleanly behind its last
// record, which ends at end.
func (y *Layout) Finish(end message.Mark) error {
	if err := y.seal(); err != nil {
		return err
	}
	if err := y.Log.SyncDir("."); err != nil {
		return fmt.Errorf("commitlog: lay: %w", err)
	}
	var w watermark
	err := w.open(y.State, false, slot{mark: end, clean: true, maxUnsynced: y.MaxUnsynced, start: y.Start})
	return errors.Join(err, w.close())
}

// Close lets go of the files after a failure.
func (y *Layout) Close() error {
	if y.file == nil {
		return nil
	}
	err := y.file.Close()
	y.file = nil
	return err
}

// CopyOut reads bytes of the log as they lie in its files, also where no record
// begins. The caller sees to it that they are neither unwritten nor expired.
func (l *Log) CopyOut(p []byte, at int64) error {
	for len(p) > 0 {
		base := at - at%l.o.SegmentSize
		n := min(int64(len(p)), base+l.o.SegmentSize-at)
		if err := readFile(l.segs.dir, segmentName(base), p[:n], at-base); err != nil {
			return err
		}
		p, at = p[n:], at+n
	}
	return nil
}

func readFile(dir fs.FS, name string, p []byte, off int64) error {
	f, err := dir.Open(name, fs.ReadOnly)
	if err != nil {
		return fmt.Errorf("commitlog: read %s: %w", name, err)
	}
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		err = nil
	} else if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("commitlog: read %s: %w", name, err)
	}
	return nil
}
