package commitlog

import (
	"errors"
	"fmt"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// Recovery tells what Open found and what it did about it.
type Recovery struct {
	// Clean says that the log was closed and nothing was written since.
	Clean bool
	// Import says that there was no watermark: another program made this log.
	Import bool
	// Accepted says that the log did not fit its watermark and was taken as found.
	Accepted bool
	// End is where the log ends, and the next record begins.
	End int64
	// CutBytes is how many bytes that were not zero lay behind the end; they were
	// saved in the file Aside of the state folder, and zeroed. A read-only open
	// only leaves them out, and then Aside is empty.
	CutBytes int64
	Aside    string
	// CutRecords counts whole records that were cut because the rest of their
	// group is missing.
	CutRecords int
	// Rewritten is how many bytes were written once more because nobody knew
	// whether they were on disk.
	Rewritten int64
	// Foreign are all ranges that another program wrote: those of the options and
	// perhaps a new one.
	Foreign []Range
	// SegmentsDeleted counts files behind the end.
	SegmentsDeleted int
	// Damage is what a read-only open found and left alone.
	Damage []error
}

// damage is a stretch that a read-only open could not read.
type damage struct {
	Range
	err *message.CorruptError
}

// Open opens the log in the folder log, with its watermark in the folder state.
// Both folders exist. An empty folder becomes an empty log. After an unclean end
// Open cuts a torn tail and makes everything else durable before it returns.
//
// Damage that is no torn tail is a *message.CorruptError, and then nothing has
// been changed.
func Open(log, state fs.FS, o Options) (*Log, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	l := &Log{o: o, state: state}
	l.segs.dir, l.segs.size, l.segs.readOnly = log, o.SegmentSize, o.ReadOnly
	r := recoverer{l: l}
	err := r.run()
	if err != nil {
		l.segs.closeAll()
		_ = l.wm.close()
		return nil, err
	}
	l.stop = make(chan struct{})
	if !o.Manual && !o.ReadOnly {
		l.kickWork, l.kickCommit = make(chan struct{}, 1), make(chan struct{}, 1)
		l.wg.Add(1)
		go l.workLoop()
		l.kick() // the first runway
	}
	return l, nil
}

// recoverer finds where the log ends and makes the directory fit.
type recoverer struct {
	l     *Log
	empty string // name of an empty last file, which a crash left while it was made

	slot     slot
	found    bool
	stranger bool // another program may have written behind the watermark

	scan scanned
}

// scanned is what was found behind the watermark.
type scanned struct {
	from, end   int64        // the log ends here
	mark        message.Mark // of the last record
	bad         int64        // where reading stopped; behind end when a group was cut
	defect      message.Defect
	lastStored  int64
	foreignFrom int64 // -1: none
	records     int64
}

func (r *recoverer) run() error {
	l := r.l
	if err := r.list(); err != nil {
		return err
	}
	if err := r.readWatermark(); err != nil {
		return err
	}
	if err := r.checkStart(); err != nil {
		return err
	}
	if err := r.checkWatermark(); err != nil {
		return err
	}
	if err := r.verify(); err != nil {
		return err
	}
	if err := r.findEnd(); err != nil {
		return err
	}
	if l.o.Begin != nil && !l.o.ReadOnly {
		if err := l.o.Begin(); err != nil {
			return err
		}
	}
	l.recovery.End = r.scan.end
	if l.recovery.Foreign = l.o.Foreign; r.scan.foreignFrom >= 0 && r.scan.foreignFrom < r.scan.end {
		l.recovery.Foreign = addRange(l.o.Foreign, Range{r.scan.foreignFrom, r.scan.end})
	}
	l.recovery.Clean = r.found && r.slot.clean && r.scan.records == 0 && !l.recovery.Accepted
	if err := r.cut(); err != nil {
		return err
	}
	l.lastStored = r.scan.lastStored
	l.placed, l.applied = r.scan.mark, r.scan.mark
	l.appended.Store(r.scan.end)
	l.synced.Store(r.scan.end)
	l.visible.Store(r.scan.end)
	if l.o.ReadOnly {
		return nil
	}
	if err := r.activate(); err != nil {
		return err
	}
	// Invariant: the clean mark is gone, and W and owner are durable, before the
	// first append: they say how to read what is appended from now on.
	return l.wm.open(l.state, r.found, slot{
		sequence: r.slot.sequence, mark: r.scan.mark, maxUnsynced: l.o.MaxUnsynced, owner: l.o.Owner, start: r.slot.start,
	})
}

// list reads and checks the folder. Everything in it must be a segment. A
// read-only open notes what is not as it should be and reads the rest.
func (r *recoverer) list() error {
	l := r.l
	es, err := l.segs.dir.List(".")
	if err != nil {
		return fmt.Errorf("commitlog: list: %w", err)
	}
	var list []*segment
	bad := func(name string, offset int64, reason string) error {
		err := &message.CorruptError{Path: l.segs.dir.Path(name), Offset: offset, Reason: reason}
		if !l.o.ReadOnly {
			return err
		}
		l.recovery.Damage = append(l.recovery.Damage, err)
		return nil
	}
	for i, e := range es {
		if e.Dir {
			continue
		}
		base, err := parseName(e.Name)
		if err != nil || e.Link || base%l.o.SegmentSize != 0 && l.o.ReadOnly {
			if err := bad(e.Name, 0, "stray file among the segments"); err != nil {
				return err
			}
			continue
		}
		if e.Size == 0 && i == len(es)-1 {
			r.empty = e.Name
			break
		}
		if e.Size != l.o.SegmentSize {
			reason := fmt.Sprintf("segment has %d bytes instead of %d", e.Size, l.o.SegmentSize)
			if err := bad(e.Name, min(e.Size, l.o.SegmentSize), reason); err != nil {
				return err
			}
		}
		for n := len(list); n > 0 && base != list[n-1].end(); n = len(list) {
			lost := list[n-1].end()
			if err := bad(segmentName(lost), 0, "segment missing"); err != nil {
				return err
			}
			if base-lost > maxLost*l.o.SegmentSize || base < lost {
				return &message.CorruptError{Path: l.segs.dir.Path(e.Name), Reason: "not the segment that follows"}
			}
			list = append(list, newSegment(lost, l.o.SegmentSize))
		}
		list = append(list, newSegment(base, l.o.SegmentSize))
	}
	l.segs.list.Store(&list)
	return nil
}

// readWatermark finds out from where on the log must be read.
func (r *recoverer) readWatermark() error {
	l := r.l
	s, found, err := readSlots(l.state)
	var bad *message.CorruptError
	if errors.As(err, &bad) && l.o.ReadOnly && len(l.segs.all()) > 0 {
		l.recovery.Damage = append(l.recovery.Damage, bad)
		s, found, err = slot{}, false, nil
	} else if errors.As(err, &bad) && (l.o.AcceptLog || len(l.segs.all()) == 0) {
		// The file was being made when the power went, or the log is to be
		// believed rather than it. It is made anew.
		l.recovery.Accepted = len(l.segs.all()) > 0
		s, found, err = slot{}, false, nil
	}
	if err != nil {
		return err
	}
	r.slot, r.found = s, found
	if !found {
		r.slot.maxUnsynced = l.o.MaxUnsynced
		r.slot.mark.Offset, r.slot.start = r.startPosition(), r.startPosition()
		r.stranger = true
		l.recovery.Import = len(l.segs.all()) > 0
		return nil
	}
	// Behind a clean end nothing of ours can lie: the mark goes, durably, before
	// the first append.
	r.stranger = s.clean || l.o.Found != s.owner
	return nil
}

func (r *recoverer) startPosition() int64 {
	if list := r.l.segs.all(); len(list) > 0 {
		return list[0].base
	}
	return 0
}

func (r *recoverer) filesEnd() int64 {
	if list := r.l.segs.all(); len(list) > 0 {
		return list[len(list)-1].end()
	}
	return 0
}

// checkStart demands that the log begins where it did: a first file that is lost
// must not look like one that has expired. A file in front of the start is what an
// expiry left that died half way.
func (r *recoverer) checkStart() error {
	l := r.l
	list := l.segs.all()
	if !r.found || len(list) == 0 || list[0].base <= r.slot.start {
		return nil
	}
	first := list[0].base
	switch bad := (&message.CorruptError{Path: l.segs.dir.Path(segmentName(r.slot.start)), Reason: "segment missing"}); {
	case l.o.AcceptLog:
		l.recovery.Accepted = true
		r.slot.start = first
		return nil
	case l.o.ReadOnly:
		l.recovery.Damage = append(l.recovery.Damage, bad)
		var lost []*segment
		for n := min((first-r.slot.start)/l.o.SegmentSize, maxLost); n > 0; n-- {
			lost = append(lost, newSegment(first-n*l.o.SegmentSize, l.o.SegmentSize))
		}
		list = append(lost, list...)
		l.segs.list.Store(&list)
		return nil
	default:
		return bad
	}
}

// checkWatermark demands that the log holds the record that the watermark names.
func (r *recoverer) checkWatermark() error {
	l, m := r.l, r.slot.mark
	if !r.found {
		return nil
	}
	ok, err := l.segs.markMatches(m, r.filesEnd(), inRanges(l.o.Foreign, m.Offset-1))
	if err != nil {
		return err
	}
	if ok {
		return nil
	}
	reason := "another record lies where the watermark says"
	if m.Offset > r.filesEnd() || m.Offset < r.startPosition() {
		reason = fmt.Sprintf("the log does not reach the watermark at %d", m.Offset)
	}
	bad := l.segs.corrupt(m.Offset-1, reason)
	switch {
	case l.o.AcceptLog:
		l.recovery.Accepted = true
		r.slot.mark = message.Mark{Offset: r.startPosition()}
		r.slot.clean, r.stranger, r.slot.start = false, true, r.startPosition()
		return nil
	case l.o.ReadOnly:
		l.recovery.Damage = append(l.recovery.Damage, bad)
		r.slot.clean = false
		at := min(m.Offset, r.filesEnd()) - 1
		if s := l.segs.find(at); s != nil {
			r.slot.mark = message.Mark{Offset: s.base}
		} else {
			r.slot.mark = message.Mark{Offset: r.startPosition()}
		}
		return nil
	}
	return bad
}

// verify reads what lies between Options.Verify and the watermark: whoever is
// about to replay it must hear of damage while nothing has been changed yet. A
// mark that does not fit the log is not the log's trouble.
func (r *recoverer) verify() error {
	l, m := r.l, r.l.o.Verify
	to := r.slot.mark.Offset
	if l.o.ReadOnly || m.Offset >= to || m.Offset < r.startPosition() {
		return nil
	}
	ok, err := l.segs.markMatches(m, to, inRanges(l.o.Foreign, m.Offset-1))
	if err != nil || !ok {
		return err
	}
	c := cursor{segs: &l.segs, stopReading: to}
	defer c.close()
	var rec message.Record
	for at := m.Offset; at < to; {
		it, err := c.look(at, &rec, inRanges(l.o.Foreign, at))
		switch {
		case err != nil:
			return err
		case it.kind == message.FrameNone:
			return l.segs.corrupt(at, string(defectZeros))
		case it.kind == message.FrameBad:
			return l.segs.corrupt(at, string(it.defect))
		}
		at += it.size
	}
	return nil
}

// findEnd scans from the watermark on and tells a torn tail from corruption.
func (r *recoverer) findEnd() error {
	l := r.l
	s := &r.scan
	*s = scanned{from: r.slot.mark.Offset, end: r.slot.mark.Offset, mark: r.slot.mark, foreignFrom: -1}
	if l.o.LiveWriter {
		s.bad = s.end
		return nil
	}
	c := cursor{segs: &l.segs}
	defer c.close()
	at := s.from
	for {
		if err := r.scanFrom(&c, at); err != nil {
			return err
		}
		bad, err := r.classify(&c)
		if err != nil || bad == nil {
			return err
		}
		if !l.o.ReadOnly {
			return bad
		}
		// Read-only: note the damage and go on behind it.
		next, ok, err := c.search(s.bad+1, l.o.Foreign)
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		l.damage = append(l.damage, damage{Range{s.bad, next}, bad})
		l.recovery.Damage = append(l.recovery.Damage, bad)
		at = next
	}
}

// scanFrom reads record by record until something is not one.
func (r *recoverer) scanFrom(c *cursor, at int64) error {
	l, s := r.l, &r.scan
	var rec message.Record
	left, size := 0, 0 // records that the group at hand still lacks, and has in all
	groupAt, groupMark := int64(0), message.Mark{}
	filesEnd := r.filesEnd()
	s.defect = ""
loop:
	for s.end = at; at < filesEnd; s.end = at {
		// Behind a clean end, and in a log without a watermark that is imported,
		// nothing of ours can lie, with a checksum or without.
		behindClean := r.found && r.slot.clean && !l.recovery.Accepted || !r.found && l.o.Import
		foreign := s.foreignFrom >= 0 || behindClean || inRanges(l.o.Foreign, at)
		it, err := c.look(at, &rec, foreign)
		if err != nil {
			return err
		}
		if behindClean && s.foreignFrom < 0 && it.kind == message.FrameMessage {
			s.foreignFrom = at
		}
		if it.kind == message.FrameBad && r.stranger && !foreign && (it.defect == message.DefectNoSum || it.defect == message.DefectSum) {
			// Whole but without our checksum: from here on another program wrote.
			// A group that it interrupts stays as it is.
			if it, err = c.look(at, &rec, true); err != nil {
				return err
			}
			if it.kind == message.FrameMessage {
				s.foreignFrom, left, foreign = at, 0, true
			}
		}
		switch {
		case it.kind == message.FrameBad:
			s.defect = it.defect
			break loop
		case it.kind == message.FrameNone:
			break loop
		case it.kind == message.FrameBlank && left > 0:
			s.defect = defectBlank
			break loop
		case it.kind == message.FrameBlank:
			at += it.size
			continue
		}
		if n, ok := rec.Group(); ok && !foreign && n > 1 {
			if left > 0 {
				s.defect = defectFrame
				break
			}
			left, size, groupAt, groupMark = n, n, at, s.mark
		}
		if left > 0 {
			left--
		}
		s.mark = message.Mark{Offset: at + it.size, Fingerprint: rec.Fingerprint()}
		s.lastStored = rec.StoredAtMillis()
		s.records++
		at += it.size
	}
	s.bad = at
	l.recovery.CutRecords = 0
	if left > 0 && !(plant.Enabled && plant.Is(plant.LogKeepHalfGroup)) {
		s.end, s.mark = groupAt, groupMark
		l.recovery.CutRecords = size - left
	}
	return nil
}

// classify says whether the end that was found is corruption: then some byte
// behind it was written when the bytes in front were synced already. nil means
// that the log ends there, torn or not.
//
// What lies in front of the watermark is not read here. Corruption is: a valid
// record starts W or more behind the bad place. (A log that ends in front of the
// watermark, or of its clean end, has been refused before.)
func (r *recoverer) classify(c *cursor) (*message.CorruptError, error) {
	l, s := r.l, &r.scan
	from := s.bad + max(r.slot.maxUnsynced, 1)
	if s.foreignFrom >= 0 {
		// Another program knows no W. Only a record whose frame is whole, with
		// another record straight behind it, is damage and no end.
		ok, err := r.damagedForeign(c)
		if err != nil || !ok {
			return nil, err
		}
		return l.segs.corrupt(s.bad, string(s.defect)), nil
	}
	at, ok, err := c.search(from, l.o.Foreign)
	if err != nil || !ok || plant.Enabled && plant.Is(plant.LogRotIsTail) {
		return nil, err
	}
	reason := string(s.defect)
	if reason == "" {
		reason = string(defectZeros)
	}
	return l.segs.corrupt(s.bad, fmt.Sprintf("%s, and a valid record follows at %d", reason, at)), nil
}

func (r *recoverer) damagedForeign(c *cursor) (bool, error) {
	s := &r.scan
	if s.defect != message.DefectBodySum {
		return false, nil
	}
	head, err := c.bytes(s.bad, message.FrameSize)
	if err != nil {
		return false, err
	}
	size, _ := message.Frame(head)
	next := s.bad + int64(size)
	if c.h.seg.end()-next < message.FrameSize {
		return false, nil
	}
	var rec message.Record
	it, err := c.look(next, &rec, true)
	return it.kind == message.FrameMessage || it.kind == message.FrameBlank, err
}

// activate makes the segment of the end the active one.
func (r *recoverer) activate() error {
	l := r.l
	list := l.segs.all()
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	if err := l.segs.pin(s); err != nil {
		return err
	}
	s.run.start(max(r.scan.end, s.base))
	l.active.Store(s)
	return nil
}

// addRange adds a range behind the others, joined with one that it touches.
func addRange(rs []Range, n Range) []Range {
	out := append([]Range(nil), rs...)
	if k := len(out); k > 0 && out[k-1].To >= n.From {
		out[k-1].To = max(out[k-1].To, n.To)
		return out
	}
	return append(out, n)
}
