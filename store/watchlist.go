package store

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/message"
)

// watchList is the set of watches on one queue. It is read by the dispatcher
// for every record, so an unwatched queue costs one atomic load. It changes
// under topics.mu, where it also outlives its queue: whoever watches a queue
// that is deleted, or not made yet, hears of the next one of that name.
type watchList struct {
	list atomic.Pointer[[]*watched]
}

// watched is one queue within one watch.
type watched struct {
	w      *watch
	name   message.Queue
	on     *watchList
	hashes []int64 // tag hashes that matter; nil = all
	ready  bool    // in w's ready list
}

// wake tells the watches of a queue that an entry with this tag hash is there.
// It runs on the dispatcher and only touches memory.
func (l *watchList) wake(tagHash int64) {
	p := l.list.Load()
	if p == nil {
		return
	}
	for _, wd := range *p {
		if wd.wants(tagHash) {
			wd.w.mark(wd)
		}
	}
}

// wakeAll wakes every watch whatever its tags: the queue is gone or rebuilt.
func (l *watchList) wakeAll() {
	if p := l.list.Load(); p != nil {
		for _, wd := range *p {
			wd.w.mark(wd)
		}
	}
}

func (wd *watched) wants(h int64) bool {
	if wd.hashes == nil {
		return true
	}
	for _, x := range wd.hashes {
		if x == h {
			return true
		}
	}
	return false
}

// waited reports whether somebody sleeps until an entry with this tag hash is
// visible.
func (l *watchList) waited(tagHash int64) bool {
	p := l.list.Load()
	if p == nil {
		return false
	}
	for _, wd := range *p {
		if wd.w.waiting.Load() && wd.wants(tagHash) {
			return true
		}
	}
	return false
}

func (l *watchList) empty() bool { return l.list.Load() == nil }

// addLocked and removeLocked replace the list, which the dispatcher may be
// reading. topics.mu is held.
func (l *watchList) addLocked(wd *watched) {
	var list []*watched
	if p := l.list.Load(); p != nil {
		list = *p
	}
	list = append(list[:len(list):len(list)], wd)
	l.list.Store(&list)
}

func (l *watchList) removeLocked(wd *watched) {
	p := l.list.Load()
	if p == nil {
		return
	}
	list := without(slices.Clone(*p), wd)
	if len(list) == 0 {
		l.list.Store(nil)
		return
	}
	l.list.Store(&list)
}

// watch implements message.Watch.
//
// Invariant: a queue is in ready at most once, and an entry that becomes
// visible after a queue left ready puts it there again, so no arrival is missed
// between a Next and the reads that follow it.
type watch struct {
	s       *Store
	change  sync.Mutex  // one Add, Remove or Close at a time; taken before topics.mu
	closed  bool        // guarded by change
	waiting atomic.Bool // somebody sleeps in Next
	linger  linger      // of whoever is in Next

	mu   sync.Mutex
	qs   map[message.Queue]*watched
	list []*watched // ready, oldest first
	wake chan struct{}
	done chan struct{} // closed by Close
}

// Watch waits on many queues with one goroutine. Every queue is announced once
// when it is added and then whenever a record that f may match becomes
// visible; the announcement says nothing about how many. f tests only the
// tag's hash here, so a reader applies it again; nil means all messages.
//
// A queue that does not exist is announced once too, reading it says why, and
// again when it is made. A queue is also announced when its topic is deleted.
func (s *Store) Watch(f message.Filter, qs ...message.Queue) message.Watch {
	w := &watch{s: s, qs: make(map[message.Queue]*watched), wake: make(chan struct{}, 1), done: make(chan struct{}), linger: newLinger(&s.cfg.env)}
	w.Add(f, qs...)
	return w
}

// Add watches more queues. A queue that is watched already gets the new filter
// and is announced again. After Close it does nothing.
func (w *watch) Add(f message.Filter, qs ...message.Queue) {
	var hashes []int64
	if f != nil {
		hashes = f.Hashes()
	}
	w.change.Lock()
	defer w.change.Unlock()
	if w.closed {
		return
	}
	for _, name := range qs {
		w.remove(name)
		wd := &watched{w: w, name: name, hashes: hashes}
		w.mu.Lock()
		w.qs[name] = wd
		w.mu.Unlock()
		w.s.topics.watch(wd)
		w.mark(wd)
	}
}

// Remove stops watching queues.
func (w *watch) Remove(qs ...message.Queue) {
	w.change.Lock()
	defer w.change.Unlock()
	for _, name := range qs {
		w.remove(name)
	}
}

func (w *watch) remove(name message.Queue) {
	w.mu.Lock()
	wd := w.qs[name]
	delete(w.qs, name)
	if wd != nil && wd.ready {
		w.list = without(w.list, wd)
	}
	w.mu.Unlock()
	if wd != nil {
		w.s.topics.unwatch(wd)
	}
}

func without(l []*watched, wd *watched) []*watched {
	for i := range l {
		if l[i] == wd {
			return slices.Delete(l, i, i+1)
		}
	}
	return l
}

func (w *watch) mark(wd *watched) {
	w.mu.Lock()
	if wd.ready || w.qs[wd.name] != wd {
		w.mu.Unlock()
		return
	}
	wd.ready = true
	w.list = append(w.list, wd)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Next waits until a watched queue has news and returns it. In a stream of news it
// stays awake between two of them, for a tenth of a millisecond at most, and lets
// everybody else go first; otherwise it sleeps. While it waits,
// InCache messages in an OnDisk store are synced, and so become visible, at
// once. It ends with ctx's error, or with ErrClosed once the watch or the store
// is closed. Only one goroutine may call it at a time.
func (w *watch) Next(ctx context.Context) (message.Queue, error) {
	for {
		select {
		case <-w.done:
			return message.Queue{}, ErrClosed
		case <-w.s.closing:
			return message.Queue{}, ErrClosed
		default:
		}
		if name, ok := w.next(); ok {
			return name, nil
		}
		// Invariant: waiting is up before the log is asked, and a put looks at it
		// after its append: one of the two starts the sync.
		w.waiting.Store(true)
		w.s.pokeVisible()
		if w.linger.may && ctx.Err() == nil {
			w.linger.wait(func() bool { return len(w.wake) > 0 })
		}
		err := w.sleep(ctx)
		w.waiting.Store(false)
		if err != nil {
			return message.Queue{}, err
		}
	}
}

// next takes the queue that has been ready for longest.
func (w *watch) next() (message.Queue, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) == 0 {
		return message.Queue{}, false
	}
	wd := w.list[0]
	w.list[0] = nil
	w.list = w.list[1:]
	wd.ready = false
	return wd.name, true
}

func (w *watch) sleep(ctx context.Context) error {
	select {
	case <-w.wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-w.done:
	case <-w.s.closing:
	}
	return ErrClosed
}

// Close stops watching. It may be called twice.
func (w *watch) Close() error {
	w.change.Lock()
	defer w.change.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	close(w.done)
	w.mu.Lock()
	names := slices.Collect(maps.Keys(w.qs))
	w.mu.Unlock()
	for _, name := range names {
		w.remove(name)
	}
	return nil
}
