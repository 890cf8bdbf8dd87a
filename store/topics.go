package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/internal/plant"
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

func topicOfKey(key []byte) (name string, ok bool) {
	return strings.CutPrefix(string(key), topicPrefix)
}

func newTopics(db *kv.DB) *topics {
	t := &topics{db: db}
	t.mu.live = make(map[string]*topic)
	t.mu.dead = make(map[string]*topicRow)
	t.mu.folded = make(map[string]string)
	t.mu.dirty = make(map[string]bool)
	t.mu.absent = make(map[message.Queue]*watchList)
	return t
}

// guessTopics makes the table from the queues that were saved: a reader beside
// the writer has no meta, and sees every topic with all its queues.
func guessTopics(queues *consumequeue.Queues) *topics {
	t := newTopics(nil)
	counts := make(map[string]int)
	for _, q := range queues.All() {
		name := q.Name()
		counts[name.Topic] = max(counts[name.Topic], int(name.ID)+1)
	}
	for name, n := range counts {
		tp := &topic{name: name}
		tp.row.Store(&topicRow{Topic: Topic{Name: name}.withDefaults(Topic{WriteQueues: n})})
		t.mu.live[name] = tp
	}
	t.saved, _ = queues.Saved()
	return t
}

func openTopics(db *kv.DB) (*topics, error) {
	t := newTopics(db)
	for row, err := range db.Scan([]byte(topicPrefix), prefixEnd(topicPrefix)) {
		if err != nil {
			return nil, fmt.Errorf("store: read topics: %w", err)
		}
		name := string(row.Key[len(topicPrefix):])
		r, err := decodeTopicRow(name, row.Value)
		if err != nil {
			return nil, err
		}
		t.mu.folded[message.FoldName(name)] = name
		if r.dead {
			t.mu.dead[name] = r
			continue
		}
		tp := &topic{name: name}
		tp.row.Store(r)
		t.mu.live[name] = tp
	}
	m, ok, err := loadMark(db, topicMark)
	if err != nil {
		return nil, err
	}
	t.saved, t.isNew = m, !ok
	return t, nil
}

