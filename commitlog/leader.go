package commitlog

// Leadership.
//
// writing and syncing are flags under mu, each held by at most one goroutine or
// reserved for one that has been chosen and not woken yet. The duties that keep
// everybody moving:
//
//	(1) a gathered group that needs no sync: writing is held.
//	(2) any gathered group: writing or syncing is held.
//	(3) a pending group with somebody waiting: writing or syncing is held.
//
// Whoever puts a flag down calls nextLocked, which keeps the duties by handing a
// flag to somebody who waits. A writer that has put its groups among the pending
// ones takes the sync itself if its own caller wants one.
//
// Walkthrough: T1 writes and syncs (syncing). T2 brings an OnDisk group: it
// gathers, by (2) nothing to do. T3 brings an InCache group: writing is free, so
// T3 writes T2's and its own, returns, and leaves T2 pending: (3) is kept by T1,
// whose nextLocked finds T2 and hands it the sync.

// nextLocked hands leadership on. It is called after a flag was put down and
// after a group was added without one being taken.
func (l *Log) nextLocked() {
	if l.gathered.head != nil && !l.writing && (!l.syncing || l.cacheWaiting > 0) {
		l.writing = true
		l.chooseLocked(l.firstSync, roleWrite)
		return
	}
	if l.pendingDisk > 0 && !l.syncing && !l.writing {
		l.syncing = true
		l.chooseLocked(l.pendingLead, roleSync)
		return
	}
	if l.wantSync && !l.syncing {
		l.kick()
	}
}

// chooseLocked gives a flag that was just raised to g, or to the committer.
func (l *Log) chooseLocked(g *Group, r role) {
	if g != nil {
		g.role = r
		g.ready <- r // has room: a group holds at most one token
		return
	}
	// It may get both: a sync, and before it has begun a group that needs none.
	if r == roleWrite {
		l.commitWrite = true
	} else {
		l.commitSync = true
	}
	if l.o.Manual {
		return
	}
	if !l.committerAlive {
		l.committerAlive = true
		l.wg.Add(1)
		go l.commitLoop()
	}
	select {
	case l.kickCommit <- struct{}{}:
	default:
	}
}

// commitLoop leads for asynchronous groups.
func (l *Log) commitLoop() {
	defer l.wg.Done()
	for {
		select {
		case <-l.kickCommit:
			l.runCommitter()
		case <-l.stop:
			return
		}
	}
}

// runCommitter does what the committer was chosen for.
func (l *Log) runCommitter() {
	for {
		l.mu.Lock()
		switch {
		case l.commitWrite:
			l.commitWrite = false
			if l.leadWriteLocked(nil) == roleSync {
				l.leadSync(nil)
			}
		case l.commitSync:
			l.commitSync = false
			l.mu.Unlock()
			l.leadSync(nil)
		default:
			l.mu.Unlock()
			return
		}
	}
}

// leadWriteLocked places and writes what has gathered. The caller holds write
// leadership and mu; both are put down. self is the caller's own group, if it has
// one. The result says what the caller is to do: its group is done, or it holds
// sync leadership, or it waits, also because another took the lead over.
func (l *Log) leadWriteLocked(self *Group) role {
	if self != nil && self.role == roleWrite {
		self.role = roleNone
	}
	if !l.betLocked() {
		l.mu.Unlock()
		return roleNone
	}
	batch, refused, err := l.takeLocked()
	if batch.head != nil {
		l.mu.Unlock()
		err = l.write(&batch)
		if err == nil {
			r := l.written(&batch, self)
			if l.finish(refused, self) == roleDone {
				return roleDone
			}
			return r
		}
		l.mu.Lock()
		refused.join(batch.list)
	}
	// Nothing was written: these groups fail, the others go on.
	for g := refused.head; g != nil; g = g.next {
		if g.role = roleDone; g.err == nil {
			g.err = err
		}
	}
	if l.cause != nil {
		refused.join(l.failAllLocked(l.cause))
	}
	l.writing = false
	l.nextLocked()
	l.mu.Unlock()
	return l.finish(refused, self)
}

