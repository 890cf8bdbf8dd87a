package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

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
