package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/plant"
)

// asideDir is where bytes go that recovery takes out of the log.
const asideDir = "aside"

// sector is the grain in which bytes behind the end are looked at.
const sector = 512

// cut makes the directory fit the end that was found: what lies in front of it is
// made durable, what lies behind it becomes zeros. The order matters, for the
// power may fail again at any point:
//
//  1. [watermark, end) is written once more and synced. After a kill the kernel
//     may hold these pages as clean although a failed sync dropped them.
//  2. Bytes behind the end are saved and synced, then zeroed and synced: what a
//     later append does not overwrite must not turn up as a record again.
//  3. Later files go, the last one first, so that no gap is ever left.
//
// Only then does the caller move the watermark.
func (r *recoverer) cut() error {
	l := r.l
	c := cursor{segs: &l.segs}
	defer c.close()
	tail, err := r.tailRuns(&c)
	if err != nil {
		return err
	}
	for _, run := range tail {
		l.recovery.CutBytes += run.To - run.From
	}
	if l.o.ReadOnly {
		return nil
	}
	if l.recovery.CutBytes > 0 {
		l.o.Logger.Warn("commit log: torn tail cut", "end", r.scan.end, "bytes", l.recovery.CutBytes)
	}
	if err := r.settle(&c); err != nil {
		return err
	}
	if len(tail) > 0 && !(plant.Enabled && plant.Is(plant.LogKeepTail)) {
		if err := r.putAside(&c, tail); err != nil {
			return err
		}
		if err := r.zero(tail); err != nil {
			return err
		}
	}
	if err := r.dropLater(); err != nil {
		return err
	}
	return r.names(&c)
}

// names makes lengths and names durable that a killed process may have left with
// the kernel: that of the last file, which it had just made, and that of the
// watermark.
func (r *recoverer) names(c *cursor) error {
	l := r.l
	list := l.segs.all()
	if l.recovery.Clean || !r.found && len(list) == 0 {
		return nil
	}
	if n := len(list); n > 0 {
		if err := c.enter(list[n-1].base); err != nil {
			return err
		}
		if err := c.h.file.Sync(); err != nil {
			return fmt.Errorf("commitlog: sync the last segment: %w", err)
		}
	}
	if err := errors.Join(l.segs.dir.SyncDir("."), l.state.SyncDir(".")); err != nil {
		return fmt.Errorf("commitlog: sync the folders: %w", err)
	}
	return nil
}

// tailRuns returns where behind the end bytes are not zero. In the segment of the
// end nothing of ours lies more than W behind the bad place; behind what another
// program wrote, anything may. Later files go as a whole.
func (r *recoverer) tailRuns(c *cursor) ([]Range, error) {
	if r.l.o.LiveWriter {
		return nil, nil
	}
	var runs []Range
	for _, s := range r.l.segs.all() {
		if s.end() <= r.scan.end {
			continue
		}
		from, to := max(s.base, r.scan.end), s.end()
		if s.base <= r.scan.end && r.scan.foreignFrom < 0 && !r.l.recovery.Import {
			to = min(to, max(r.scan.bad, r.scan.end)+r.slot.maxUnsynced)
		}
		var err error
		if runs, err = c.nonZero(runs, s, from, to); err != nil {
			return nil, err
		}
	}
	return runs, nil
}

// nonZero appends the runs of sectors in [from, to) that hold anything. A run
// lies in one segment.
func (c *cursor) nonZero(runs []Range, s *segment, from, to int64) ([]Range, error) {
	for at := from; at < to; {
		if err := c.enter(at); err != nil {
			return nil, err
		}
		start, end, err := c.h.file.NextData(at - s.base)
		if err == io.EOF {
			return runs, nil
		}
		if err != nil {
			return nil, fmt.Errorf("commitlog: look for data in %s: %w", s.name, err)
		}
		at = max(at, s.base+start)
		end = min(s.base+end, to)
		c.stopReading = end
		for at < end {
			n := min(end-at, sector-(at-s.base)%sector)
			b, err := c.bytes(at, int(n))
			if err != nil {
				return nil, err
			}
			if !isZero(b) {
				if k := len(runs); k > 0 && runs[k-1].To == at && at > s.base {
					runs[k-1].To = at + n
				} else {
					runs = append(runs, Range{at, at + n})
				}
			}
			at += n
		}
		c.stopReading = 0
	}
	return runs, nil
}

