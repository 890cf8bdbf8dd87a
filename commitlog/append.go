package commitlog

import (
	"context"
	"fmt"

	"github.com/embermq/embermq/message"
)

// role is what a waiting caller is woken for.
type role uint8

const (
	roleNone  role = iota
	roleWrite      // it holds write leadership
	roleSync       // it holds sync leadership
	roleDone       // its group is finished
)

// Append writes the group's records one behind the other and returns when they
// are as durable as g.OnDisk asks: synced, or with the kernel. They are visible
// then and have been applied, with one exception: in an OnDisk log a group that
// does not ask for OnDisk becomes visible with the next sync.
//
// ctx bounds the wait, not the write: when it ends first, Append returns an
// error that wraps ctx.Err() and the outcome is unknown. See Group for who owns
// g; the caller owes a Release whatever is returned.
//
// Other errors: ErrTooLarge for a group over GroupLimit or over 65,535 records;
// ErrDiskFull, and nothing was written; ErrPoisoned with the cause; ErrReadOnly;
// ErrClosed.
func (l *Log) Append(ctx context.Context, g *Group) error { return l.append(ctx, g, false) }

func (l *Log) append(ctx context.Context, g *Group, closing bool) error {
	g.prepare(l, false)
	if err := l.admit(g); err != nil {
		return err
	}
	l.mu.Lock()
	if err := l.refuseLocked(closing); err != nil {
		l.mu.Unlock()
		return err
	}
	g.holds.Add(1)
	l.joinLocked(g)
	r := roleNone
	switch {
	case !l.writing && (!l.syncing || !g.OnDisk):
		l.writing = true
		r = roleWrite
	case l.takeOverLocked():
		r = roleWrite
	default:
		l.mu.Unlock()
	}
	// Invariant: with roleWrite mu is held here, so that a lone producer takes it
	// only twice.
	for {
		switch r {
		case roleWrite:
			r = l.leadWriteLocked(g)
		case roleSync:
			r = l.leadSync(g)
		case roleDone:
			return g.err
		default:
			var err error
			if r, err = l.wait(ctx, g); err != nil {
				return err
			}
			if r == roleWrite {
				l.mu.Lock()
			}
		}
	}
}

// AppendAsync queues the group and returns; g.Done is called once, when Append
// would have returned. It waits only while too much is queued, which ctx bounds.
// After an error Done is not called and nothing was queued. The caller owes a
// Release, from Done on or after the error.
func (l *Log) AppendAsync(ctx context.Context, g *Group) error {
	g.prepare(l, true)
	if err := l.admit(g); err != nil {
		return err
	}
	l.mu.Lock()
	for {
		if err := l.refuseLocked(false); err != nil {
			l.mu.Unlock()
			return err
		}
		if l.queued+g.size <= maxQueued || l.gathered.head == nil {
			break
		}
		if l.o.Manual {
			l.mu.Unlock()
			l.runCommitter()
			l.mu.Lock()
			continue
		}
		if l.roomWake == nil {
			l.roomWake = make(chan struct{})
		}
		c := l.roomWake
		l.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return fmt.Errorf("commitlog: append: wait for room: %w", ctx.Err())
		}
		l.mu.Lock()
	}
	g.holds.Add(1)
	l.joinLocked(g)
	l.nextLocked()
	l.mu.Unlock()
	return nil
}

// admit refuses what can be refused without a lock.
func (l *Log) admit(g *Group) error {
	if limit := l.o.groupLimit(); g.size > limit {
		return &message.SizeError{What: "group", Size: g.size, Limit: limit}
	}
	if len(g.Entries) > maxGroupRecords {
		return &message.SizeError{What: "records in a group", Size: int64(len(g.Entries)), Limit: maxGroupRecords}
	}
	if l.low.Load() && !g.Reserve {
		l.checkSpace(l.o.Clock.Now()) // room may have come back
		if l.low.Load() {
			return errReserved
		}
	}
	return nil
}

func (l *Log) refuseLocked(closing bool) error {
	switch {
	case l.o.ReadOnly:
		return fmt.Errorf("commitlog: append: %w", message.ErrReadOnly)
	case l.cause != nil:
		return l.cause
	case l.stopped && !closing:
		return fmt.Errorf("commitlog: append: %w", message.ErrClosed)
	}
	return nil
}

// joinLocked puts the group at the end of the gathering list.
func (l *Log) joinLocked(g *Group) {
	l.gathered.push(g)
	l.queued += g.size
	l.waiting.Add(1)
	if g.OnDisk {
		l.diskWaiting++
	} else {
		l.cacheWaiting++
	}
	if !g.async && l.firstSync == nil {
		l.firstSync = g
	}
}

// wait parks the caller until its group is finished or it is to lead. The role
// comes through the channel: whoever receives one to lead holds that flag.
func (l *Log) wait(ctx context.Context, g *Group) (role, error) {
	if l.o.Manual {
		// The committer's work is nobody else's in a manual log.
		for len(g.ready) == 0 {
			l.runCommitter()
		}
	}
	done := ctx.Done()
	if done == nil {
		return <-g.ready, nil
	}
	select {
	case r := <-g.ready:
		return r, nil
	case <-done:
		return l.abandon(ctx, g)
	}
}

// abandon gives up waiting. A group that was finished in the same moment is
// finished; one that was chosen to lead passes the flag on, or it would be lost.
func (l *Log) abandon(ctx context.Context, g *Group) (role, error) {
	l.mu.Lock()
	switch g.role {
	case roleDone:
		l.mu.Unlock()
		return <-g.ready, nil // sent after the role was set, perhaps only now
	case roleWrite:
		<-g.ready // sent under mu, together with the role
		l.writing = false
	case roleSync:
		<-g.ready
		l.syncing = false
	}
	g.role = roleNone
	g.abandoned = true
	if l.firstSync == g {
		l.firstSync = nil // the committer leads if nobody else comes
	}
	if l.pendingLead == g {
		l.pendingLead = nil
	}
	l.nextLocked()
	l.mu.Unlock()
	return roleNone, fmt.Errorf("commitlog: append: outcome unknown: %w", ctx.Err())
}
