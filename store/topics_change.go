package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

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
