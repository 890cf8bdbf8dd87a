package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

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
