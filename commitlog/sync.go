package commitlog

import (
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// leadSync syncs everything that is appended when it starts, applies what becomes
// visible and answers those who waited. The caller holds sync leadership, which
// is put down. The result says whether self is done.
func (l *Log) leadSync(self *Group) role {
	l.mu.Lock()
	if self != nil && self.role == roleSync {
		self.role = roleNone // it may have been chosen to write meanwhile
	}
	if l.cause != nil {
		return l.syncFailedLocked(self)
	}
	from, to, mark := l.synced.Load(), l.appended.Load(), l.placed
	l.wantSync = false
	l.mu.Unlock()

	t0 := l.o.Clock.Now()
	if from < to {
		if err := l.syncRange(from, to, mark); err != nil {
			_ = l.breakDown("sync", err)
			l.mu.Lock()
			return l.syncFailedLocked(self)
		}
	}

	l.mu.Lock()
	if l.cause != nil {
		return l.syncFailedLocked(self)
	}
	l.synced.Store(to)
	done, count := l.popPendingLocked(to)
	// Counted before they are woken: who is back already must not count twice.
	l.expected = count + int(l.waiting.Load())
	l.mu.Unlock()
	took := l.o.Clock.Now().Sub(t0)
	l.yield.synced.Store(int64(took))
	if from < to {
		l.count.synced(took)
	}

	if l.o.OnDisk && l.visible.Load() < to {
		l.applyMu.Lock()
		// Invariant: whoever finds a record through a view can read it, so visible
		// moves first.
		l.visible.Store(to)
		l.applyGroups(done.head, nil)
		l.applied = mark
		l.applyMu.Unlock()
		if l.o.Advanced != nil {
			l.o.Advanced(to)
		}
	}
	r := l.finish(done, self)

	l.mu.Lock()
	l.syncing = false
	l.wakeSyncedLocked()
	l.nextLocked()
	l.mu.Unlock()
	return r
}

// syncRange makes [from, to) durable, file by file, and then saves the watermark.
func (l *Log) syncRange(from, to int64, mark message.Mark) error {
	for at := from; at < to; {
		seg := l.segs.find(at)
		h := seg.h.Load() // pinned: not wholly synced
		err := h.file.SyncData()
		if err != nil && plant.Enabled && plant.Is(plant.LogRetrySync) {
			err = h.file.SyncData()
		}
		if err != nil {
			return err
		}
		if at = seg.end(); at <= to {
			l.segs.sealed(h) // from now on it may be closed
		}
	}
	return l.wm.save(mark)
}

// popPendingLocked takes the groups that end at or below position out of the
// pending list. count is how many were waiting.
func (l *Log) popPendingLocked(position int64) (done groupList, count int) {
	for g := l.pending.head; g != nil && g.end <= position; g = l.pending.head {
		l.pending.pop()
		if l.pendingLead == g {
			l.pendingLead = nil
		}
		if !g.answered {
			l.pendingDisk--
			count++
			g.role = roleDone
		}
		done.push(g)
	}
	for g := l.pending.head; g != nil && l.pendingLead == nil && l.pendingDisk > 0; g = g.next {
		if !g.answered && !g.async && !g.abandoned {
			l.pendingLead = g
		}
	}
	return done, count
}

// syncFailedLocked ends a sync on a poisoned log.
func (l *Log) syncFailedLocked(self *Group) role {
	list := l.failAllLocked(l.cause)
	l.syncing = false
	l.nextLocked()
	l.mu.Unlock()
	return l.finish(list, self)
}

// wakeSyncedLocked wakes those who wait for synced to move.
func (l *Log) wakeSyncedLocked() {
	if l.syncWake != nil {
		close(l.syncWake)
		l.syncWake = nil
	}
}

// makeRoom waits until a log that is appended up to end has at most W bytes
// unsynced. The write leader calls it, without mu.
func (l *Log) makeRoom(end int64) {
	for {
		l.mu.Lock()
		if l.cause != nil || end-l.synced.Load() <= l.o.MaxUnsynced {
			l.mu.Unlock()
			return
		}
		l.count.stalls.Add(1)
		if !l.syncing || l.commitSync {
			// A sync that the committer was chosen for and has not begun is taken
			// from it: the committer may be the one that waits here.
			l.syncing, l.commitSync = true, false
			l.mu.Unlock()
			l.leadSync(nil)
			continue
		}
		if l.syncWake == nil {
			l.syncWake = make(chan struct{})
		}
		c := l.syncWake
		l.mu.Unlock()
		<-c
	}
}
