package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// maxFiller bounds a filler: larger damage gets several.
const maxFiller = 4 << 20

// Repair makes the damaged log in the folder log readable from end to end.
//
// Every stretch that is no record, between two that are, is covered by fillers,
// in every segment of its own. A missing segment is made, one of the wrong length
// gets the right one, a stray file goes. keep is given all bytes that this
// changes or removes, and has made them durable when it returns, before anything
// is written. The watermark stays as it is.
//
// It returns the stretches, none for a log that is whole. Nobody else has the log
// open. A Repair that was interrupted is begun again.
func Repair(ctx context.Context, log, state fs.FS, o Options, keep func(name string, at int64, p []byte) error) ([]Range, error) {
	m := &mender{ctx: ctx, log: log, size: o.SegmentSize, keep: keep}
	changed, err := m.files()
	if err != nil {
		return nil, err
	}
	o.ReadOnly, o.LiveWriter = true, false
	l, err := Open(log, state, o)
	if err != nil {
		return nil, err
	}
	err = m.find(l)
	if err = errors.Join(err, l.Close()); err != nil {
		return nil, err
	}
	for _, r := range m.bad {
		if err := m.cover(r); err != nil {
			return nil, err
		}
	}
	return append(changed, m.bad...), nil
}

// mender works on the files of one log.
type mender struct {
	ctx  context.Context
	log  fs.FS
	size int64
	keep func(name string, at int64, p []byte) error

	first    int64 // where the first file begins; what was in front of it is not made again
	bad      []Range
	storedAt int64 // of the record in front of the damage
}

// files gives every segment its name and length.
func (m *mender) files() (changed []Range, err error) {
	es, err := m.log.List(".")
	if err != nil {
		return nil, fmt.Errorf("commitlog: list: %w", err)
	}
	next := int64(-1)
	m.first = -1
	for i, e := range es {
		base, err := parseName(e.Name)
		switch {
		case e.Dir:
			continue
		case err != nil || e.Link || base%m.size != 0:
			if err := m.remove(e); err != nil {
				return nil, err
			}
			changed = append(changed, Range{})
			continue
		case e.Size == 0 && i == len(es)-1:
			continue // a crash left it while it was made
		}
		for ; next >= 0 && next < base; next += m.size {
			if err := m.resize(segmentName(next)); err != nil {
				return nil, err
			}
		}
		if next = base + m.size; m.first < 0 {
			m.first = base
		}
		if e.Size == m.size {
			continue
		}
		if e.Size > m.size {
			if err := m.save(e.Name, m.size, e.Size); err != nil {
				return nil, err
			}
			changed = append(changed, Range{next, next})
		}
		if err := m.resize(e.Name); err != nil {
			return nil, err
		}
	}
	return changed, m.log.SyncDir(".")
}

func (m *mender) remove(e fs.Entry) error {
	if !e.Link {
		if err := m.save(e.Name, 0, e.Size); err != nil {
			return err
		}
	}
	if err := m.log.Remove(e.Name); err != nil {
		return fmt.Errorf("commitlog: repair: %w", err)
	}
	return nil
}

// resize makes a segment, or gives it its length; new bytes are zeros.
func (m *mender) resize(name string) error {
	return m.change(name, func(f fs.File) error { return f.Truncate(m.size) })
}

func (m *mender) change(name string, do func(f fs.File) error) error {
	f, err := m.log.Open(name, fs.Create)
	if err == nil {
		err = do(f)
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("commitlog: repair %s: %w", name, err)
	}
	return nil
}

// save hands bytes [from, to) of a file to keep.
func (m *mender) save(name string, from, to int64) error {
	f, err := m.log.Open(name, fs.ReadOnly)
	if err != nil {
		return fmt.Errorf("commitlog: repair: %w", err)
	}
	buf := make([]byte, min(to-from, readChunk))
	for at := from; at < to && err == nil; {
		p := buf[:min(int64(len(buf)), to-at)]
		var n int
		n, err = f.ReadAt(p, at)
		if errors.Is(err, io.EOF) && n > 0 {
			err = nil
		}
		if err == nil {
			err = m.keep(name, at, p[:n])
		}
		at += int64(n)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("commitlog: repair %s: %w", name, err)
	}
	return nil
}

// find lists the stretches between whole records. One that is too short for a
// filler takes the record behind it along.
func (m *mender) find(l *Log) error {
	end := max(l.Start(), m.first)
	open := false
	close := func(to int64) {
		if open && to > end {
			m.bad = append(m.bad, Range{end, to})
		}
		open = false
	}
	err := l.Walk(m.ctx, l.Visible(), func(r *message.Record) {
		at := r.Position()
		if at < end {
			return
		}
		if open && at-end < int64(message.MinFiller) && at%m.size != 0 {
			end = min(end, at)
			return // still open: the stretch now ends behind this record
		}
		if open {
			close(at)
		}
		end = at + int64(r.Size())
		m.storedAt = r.StoredAtMillis()
	}, func(error) { open = true })
	if err != nil {
		return err
	}
	close(l.Visible())
	return nil
}

// cover lays fillers over a stretch, apart for each segment.
func (m *mender) cover(r Range) error {
	for at := r.From; at < r.To; {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		base := at - at%m.size
		to := min(r.To, base+m.size)
		if err := m.save(segmentName(base), at-base, to-base); err != nil {
			return err
		}
		err := m.change(segmentName(base), func(f fs.File) error { return m.fill(f, at, to) })
		if err != nil {
			return err
		}
		at = to
	}
	return nil
}

func (m *mender) fill(f fs.File, at, to int64) error {
	base := at - at%m.size
	for at < to {
		n := to - at
		if n > maxFiller {
			n = max(maxFiller/2, min(maxFiller, n-maxFiller/2)) // what is left is no splinter
		}
		b := make([]byte, n)
		switch {
		case n >= int64(message.MinFiller):
			b = message.Filler(at, int(n), m.storedAt)
		case to%m.size != 0:
			return &message.CorruptError{Offset: at - base, Reason: fmt.Sprintf("damage of %d bytes leaves no room for a filler", n)}
		case n >= int64(message.FrameSize):
			message.EncodeBlank(b, int(n))
		}
		if _, err := f.WriteAt(b, at-base); err != nil {
			return err
		}
		at += n
	}
	return nil
}