// settle makes [watermark, end) durable. After a clean end there is nothing to
// do. What another program wrote is synced and not rewritten: it was not ours to
// promise, and may be the whole log.
func (r *recoverer) settle(c *cursor) error {
	l := r.l
	from, end := r.scan.from, r.scan.end
	if plant.Enabled && plant.Is(plant.LogTrustTail) {
		return nil
	}
	for _, s := range l.segs.all() {
		if s.end() <= from || s.base >= end {
			continue
		}
		lo, hi := max(from, s.base), min(end, s.end())
		if r.found && !l.recovery.Accepted && !(plant.Enabled && plant.Is(plant.LogOnlySyncTail)) {
			if err := c.rewrite(lo, hi); err != nil {
				return err
			}
			l.recovery.Rewritten += hi - lo
		}
		if err := c.enter(lo); err != nil {
			return err
		}
		if err := c.h.file.Sync(); err != nil {
			return fmt.Errorf("commitlog: sync the recovered tail: %w", err)
		}
	}
	return nil
}

// rewrite writes a range with the bytes that it has.
func (c *cursor) rewrite(from, to int64) error {
	for at := from; at < to; {
		n := min(to-at, readChunk)
		b, err := c.bytes(at, int(n))
		if err != nil {
			return err
		}
		if _, err := c.h.file.WriteAt(b, at-c.h.seg.base); err != nil {
			return fmt.Errorf("commitlog: rewrite the recovered tail: %w", err)
		}
		at += n
	}
	return nil
}

// putAside saves the runs in a new file of the state folder and makes it durable.
// The layout stands in docs/format/commitlog.md.
func (r *recoverer) putAside(c *cursor, runs []Range) error {
	l := r.l
	fail := func(err error) error { return fmt.Errorf("commitlog: put aside what is cut: %w", err) }
	if err := l.state.MkdirAll(asideDir); err != nil {
		return fail(err)
	}
	var f fs.File
	var err error
	name := asideDir + "/commitlog-" + segmentName(r.scan.end)
	for i := 2; ; i++ {
		if f, err = l.state.Open(name, fs.Create|fs.Exclusive); !errors.Is(err, iofs.ErrExist) {
			break
		}
		name = fmt.Sprintf("%s/commitlog-%s-%d", asideDir, segmentName(r.scan.end), i)
	}
	if err != nil {
		return fail(err)
	}
	at := int64(0)
	for _, run := range runs {
		var head [16]byte
		binary.BigEndian.PutUint64(head[:], uint64(run.From))
		binary.BigEndian.PutUint64(head[8:], uint64(run.To-run.From))
		_, err = f.WriteAt(head[:], at)
		at += int64(len(head))
		for p := run.From; p < run.To && err == nil; {
			n := min(run.To-p, readChunk)
			var b []byte
			if b, err = c.bytes(p, int(n)); err == nil {
				_, err = f.WriteAt(b, at)
			}
			p, at = p+n, at+n
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fail(err)
	}
	if err := errors.Join(l.state.SyncDir(asideDir), l.state.SyncDir(".")); err != nil {
		return fail(err)
	}
	l.recovery.Aside = name
	return nil
}

// zero overwrites the runs that lie in the segment of the end.
func (r *recoverer) zero(runs []Range) error {
	l := r.l
	s := l.segs.find(r.scan.end)
	if s == nil {
		return nil
	}
	h, err := l.segs.acquire(s)
	if err != nil {
		return err
	}
	defer h.release()
	for _, run := range runs {
		for at := run.From; at < run.To && at < s.end(); {
			n := min(run.To-at, zeroChunk)
			if _, err := h.file.WriteAt(zeros[:n], at-s.base); err != nil {
				return fmt.Errorf("commitlog: zero behind the end: %w", err)
			}
			at += n
		}
	}
	if err := h.file.Sync(); err != nil {
		return fmt.Errorf("commitlog: zero behind the end: %w", err)
	}
	return nil
}

// dropLater deletes the files behind the one that holds the end. The last one
// goes first, and durably: a gap would look like a lost file.
func (r *recoverer) dropLater() error {
	l := r.l
	drop := func(name string) error {
		if err := l.segs.dir.Remove(name); err != nil {
			return fmt.Errorf("commitlog: delete a file behind the end: %w", err)
		}
		if err := l.segs.dir.SyncDir("."); err != nil {
			return fmt.Errorf("commitlog: delete a file behind the end: %w", err)
		}
		l.recovery.SegmentsDeleted++
		return nil
	}
	if r.empty != "" {
		if err := drop(r.empty); err != nil {
			return err
		}
	}
	list := l.segs.all()
	n := len(list)
	for ; n > 1 && list[n-1].base > r.scan.end; n-- {
		l.segs.mu.Lock()
		l.segs.forgetLocked(list[n-1])
		l.segs.mu.Unlock()
		if err := drop(list[n-1].name); err != nil {
			return err
		}
	}
	kept := list[:n:n]
	l.segs.list.Store(&kept)
	return nil
}
