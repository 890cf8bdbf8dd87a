package commitlog

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// CheckFiles reports what is wrong with the files as such: names and lengths of
// the segments and the slots of the watermark. Walk is for what the segments hold.
// Nothing is changed. The error is one of reading.
func (l *Log) CheckFiles(report func(path string, off int64, reason string)) error {
	l.rollMu.Lock() // files come and go under it
	defer l.rollMu.Unlock()
	for _, d := range l.recovery.Damage {
		var c *message.CorruptError
		if errors.As(d, &c) {
			report(c.Path, c.Offset, c.Reason)
		}
	}
	if err := l.checkFolder(report); err != nil {
		return err
	}
	return l.checkSlots(report)
}

func (l *Log) checkFolder(report func(path string, off int64, reason string)) error {
	if l.o.ReadOnly {
		return nil // Open has looked, and nothing is made or removed since by us
	}
	es, err := l.segs.dir.List(".")
	if err != nil {
		return fmt.Errorf("commitlog: list: %w", err)
	}
	have := make(map[string]bool, len(es))
	for _, e := range es {
		if have[e.Name] = true; e.Dir {
			continue
		}
		base, err := parseName(e.Name)
		s := l.segs.find(base)
		switch {
		case err != nil || e.Link:
			report(l.segs.dir.Path(e.Name), 0, "stray file among the segments")
		case s != nil && s.base == base && e.Size != s.size:
			report(l.segs.dir.Path(e.Name), min(e.Size, s.size), fmt.Sprintf("segment has %d bytes instead of %d", e.Size, s.size))
		}
	}
	for _, s := range l.segs.all() {
		if have[s.name] {
			continue
		}
		if _, err := l.segs.dir.Stat(s.name); errors.Is(err, iofs.ErrNotExist) && l.segs.find(s.base) == s {
			report(l.segs.dir.Path(s.name), 0, "segment missing")
		}
	}
	return nil
}

// checkSlots looks at both slots of the watermark. Each lies in a sector of its
// own, so that a power cut leaves them whole.
func (l *Log) checkSlots(report func(path string, off int64, reason string)) error {
	var b [2 * slotSize]byte
	// Saves go on: under the lock none is half done.
	l.wm.mu.Lock()
	defer l.wm.mu.Unlock()
	f, err := l.state.Open(syncedName, fs.ReadOnly)
	if errors.Is(err, iofs.ErrNotExist) {
		report(l.state.Path(syncedName), 0, "watermark is missing")
		return nil
	}
	if err != nil {
		return fmt.Errorf("commitlog: open watermark: %w", err)
	}
	n, err := f.ReadAt(b[:], 0)
	if err == io.EOF {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("commitlog: read watermark: %w", err)
	}
	if l.o.LiveWriter {
		return nil // one may be half written right now
	}
	for off := 0; off < len(b); off += slotSize {
		var s slot
		if !s.decode(b[min(off, n):min(off+slotSize, n)]) {
			report(l.state.Path(syncedName), int64(off), "slot of the watermark is not valid")
		}
	}
	return nil
}
