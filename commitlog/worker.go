package commitlog

import (
	"errors"
	"sync"
	"time"
)

// kick wakes the background worker.
func (l *Log) kick() {
	if l.o.Manual {
		return
	}
	select {
	case l.kickWork <- struct{}{}:
	default:
	}
}

// dirtyLocked is told that bytes were appended that nobody syncs right now. They
// are synced when a quarter of W is dirty, or in a while.
func (l *Log) dirtyLocked(end int64) {
	if end-l.synced.Load() > l.o.MaxUnsynced/4 && !l.wantSync && !l.syncing {
		l.wantSync = true
		l.kick()
	}
	if l.ticking {
		return
	}
	l.ticking = true
	if l.o.Manual {
		l.tickAt = l.o.Clock.Now().Add(syncEvery).UnixNano()
		return
	}
	l.kick()
}

// workLoop is the background: it prepares the runway and the next segment, and
// syncs what nobody waits for. Without anything dirty it sleeps without a timer.
func (l *Log) workLoop() {
	defer l.wg.Done()
	var tick <-chan time.Time
	stopTick := func() {}
	defer func() { stopTick() }()
	for {
		select {
		case <-l.stop:
			return
		case <-l.kickWork:
			l.background(false)
		case <-tick:
			tick = nil
			l.background(true)
		}
		l.mu.Lock()
		ticking := l.ticking
		l.mu.Unlock()
		if ticking && tick == nil {
			tick, stopTick = l.o.Clock.After(syncEvery)
		}
	}
}

// background does what is to be done. due says that dirty bytes are old enough.
func (l *Log) background(due bool) {
	if l.poisoned.Load() {
		return
	}
	l.mu.Lock()
	if due {
		l.ticking = false
	}
	want := (l.wantSync || due) && !l.syncing && l.synced.Load() < l.appended.Load()
	if want {
		l.syncing = true
	}
	l.mu.Unlock()
	if want {
		l.leadSync(nil)
	}
	err := l.prepareNext()
	if err == nil {
		err = l.extend()
	}
	var failed *syncError
	if err != nil && (!isFull(err) || errors.As(err, &failed)) {
		_ = l.breakDown("prepare", err) // every append gets it
	}
}

// Step does, in a manual log, what the background would do now, and reports
// whether there was anything.
func (l *Log) Step() bool {
	if !l.o.Manual || l.o.ReadOnly {
		return false
	}
	before := l.progress()
	l.runCommitter()
	l.mu.Lock()
	due := l.ticking && l.o.Clock.Now().UnixNano() >= l.tickAt
	l.mu.Unlock()
	l.background(due)
	return l.progress() != before
}

// progress is a number that changes when the background does something.
func (l *Log) progress() int64 {
	n := l.appended.Load() + l.synced.Load()
	for _, s := range [...]*segment{l.active.Load(), l.next.Load()} {
		if s != nil {
			n += s.run.ready.Load() + 1
		}
	}
	return n
}

// Buffers for gathering and reading. Most are of readChunk bytes.
const readChunk = 1 << 20

// leastBuf is the smallest of them, so that in a log of small segments they do not
// grow by and by.
const leastBuf = 32 << 10

var bufs = sync.Pool{New: func() any { return new([]byte) }}

// getBuf returns a buffer of at least n bytes with arbitrary contents.
func getBuf(n int) []byte {
	p := bufs.Get().(*[]byte)
	if cap(*p) < n {
		return make([]byte, max(n, leastBuf))
	}
	return (*p)[:cap(*p)]
}

// putBuf takes a buffer back, unless it is large.
func putBuf(b []byte) {
	if cap(b) == 0 || cap(b) > 2*maxBatch {
		return
	}
	p := new([]byte) // not &b, which would be allocated for an empty one too
	*p = b[:0]
	bufs.Put(p)
}
