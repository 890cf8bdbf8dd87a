package commitlog

import (
	"io"
	"time"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// roomFor reports whether size bytes and the blank that must follow them fit
// between tail and the active segment's end.
func (l *Log) roomFor(tail, size int64) bool {
	seg := l.active.Load()
	return seg != nil && tail+size+message.FrameSize <= seg.end()
}

// write stamps the batch and writes it with one call. The caller holds write
// leadership. On an error nothing has a place: all offsets are taken back.
func (l *Log) write(b *batch) error {
	if b.size == 0 {
		return nil // a barrier alone
	}
	now := l.o.Clock.Now()
	l.checkSpace(now)
	tail := l.appended.Load()
	seg := l.active.Load()
	h := seg.h.Load() // pinned as long as the segment is active
	if err := l.reach(h, tail+b.size); err != nil {
		for g := b.head; g != nil; g = g.next {
			for _, s := range g.Closes {
				s.closed = false
			}
		}
		return l.failed("extend", err)
	}
	p := l.place(b, tail, l.pave(seg, tail+b.size), now)
	if _, err := h.file.WriteAt(p, tail-seg.base); err != nil {
		l.takeBack(b)
		if !isFull(err) {
			return l.breakDown("write", err)
		}
		// Part of it may have reached the file.
		if cerr := clearRange(h, tail-seg.base, int64(len(p))); cerr != nil {
			return l.breakDown("clear a failed write", cerr)
		}
		l.full()
		return fullError(err)
	}
	l.count.bytes.Add(b.size)
	l.count.writes.Add(1)
	return nil
}

// place stamps every record of the batch from position at on and returns the
// bytes to write, with pad zeros behind them: a lone group's own, or those of all
// groups copied into the log's buffer.
func (l *Log) place(b *batch, at, pad int64, now time.Time) []byte {
	// Invariant: store times never run backwards in the log, whatever the clock does.
	stored := max(now.UnixMilli(), l.lastStored)
	l.lastStored = stored
	for g := b.head; g != nil; g = g.next {
		for i := range g.Entries {
			e := &g.Entries[i]
			if e.Seq != nil {
				e.Offset = e.Seq.next.Load()
				e.Seq.next.Store(e.Offset + 1)
			}
			e.Position, e.StoredAt = at, stored
			e.Draft.Stamp(at, e.Offset, stored)
			at += int64(e.Draft.Size())
		}
	}
	if b.count == 1 {
		if p := b.head.bytes(pad); p != nil {
			return p
		}
	}
	if int64(cap(l.buf)) < b.size+pad {
		putBuf(l.buf)
		l.buf = getBuf(int(b.size + paveStep))
	}
	buf := l.buf[:0]
	for g := b.head; g != nil; g = g.next {
		if g.joined {
			buf = append(buf, g.arena[:g.size]...)
			continue
		}
		for i := range g.Entries {
			buf = append(buf, g.Entries[i].Draft.Bytes()...)
		}
	}
	return append(buf, zeros[:pad]...)
}

// takeBack gives the offsets of a batch back to their sequences, the last first.
func (l *Log) takeBack(b *batch) {
	var all []*Entry
	for g := b.head; g != nil; g = g.next {
		for i := range g.Entries {
			all = append(all, &g.Entries[i])
		}
		for _, s := range g.Closes {
			s.closed = false
		}
	}
	for i := len(all) - 1; i >= 0; i-- {
		if s := all[i].Seq; s != nil {
			s.next.Store(all[i].Offset)
		}
	}
}

// failed turns an error in front of a write into the one that callers see. No
// room is no reason to give up: nothing has been written.
func (l *Log) failed(op string, err error) error {
	if isFull(err) {
		l.full()
		return fullError(err)
	}
	return l.breakDown(op, err)
}

// written makes a written batch count: it moves appended, applies the batch if
// it is visible now, answers those who need no sync and puts the others among
// the pending. It puts write leadership down.
func (l *Log) written(b *batch, self *Group) role {
	end := l.appended.Load()
	var last *Entry
	for g := b.head; g != nil; g = g.next {
		end += g.size
		g.end = end
		if n := len(g.Entries); n > 0 {
			last = &g.Entries[n-1]
		}
	}
	if plant.Enabled && plant.Is(plant.LogEarlyWatermark) && last != nil {
		_ = l.wm.save(last.Mark())
	}
	if !l.o.OnDisk || plant.Enabled && plant.Is(plant.LogEarlyVisible) {
		return l.writtenVisible(b, last, end, self)
	}
	var answers groupList // linked by nextAnswer
	mine := roleNone
	l.mu.Lock()
	l.appendedLocked(b, last, end)
	if l.cause != nil {
		return l.writtenPoisonedLocked(b, self)
	}
	for g := b.list.pop(); g != nil; g = b.list.pop() {
		if !g.OnDisk || plant.Enabled && plant.Is(plant.LogAckBeforeSync) {
			g.answered, g.role = true, roleDone
			if g == self {
				mine = roleDone
			} else {
				g.holds.Add(1) // the sync may drop the log's own before we answer
				g.nextAnswer = nil
				if answers.tail == nil {
					answers.head = g
				} else {
					answers.tail.nextAnswer = g
				}
				answers.tail = g
			}
		}
		l.pendLocked(g)
	}
	// A producer whose own group is answered does not pay for a sync.
	if mine == roleNone {
		mine = l.releaseWriteLocked(self == nil && l.pendingLead == nil || self != nil && self.OnDisk)
	} else {
		l.releaseWriteLocked(false)
	}
	l.mu.Unlock()
	for g := answers.head; g != nil; {
		next := g.nextAnswer
		g.answer()
		g.drop()
		g = next
	}
	return mine
}

// writtenVisible is written for a log whose records are visible as soon as they
// are appended.
func (l *Log) writtenVisible(b *batch, last *Entry, end int64, self *Group) role {
	// Invariant: applyMu is taken before write leadership is put down, so batches
	// are applied in the order of the log; the next one is written meanwhile.
	l.applyMu.Lock()
	l.mu.Lock()
	l.appendedLocked(b, last, end)
	disk := groupList{}
	if b.disk {
		var rest groupList
		for g := b.list.pop(); g != nil; g = b.list.pop() {
			if g.OnDisk {
				disk.push(g)
			} else {
				rest.push(g)
			}
		}
		b.list = rest
	}
	l.crowded = b.count + int(l.waiting.Load())
	for g := b.list.head; g != nil; g = g.next {
		if g.role = roleDone; g.async {
			l.crowded = 0 // its caller does not wait, and may bring any number
		}
	}
	l.writing = false
	l.nextLocked()
	l.mu.Unlock()

	// Invariant: whoever finds a record through a view can read it, so visible
	// moves first.
	l.visible.Store(end)
	l.applyGroups(b.list.head, disk.head)
	l.applied = lastMark(last, l.applied)
	mine := roleNone
	if disk.head != nil {
		mine = l.pendVisible(disk, self)
	}
	l.applyMu.Unlock()
	if l.o.Advanced != nil {
		l.o.Advanced(end)
	}
	if r := l.finish(b.list, self); r != roleNone {
		mine = r
	}
	return mine
}

// pendVisible puts applied groups that wait for a sync among the pending ones,
// unless a sync has covered them already. applyMu is held, which keeps them in
// the order of the log.
func (l *Log) pendVisible(disk groupList, self *Group) role {
	var done groupList
	l.mu.Lock()
	for g := disk.pop(); g != nil; g = disk.pop() {
		switch {
		case l.cause != nil:
			g.err, g.role = l.cause, roleDone
			done.push(g)
		case g.end <= l.synced.Load():
			g.role = roleDone
			done.push(g)
		default:
			l.pendLocked(g)
		}
	}
	mine := roleNone
	if self != nil && self.role != roleDone && self.OnDisk && !l.syncing && l.pendingDisk > 0 {
		l.syncing = true
		mine = roleSync
	}
	l.nextLocked()
	l.mu.Unlock()
	if r := l.finish(done, self); r != roleNone {
		mine = r
	}
	return mine
}

// appendedLocked moves appended behind a batch.
func (l *Log) appendedLocked(b *batch, last *Entry, end int64) {
	l.placed = lastMark(last, l.placed)
	l.appended.Store(end)
	l.count.groups.Add(1)
	if !b.disk && l.pendingDisk == 0 {
		l.dirtyLocked(end)
	}
	if seg := l.active.Load(); seg != nil {
		ahead := seg.run.ready.Load()
		if (ahead < seg.end() && ahead-end < zeroRunway/2) || (l.next.Load() == nil && end-seg.base > seg.size/2) {
			l.kick()
		}
	}
}

func lastMark(e *Entry, before message.Mark) message.Mark {
	if e == nil {
		return before
	}
	return e.Mark()
}

// pendLocked adds a written group to those that wait for a sync.
func (l *Log) pendLocked(g *Group) {
	l.pending.push(g)
	if g.answered {
		return
	}
	l.pendingDisk++
	if l.pendingLead == nil && !g.async && !g.abandoned {
		l.pendingLead = g
	}
}

// releaseWriteLocked puts write leadership down. If somebody waits for a sync
// that nobody runs, and willing is set, the caller gets it.
func (l *Log) releaseWriteLocked(willing bool) role {
	l.writing = false
	mine := roleNone
	if willing && l.pendingDisk > 0 && !l.syncing {
		l.syncing = true
		mine = roleSync
	}
	l.nextLocked()
	return mine
}

// writtenPoisonedLocked finishes a batch that was written while a sync failed.
func (l *Log) writtenPoisonedLocked(b *batch, self *Group) role {
	for g := b.list.head; g != nil; g = g.next {
		g.err, g.role = l.cause, roleDone
	}
	list := b.list
	list.join(l.failAllLocked(l.cause))
	l.writing = false
	l.nextLocked()
	l.mu.Unlock()
	return l.finish(list, self)
}

// applyGroups gives all entries of a batch to Apply, in the order of the log.
// With some of them split off for a sync, two lists are merged by position.
func (l *Log) applyGroups(a, b *Group) {
	if l.o.Apply == nil {
		return
	}
	es := l.applying[:0]
	for a != nil || b != nil {
		g := a
		if a == nil || b != nil && b.end < a.end {
			g, b = b, b.next
		} else {
			a = a.next
		}
		for i := range g.Entries {
			es = append(es, &g.Entries[i])
		}
	}
	if len(es) > 0 {
		l.o.Apply(es)
	}
	clear(es)
	if l.applying = es[:0]; cap(es) > 1<<14 {
		l.applying = nil
	}
}

// clearRange makes a range read as zeros again after a write that failed for
// want of room. What cannot be overwritten for the same want has no blocks and
// is a hole; reading it back proves it.
func clearRange(h *handle, off, n int64) error {
	const page = 4096
	for at := off; at < off+n; {
		end := min(at/page*page+page, off+n)
		if _, err := h.file.WriteAt(zeros[:end-at], at); err != nil && !isFull(err) {
			return err
		}
		at = end
	}
	buf := getBuf(int(min(n, readChunk)))
	defer putBuf(buf)
	for at := off; at < off+n; {
		p := buf[:min(int64(len(buf)), off+n-at)]
		if _, err := h.file.ReadAt(p, at); err != nil && err != io.EOF {
			return err
		}
		if !isZero(p) {
			return errNotCleared
		}
		at += int64(len(p))
	}
	return nil
}