// attach gives every topic its queue handles once the consume queues are open.
// Queues of a topic that has died since they were saved are dropped: its records
// are skipped when they are replayed.
func (t *topics) attach(queues *consumequeue.Queues, saved message.Mark) error {
	t.queues = queues
	have := make(map[string]bool)
	for _, q := range queues.All() {
		have[q.Name().Topic] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	// A queue that the saved image does not know may have files all the same, of a
	// life that began and ended behind the image.
	for name := range t.mu.dead {
		if have[name] || queues.HasFolder(name) {
			if err := queues.Delete(name); err != nil {
				return err
			}
		}
	}
	for name, tp := range t.mu.live {
		r := tp.row.Load()
		if r.birth > saved.Offset && (have[name] || queues.HasFolder(name)) {
			if err := queues.Delete(name); err != nil {
				return err
			}
		}
		t.growLocked(tp, r)
	}
	return nil
}

// growLocked makes handles for all queues that row has.
func (t *topics) growLocked(tp *topic, row *topicRow) {
	var old []*queue
	if p := tp.queues.Load(); p != nil {
		old = *p
	}
	if len(old) >= row.queues() {
		return
	}
	qs := slices.Clone(old)
	defer func() {
		for _, q := range qs[len(old):] {
			q.watch.wakeAll()
		}
	}()
	for id := len(old); id < row.queues(); id++ {
		name := message.Queue{Topic: tp.name, ID: int32(id)}
		q := &queue{name: name, topic: tp, watch: new(watchList), entries: t.queues.Create(name, row.start(int32(id)))}
		if l, ok := t.mu.absent[name]; ok {
			q.watch = l
			delete(t.mu.absent, name)
		}
		_, end := q.entries.Bounds()
		q.seq = commitlog.NewSequence(end)
		qs = append(qs, q)
	}
	tp.queues.Store(&qs)
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

// create makes a topic durable and then known. A topic that was deleted
// continues its queue offsets.
func (t *topics) create(ctx context.Context, topic Topic) (*topic, error) {
	if err := topic.check(); err != nil {
		return nil, err
	}
	t.change.Lock()
	defer t.change.Unlock()
	t.mu.RLock()
	_, exists := t.mu.live[topic.Name]
	row := &topicRow{Topic: topic}
	if d := t.mu.dead[topic.Name]; d != nil {
		row.birth, row.starts = d.birth, d.starts
	}
	t.mu.RUnlock()
	if exists {
		return nil, fmt.Errorf("store: topic %s: %w", topic.Name, ErrExists)
	}
	if err := t.twin(topic.Name); err != nil {
		return nil, err
	}
	if err := t.save(ctx, row); err != nil {
		return nil, err
	}
	defer t.tell(topic.Name)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addLocked(row), nil
}

func (t *topics) tell(name string) {
	if t.changed != nil {
		t.changed(name)
	}
}

// twin refuses a name that differs only in case from another topic's, dead ones
// included: they would share a folder on some file systems.
func (t *topics) twin(name string) error {
	t.mu.RLock()
	twin, ok := t.mu.folded[message.FoldName(name)]
	t.mu.RUnlock()
	if ok && twin != name {
		return &message.NameError{Kind: "topic", Name: name, Reason: "differs only in case from " + twin}
	}
	return nil
}

// free says whether a user may make a topic of this name.
func (t *topics) free(name string) error {
	if err := message.CheckTopic(name); err != nil {
		return err
	}
	if message.IsSystemTopic(name) {
		return ownTopic(name)
	}
	return t.twin(name)
}

func (t *topics) addLocked(row *topicRow) *topic {
	tp := &topic{name: row.Name}
	tp.row.Store(row)
	delete(t.mu.dead, row.Name)
	t.mu.folded[message.FoldName(row.Name)] = row.Name
	t.growLocked(tp, row)
	t.mu.live[row.Name] = tp
	return tp
}

// update changes the settings of a living topic.
func (t *topics) update(ctx context.Context, to Topic) error {
	t.change.Lock()
	defer t.change.Unlock()
	tp, ok := t.get(to.Name)
	if !ok {
		return fmt.Errorf("store: topic %q: %w", to.Name, ErrNotFound)
	}
	row := *tp.row.Load()
	to = to.withDefaults(row.Topic)
	if err := to.check(); err != nil {
		return err
	}
	// A shrunk topic keeps its queues: the log may still hold their records, and
	// they go on where they were when it grows again.
	row.starts = slices.Concat(row.starts, make([]int64, max(0, row.queues()-len(row.starts))))
	row.Topic = to
	if err := t.save(ctx, &row); err != nil {
		return err
	}
	defer t.tell(to.Name)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.growLocked(tp, &row)
	tp.row.Store(&row)
	return nil
}

func (t *topics) save(ctx context.Context, row *topicRow) error {
	var b kv.Batch
	b.Set([]byte(topicPrefix+row.Name), row.encode())
	sync := !(plant.Enabled && plant.Is(plant.StoreTopicUnsynced))
	if err := t.db.Apply(ctx, &b, sync); err != nil {
		return fmt.Errorf("store: save topic %s: %w", row.Name, mapMeta(err))
	}
	return nil
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

// replayHome finds the handle for a record met in a replay. A topic that meta
// does not know is made with enough queues; it is saved with the next checkpoint.
func (t *topics) replayHome(name message.Queue) (*queue, error) {
	if q, ok := t.queue(name); ok {
		return q, nil
	}
	if name.ID < 0 || name.ID >= maxQueues {
		return nil, errors.New("queue number out of range")
	}
	name.Topic = strings.Clone(name.Topic) // the record is lent
	t.mu.Lock()
	defer t.mu.Unlock()
	tp, ok := t.mu.live[name.Topic]
	if !ok {
		row := &topicRow{Topic: Topic{Name: name.Topic}.withDefaults(Topic{WriteQueues: int(name.ID) + 1})}
		if d := t.mu.dead[name.Topic]; d != nil {
			row.birth, row.starts = d.birth, d.starts
		}
		tp = t.addLocked(row)
	} else {
		row := *tp.row.Load()
		row.ReadQueues, row.WriteQueues = max(row.ReadQueues, int(name.ID)+1), max(row.WriteQueues, int(name.ID)+1)
		t.growLocked(tp, &row)
		tp.row.Store(&row)
	}
	t.mu.dirty[name.Topic] = true
	q, _ := tp.queue(name.ID)
	return q, nil
}

// Name, Apply, Freeze, Saved and Reset make topics a view of the deletions in
// the log.
func (t *topics) Name() string { return "topics" }

// Apply obeys a deletion record.
func (t *topics) Apply(r *message.Record) { t.obey(r) }

// obey deletes the topic that r deletes, if it does: the topic's earlier records
// are dead from r's end on. It returns the name when the topic was alive; a
// replay may meet deletions that meta knows already.
func (t *topics) obey(r *message.Record) (name string, deleted bool) {
	name, ok := deletes(r)
	if !ok {
		return "", false
	}
	birth := r.Position() + int64(r.Size())
	t.mu.Lock()
	defer t.mu.Unlock()
	tp, ok := t.mu.live[name]
	if !ok || tp.row.Load().birth >= birth {
		return name, false
	}
	row := *tp.row.Load()
	row.dead, row.birth, row.starts = true, birth, nil
	tp.gone.Store(true)
	delete(t.mu.live, name)
	for _, q := range *tp.queues.Load() {
		_, end := q.entries.Bounds()
		row.starts = append(row.starts, end)
		if !q.watch.empty() {
			t.mu.absent[q.name] = q.watch
			q.watch.wakeAll()
		}
	}
	t.mu.dead[name] = &row
	t.mu.dirty[name] = true
	if t.dropped != nil && !(plant.Enabled && plant.Is(plant.StoreKeepsOffsets)) {
		t.dropped(name)
	}
	return name, true
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

// deletes returns the topic that a record deletes.
func deletes(r *message.Record) (name string, ok bool) {
	if r.Topic() != message.TopicTopics {
		return "", false
	}
	name, ok = r.OwnValue(message.PropDeletes)
	return strings.Clone(name), ok // the record is lent
}

// Freeze takes the rows that Apply changed.
func (t *topics) Freeze(m message.Mark) func() error {
	t.mu.Lock()
	names := slices.Collect(maps.Keys(t.mu.dirty))
	b := t.rowsLocked(names)
	clear(t.mu.dirty)
	t.mu.Unlock()
	setMark(b, topicMark, m)
	return func() error {
		if err := t.db.Apply(context.Background(), b, true); err != nil {
			t.mu.Lock()
			for _, name := range names {
				t.mu.dirty[name] = true
			}
			t.mu.Unlock()
			return fmt.Errorf("store: save topics: %w", mapMeta(err))
		}
		t.saved, t.isNew = m, false
		return nil
	}
}

// saveRow saves one topic's row at once. It stays dirty: the next checkpoint
// saves it again, because the mark may otherwise pass a row that is not there.
func (t *topics) saveRow(ctx context.Context, name string) error {
	t.mu.RLock()
	b := t.rowsLocked([]string{name})
	t.mu.RUnlock()
	if err := t.db.Apply(ctx, b, true); err != nil {
		return fmt.Errorf("store: save topic %s: %w", name, mapMeta(err))
	}
	return nil
}

// saveStarts saves where the queues of living topics begin once the log begins at
// position before, as far as that has changed; startAt tells where that is.
//
// Invariant: no queue on disk begins behind what its topic's row says, unless
// records were lost.
func (t *topics) saveStarts(ctx context.Context, before int64, startAt func(context.Context, *queue, int64) (int64, error)) error {
	if plant.Enabled && plant.Is(plant.StoreForgetsStarts) {
		return nil
	}
	t.change.Lock()
	defer t.change.Unlock()
	var rows []*topicRow
	t.mu.RLock()
	live := slices.Collect(maps.Values(t.mu.live))
	t.mu.RUnlock()
	for _, tp := range live {
		row := *tp.row.Load()
		row.starts = nil
		for _, q := range *tp.queues.Load() {
			start, err := startAt(ctx, q, before)
			if err != nil {
				return err
			}
			row.starts = append(row.starts, start)
		}
		if !slices.Equal(row.starts, tp.row.Load().starts) {
			rows = append(rows, &row)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	var b kv.Batch
	for _, row := range rows {
		b.Set([]byte(topicPrefix+row.Name), row.encode())
	}
	if err := t.db.Apply(ctx, &b, true); err != nil {
		return fmt.Errorf("store: save the starts of queues: %w", mapMeta(err))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, row := range rows {
		if tp, ok := t.mu.live[row.Name]; ok {
			tp.row.Store(row)
		}
	}
	return nil
}

func (t *topics) rowsLocked(names []string) *kv.Batch {
	b := new(kv.Batch)
	for _, name := range names {
		row := t.mu.dead[name]
		if tp, ok := t.mu.live[name]; ok {
			row = tp.row.Load()
		}
		b.Set([]byte(topicPrefix+name), row.encode())
	}
	return b
}

// Saved is the log position up to which deletions are in meta.
func (t *topics) Saved() (message.Mark, bool) { return t.saved, !t.isNew }

// Reset does nothing: topics are primary state, and replaying old deletions
// changes nothing.
func (t *topics) Reset() error { return nil }
