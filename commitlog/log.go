package commitlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// Log is an open commit log.
type Log struct {
	o     Options
	segs  segments
	state fs.FS
	wm    watermark

	// Written under mu or by the flag's holder, read by everyone.
	appended atomic.Int64
	synced   atomic.Int64
	visible  atomic.Int64

	// Owned by the write leader.
	buf        []byte
	lastStored int64
	paved      int64        // an InCache log's pages are made up to here
	expected   int          // groups that the next sync can have if everybody comes back; under mu
	crowded    int          // groups that the next write without a sync can have; under mu
	anyClosed  bool         // a sequence has been closed
	yield      yielder      // under mu
	crowd      yielder      // for writes without a sync
	placed     message.Mark // the last record written
	active     atomic.Pointer[segment]

	// rollMu guards making the next segment.
	rollMu sync.Mutex
	next   atomic.Pointer[segment]
	step   atomic.Int64 // how far an InCache log reserves ahead

	// applyMu serialises Apply. The rest is what has been applied.
	applyMu  sync.Mutex
	applying []*Entry
	applied  message.Mark

	mu       sync.Mutex
	gathered groupList // not placed yet
	queued   int64     // their bytes
	// cacheWaiting and diskWaiting count gathered groups by what they wait for.
	cacheWaiting, diskWaiting int
	waiting                   atomic.Int32  // both
	firstSync                 *Group        // the first gathered group with a caller that can lead
	betOn                     atomic.Uint64 // the bet that is on, or zero
	bets                      uint64        // so many were made
	awaited                   int           // groups that win it
	// pending are groups that are written but not finished: they wait for a
	// sync, or (in an OnDisk log) to be applied.
	pending     groupList
	pendingDisk int    // those with somebody waiting
	pendingLead *Group // one whose caller can lead a sync
	writing     bool   // write leadership is held
	syncing     bool   // sync leadership is held
	stopped     bool   // no more appends
	closed      bool
	cause       error // why the log is poisoned
	wantSync    bool  // the background shall sync now
	ticking     bool  // the background will sync within syncEvery
	syncWake    chan struct{}
	roomWake    chan struct{}
	// What the committer has been chosen for and has not begun.
	commitWrite, commitSync bool
	committerAlive          bool

	poisoned atomic.Bool
	low      atomic.Bool // only groups with Reserve may be appended
	spaceAt  atomic.Int64
	noReads  atomic.Bool // closed for reads

	kickCommit chan struct{}
	kickWork   chan struct{}
	stop       chan struct{}
	wg         sync.WaitGroup
	tickAt     int64 // manual mode: when the dirty bytes are due

	recovery Recovery
	damage   []damage // read-only: what was found at Open
	count    counters
}

// Start is the position of the first byte that is kept.
func (l *Log) Start() int64 {
	if list := l.segs.all(); len(list) > 0 {
		return list[0].base
	}
	return l.appended.Load()
}

// Appended is where the next record goes.
func (l *Log) Appended() int64 { return l.appended.Load() }

// Synced is the position up to which a power cut takes nothing.
func (l *Log) Synced() int64 { return l.synced.Load() }

// Visible is the position up to which records may be read and have been applied.
func (l *Log) Visible() int64 { return l.visible.Load() }

// LastMark is the mark of the last record that was applied, or that Open found.
// While Apply runs it is still the one before.
func (l *Log) LastMark() message.Mark {
	l.applyMu.Lock()
	defer l.applyMu.Unlock()
	return l.applied
}

// AtMark calls f with the mark of the last applied record while no Apply runs.
// f must not append.
func (l *Log) AtMark(f func(m message.Mark)) {
	l.applyMu.Lock()
	defer l.applyMu.Unlock()
	f(l.applied)
}

// NotBefore lets no record have an earlier store time than ms: that of the last
// record, which Open does not read after a clean end. It comes before the first
// append.
func (l *Log) NotBefore(ms int64) { l.lastStored = max(l.lastStored, ms) }

