package store

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

// topicPrefix and topicMark are keys in meta. On disk. Do not change.
const (
	topicPrefix = "p/topic/"
	topicMark   = "v/topics/mark"
)

// topic is a living topic. A deleted one keeps its handle, marked gone, so that
// whoever still holds it finds out.
type topic struct {
	name   string
	row    atomic.Pointer[topicRow]
	queues atomic.Pointer[[]*queue] // grows, never shrinks: max(read, write) ever
	gone   atomic.Bool
}

// queue is all that one Put needs to know about its queue, resolved once.
type queue struct {
	name    message.Queue
	topic   *topic
	seq     *commitlog.Sequence // the next queue offset; moved by the log's leader
	entries *consumequeue.Queue
	watch   *watchList

	lost     atomic.Pointer[[]lost] // read-only, beside damage
	replayed int64                  // position of the last record that Open has replayed
}

// ConsumeQueue lets the consume queues find their handle in a record's Home.
func (q *queue) ConsumeQueue() *consumequeue.Queue { return q.entries }

// topics is the table of topics. It is primary state, saved in meta before the
// first record of a topic, and also a view: deletions are log records, so that
// a replay that meets one deletes the topic again.
//
// Invariant: a queue's handle exists before any record names it.
type topics struct {
	db     *kv.DB
	queues *consumequeue.Queues

	mu struct {
		sync.RWMutex
		live   map[string]*topic
		dead   map[string]*topicRow
		folded map[string]string            // case-folded name of a live or dead topic → name
		dirty  map[string]bool              // rows changed by Apply and not saved
		absent map[message.Queue]*watchList // watched, but there is no such queue
	}
	recent atomic.Pointer[topic] // the one that was asked for last; it may be gone
	change sync.Mutex            // serialises create, update and delete; taken before mu
	saved  message.Mark
	isNew  bool // nothing was ever saved

	dropped func(name string) // told of every deletion, in log order; memory only
	changed func(name string) // told of new topics and of changed ones; takes no lock of the store's
}

// get finds a living topic. Most calls ask for the one before them.
func (t *topics) get(name string) (*topic, bool) {
	if tp := t.recent.Load(); tp != nil && tp.name == name && !tp.gone.Load() {
		return tp, true
	}
	t.mu.RLock()
	tp, ok := t.mu.live[name]
	if ok {
		t.recent.Store(tp)
	}
	t.mu.RUnlock()
	return tp, ok
}

// queue returns the handle of a queue that exists, whatever its permissions.
func (t *topics) queue(q message.Queue) (*queue, bool) {
	tp, ok := t.get(q.Topic)
	if !ok {
		return nil, false
	}
	return tp.queue(q.ID)
}

func (tp *topic) queue(id int32) (*queue, bool) {
	qs := *tp.queues.Load()
	if id < 0 || int(id) >= len(qs) {
		return nil, false
	}
	return qs[id], true
}

func (t *topics) list() []Topic {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]Topic, 0, len(t.mu.live))
	for name, tp := range t.mu.live {
		if !message.IsSystemTopic(name) {
			out = append(out, tp.row.Load().Topic)
		}
	}
	slices.SortFunc(out, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// all calls f for every queue handle, system topics included.
func (t *topics) all(f func(*queue)) {
	t.mu.RLock()
	tps := make([]*topic, 0, len(t.mu.live))
	for _, tp := range t.mu.live {
		tps = append(tps, tp)
	}
	t.mu.RUnlock()
	for _, tp := range tps {
		for _, q := range *tp.queues.Load() {
			f(q)
		}
	}
}

// alive reports whether a record at position belongs to the present life of
// its topic.
func (t *topics) alive(name string, position int64) bool {
	tp, ok := t.get(name)
	if ok {
		return position >= tp.row.Load().birth
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	d := t.mu.dead[name]
	return d == nil || position >= d.birth
}

// watch puts a watched queue on the list of its name, whether there is such a
// queue or not.
func (t *topics) watch(wd *watched) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tp, ok := t.mu.live[wd.name.Topic]; ok {
		if q, ok := tp.queue(wd.name.ID); ok {
			wd.on = q.watch
		}
	}
	if wd.on == nil {
		if wd.on = t.mu.absent[wd.name]; wd.on == nil {
			wd.on = new(watchList)
			t.mu.absent[wd.name] = wd.on
		}
	}
	wd.on.addLocked(wd)
}

func (t *topics) unwatch(wd *watched) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wd.on.removeLocked(wd)
	if wd.on.empty() && t.mu.absent[wd.name] == wd.on {
		delete(t.mu.absent, wd.name)
	}
}
