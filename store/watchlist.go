package store

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/message"
)

// watchList is the set of watches on one queue. It is read by the dispatcher
// for every record, so an unwatched queue costs one atomic load.
type watchList struct {
	list atomic.Pointer[[]*watched]
}

// watched is one queue within one watch.
type watched struct {
	w      *watch
	q      *queue
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

// change replaces the list by what f makes of a copy.
func (l *watchList) change(f func([]*watched) []*watched) {
	for {
		old := l.list.Load()
		var list []*watched
		if old != nil {
			list = append(list, *old...)
		}
		list = f(list)
		var next *[]*watched
		if len(list) > 0 {
			next = &list
		}
		if l.list.CompareAndSwap(old, next) {
			return
		}
	}
}

// watch implements message.Watch.
//
// Invariant: a queue is in ready at most once, and an entry that becomes
// visible after a queue left ready puts it there again, so no arrival is missed
// between a Next and the reads that follow it.
type watch struct {
	s    *Store
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
// Unknown queues are announced once too, and reading them says why.
func (s *Store) Watch(f message.Filter, qs ...message.Queue) message.Watch {
	w := &watch{s: s, qs: make(map[message.Queue]*watched), wake: make(chan struct{}, 1), done: make(chan struct{})}
	w.Add(f, qs...)
	return w
}

// Add watches more queues. A queue that is watched already gets the new filter.
func (w *watch) Add(f message.Filter, qs ...message.Queue) {
	var hashes []int64
	if f != nil {
		hashes = f.Hashes()
	}
	for _, name := range qs {
		w.Remove(name)
		wd := &watched{w: w, hashes: hashes}
		if q, ok := w.s.topics.queue(name); ok {
			wd.q = q
		} else {
			wd.q = &queue{name: name}
		}
		w.mu.Lock()
		w.qs[name] = wd
		w.mu.Unlock()
		wd.q.watch.change(func(l []*watched) []*watched { return append(l, wd) })
		w.mark(wd)
	}
}

// Remove stops watching queues.
func (w *watch) Remove(qs ...message.Queue) {
	for _, name := range qs {
		w.mu.Lock()
		wd := w.qs[name]
		delete(w.qs, name)
		if wd != nil && wd.ready {
			w.list = without(w.list, wd)
		}
		w.mu.Unlock()
		if wd != nil {
			wd.q.watch.change(func(l []*watched) []*watched { return without(l, wd) })
		}
	}
}

func without(l []*watched, wd *watched) []*watched {
	for i := range l {
		if l[i] == wd {
			return append(l[:i:i], l[i+1:]...)
		}
	}
	return l
}

func (w *watch) mark(wd *watched) {
	w.mu.Lock()
	if wd.ready || w.qs[wd.q.name] != wd {
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

// Next waits until a watched queue has news and returns it. It ends with
// ctx's error, or with ErrClosed once the watch or the store is closed. Only
// one goroutine may call it at a time.
func (w *watch) Next(ctx context.Context) (message.Queue, error) {
	for {
		w.mu.Lock()
		if len(w.list) > 0 {
			wd := w.list[0]
			w.list[0] = nil
			w.list = w.list[1:]
			wd.ready = false
			more := len(w.list) > 0
			w.mu.Unlock()
			if more {
				select {
				case w.wake <- struct{}{}:
				default:
				}
			}
			return wd.q.name, nil
		}
		w.mu.Unlock()
		w.s.pokeVisible()
		select {
		case <-w.wake:
		case <-ctx.Done():
			return message.Queue{}, ctx.Err()
		case <-w.done:
			return message.Queue{}, ErrClosed
		case <-w.s.closing:
			return message.Queue{}, ErrClosed
		}
	}
}

// Close stops watching. It may be called twice.
func (w *watch) Close() error {
	w.mu.Lock()
	select {
	case <-w.done:
		w.mu.Unlock()
		return nil
	default:
		close(w.done)
	}
	names := make([]message.Queue, 0, len(w.qs))
	for name := range w.qs {
		names = append(names, name)
	}
	w.mu.Unlock()
	w.Remove(names...)
	return nil
}