// batch is what one write carries. All of it lies in one segment.
type batch struct {
	list  groupList
	head  *Group
	count int
	size  int64
	disk  bool // somebody waits for the sync
}

// takeLocked takes from the gathering list what one write can carry: to the end
// of the segment, to W, to maxBatch. Before the first group it rolls and waits
// for syncs as needed, without mu. On an error it takes everything, to be
// refused: the next in line would fare no better.
func (l *Log) takeLocked() (b batch, refused groupList, err error) {
	for {
		g := l.gathered.head
		if g == nil || l.cause != nil {
			return b, l.takeAllLocked(), l.cause
		}
		tail := l.appended.Load()
		if l.roomFor(tail, g.size) {
			if tail+g.size-l.synced.Load() <= l.o.MaxUnsynced {
				break
			}
			l.mu.Unlock()
			l.makeRoom(tail + g.size)
		} else {
			l.mu.Unlock()
			err = l.roll(g.size)
		}
		l.mu.Lock()
		if err != nil {
			return b, l.takeAllLocked(), err
		}
	}
	tail, synced := l.appended.Load(), l.synced.Load()
	for {
		g := l.gathered.head
		if g == nil {
			break
		}
		size := b.size + g.size
		if b.count > 0 && (size > maxBatch || !l.roomFor(tail, size) || tail+size-synced > l.o.MaxUnsynced) {
			break
		}
		l.takeOneLocked()
		if l.anyClosed && g.usesClosed() {
			g.err, g.role = ErrSequenceClosed, roleDone
			refused.push(g)
			continue
		}
		for _, s := range g.Closes {
			s.closed, l.anyClosed = true, true
		}
		b.list.push(g)
		b.count++
		b.size = size
		b.disk = b.disk || g.OnDisk
	}
	b.head = b.list.head
	return b, refused, nil
}

func (l *Log) takeOneLocked() *Group {
	g := l.gathered.pop()
	l.queued -= g.size
	l.waiting.Add(-1)
	if g.OnDisk {
		l.diskWaiting--
	} else {
		l.cacheWaiting--
	}
	if l.firstSync == g {
		l.firstSync = nil
		for n := l.gathered.head; n != nil; n = n.next {
			if !n.async && !n.abandoned {
				l.firstSync = n
				break
			}
		}
	}
	if l.roomWake != nil {
		close(l.roomWake)
		l.roomWake = nil
	}
	return g
}

func (l *Log) takeAllLocked() groupList {
	var all groupList
	for l.gathered.head != nil {
		all.push(l.takeOneLocked())
	}
	return all
}

// failAllLocked takes every waiting group out of both lists, to be finished with
// err. One that was chosen to lead and has not begun stays: it holds a flag, and
// will find the poison itself.
func (l *Log) failAllLocked(err error) groupList {
	var out, stay groupList
	sort := func(g *Group) {
		if g.role == roleWrite || g.role == roleSync {
			stay.push(g)
			return
		}
		if !g.answered {
			g.err, g.role = err, roleDone
		}
		out.push(g)
	}
	for l.gathered.head != nil {
		sort(l.takeOneLocked())
	}
	for g := stay.head; g != nil; {
		next := g.next
		l.joinLocked(g)
		g = next
	}
	stay = groupList{}
	for l.pending.head != nil {
		sort(l.pending.pop())
	}
	l.pending, l.pendingDisk, l.pendingLead = stay, 0, nil
	l.wantSync = false
	for g := stay.head; g != nil; g = g.next {
		l.pendingDisk++
	}
	l.wakeSyncedLocked()
	return out
}

// finish answers the groups of a list and gives up the log's hold on them. Their
// role is roleDone already. It reports roleDone when self was among them.
func (l *Log) finish(list groupList, self *Group) role {
	r := roleNone
	for g := list.head; g != nil; {
		next := g.next
		if g == self && !g.answered {
			r = roleDone
		} else if !g.answered {
			g.answer()
		}
		g.drop()
		g = next
	}
	return r
}

// answer tells the group's caller that it is finished.
func (g *Group) answer() {
	switch {
	case g.async:
		if g.Done != nil {
			g.Done(g, g.err)
		}
	case !g.abandoned:
		g.ready <- roleDone
	}
}