// Recovery tells what Open found and did.
func (l *Log) Recovery() Recovery { return l.recovery }

// Segments lists the files, oldest first.
func (l *Log) Segments() []Segment {
	list := l.segs.all()
	out := make([]Segment, len(list))
	for i, s := range list {
		out[i] = s.info()
	}
	return out
}

// GroupLimit is the size of the largest group; one over it is ErrTooLarge.
func (l *Log) GroupLimit() int64 { return l.o.groupLimit() }

// Sync waits until everything that was appended or queued before the call is
// synced and, in an OnDisk log, visible. ctx bounds the wait.
func (l *Log) Sync(ctx context.Context) error {
	if l.o.ReadOnly {
		return nil
	}
	l.mu.Lock()
	done := l.gathered.head == nil && l.pending.head == nil && !l.writing && !l.syncing &&
		l.cause == nil && l.synced.Load() == l.appended.Load()
	closed := l.closed
	l.mu.Unlock()
	switch {
	case closed:
		return fmt.Errorf("commitlog: sync: %w", message.ErrClosed)
	case done:
		return nil
	}
	g := newBarrier()
	defer g.Release()
	return l.append(ctx, g, true)
}

// newBarrier returns a group of nothing: when it is on disk, so is everything in
// front of it.
func newBarrier() *Group { return &Group{OnDisk: true, Reserve: true, barrier: true} }

// Poke says that somebody waits for what is appended and not visible yet: an
// OnDisk log with unsynced InCache groups then syncs at once.
func (l *Log) Poke() {
	if !l.o.OnDisk || l.visible.Load() == l.appended.Load() {
		return
	}
	l.mu.Lock()
	kick := l.pending.head != nil
	if kick {
		l.wantSync = true
	}
	l.mu.Unlock()
	if kick {
		l.kick()
	}
}

// Stop ends appending: later appends get ErrClosed, and those under way and
// everything queued are synced and applied when it returns. Reads go on until
// Close. ctx bounds the wait.
func (l *Log) Stop(ctx context.Context) error {
	if l.o.ReadOnly {
		return nil
	}
	l.mu.Lock()
	l.stopped = true
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return nil
	}
	g := newBarrier()
	defer g.Release()
	return l.append(ctx, g, true)
}

// Close stops the log, marks it as closed cleanly and closes it; reads that hold
// a segment finish. A poisoned log is closed too, without the clean mark, and the
// cause is returned. The second call does nothing.
func (l *Log) Close() error { return l.close(true) }

// Abandon is Close without the clean mark: the next Open checks everything behind
// the last sync.
func (l *Log) Abandon() error { return l.close(false) }

func (l *Log) close(clean bool) error {
	err := l.Stop(context.Background())
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()

	close(l.stop)
	l.wg.Wait()
	if !l.o.ReadOnly && err == nil {
		if err = l.dropNext(); err == nil && clean {
			err = l.wm.saveClean()
		}
	}
	err = errors.Join(err, l.wm.close())
	l.noReads.Store(true)
	if n := l.next.Swap(nil); n != nil {
		if h := n.h.Swap(nil); h != nil {
			h.release()
		}
	}
	l.segs.closeAll()
	putBuf(l.buf)
	l.buf = nil
	return err
}

// breakDown poisons the log, which ends all appending. The first cause stays.
func (l *Log) breakDown(op string, cause error) error {
	l.mu.Lock()
	if l.cause == nil {
		l.cause = fmt.Errorf("commitlog: %s: %w: %w", op, message.ErrPoisoned, cause)
		l.poisoned.Store(true)
		l.o.Logger.Error("commit log poisoned", "op", op, "cause", cause)
	}
	err := l.cause
	done := l.failAllLocked(err)
	l.mu.Unlock()
	l.finish(done, nil)
	return err
}

// Poison returns why the log takes no appends, or nil.
func (l *Log) Poison() error {
	if !l.poisoned.Load() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}
