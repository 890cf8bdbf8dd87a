package commitlog

import (
	"errors"
	"io/fs"

	"github.com/embermq/embermq/message"
)

// roll closes the active segment with a blank and makes the next one active; for
// an empty log it makes the first. size is that of the group which did not fit.
// The caller holds write leadership, without mu.
func (l *Log) roll(size int64) error {
	now := l.o.Clock.Now()
	l.checkSpace(now)
	tail := l.appended.Load()
	old := l.active.Load()
	base := tail
	if old != nil {
		base = old.end()
	}
	// The blank goes last: a blank promises a file behind it.
	next, err := l.makeNext(base)
	if err != nil {
		return l.failed("roll", err)
	}
	if old != nil && tail < base {
		h := old.h.Load()
		if err := l.reach(h, tail+message.FrameSize); err != nil {
			return l.failed("roll", err)
		}
		var blank [message.FrameSize]byte
		message.EncodeBlank(blank[:], int(base-tail))
		if _, err := h.file.WriteAt(blank[:], tail-old.base); err != nil {
			if !isFull(err) {
				return l.breakDown("write a blank", err)
			}
			if cerr := clearRange(h, tail-old.base, message.FrameSize); cerr != nil {
				return l.breakDown("clear a blank", cerr)
			}
			return fullError(err)
		}
	}
	l.rollMu.Lock()
	l.segs.add(next)
	l.next.CompareAndSwap(next, nil)
	l.active.Store(next)
	l.rollMu.Unlock()
	l.count.rolls.Add(1)
	if tail == base {
		return nil
	}
	l.mu.Lock()
	l.appended.Store(base)
	l.dirtyLocked(base)
	l.mu.Unlock()
	if !l.o.OnDisk {
		// Nothing to apply, but visible follows appended.
		l.applyMu.Lock()
		l.visible.Store(base)
		l.applyMu.Unlock()
	}
	return nil
}

// makeNext returns the segment that starts at base, making it unless the
// background has done so.
func (l *Log) makeNext(base int64) (*segment, error) {
	l.rollMu.Lock()
	defer l.rollMu.Unlock()
	if n := l.next.Load(); n != nil && n.base == base {
		return n, nil
	}
	s, err := l.segs.create(base)
	if err != nil {
		return nil, err
	}
	s.run.start(base)
	l.next.Store(s)
	return s, nil
}

// prepareNext makes the next segment once the active one is half full, so that a
// roll finds it, and the first one of an empty log.
func (l *Log) prepareNext() error {
	seg := l.active.Load()
	base := l.appended.Load()
	if seg != nil {
		if base-seg.base <= seg.size/2 {
			return nil
		}
		base = seg.end()
	}
	l.rollMu.Lock()
	if l.next.Load() != nil || l.active.Load() != seg {
		l.rollMu.Unlock()
		return nil
	}
	l.rollMu.Unlock()
	_, err := l.makeNext(base)
	return err
}

// dropNext removes a segment that was made ahead and never used.
func (l *Log) dropNext() error {
	n := l.next.Swap(nil)
	if n == nil {
		return nil
	}
	if h := n.h.Swap(nil); h != nil {
		h.release()
	}
	if err := l.segs.dir.Remove(n.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return l.segs.dir.SyncDir(".")
}
