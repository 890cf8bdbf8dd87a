package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/progress"
)

// importTopics makes the topics that RocketMQ had, before the log is replayed:
// where their queues begin, and which of the log's records are dead because
// RocketMQ has deleted their topic meanwhile. Queue files and index are built
// from the log.
func (s *Store) importTopics() error {
	m := s.imported
	rows, guessed := make(map[string]*topicRow), make(map[string]bool)
	for _, t := range m.Config.Topics {
		if _, ok := s.topics.get(t.Name); ok && m.Existing {
			continue // settings that were made here stay
		}
		if err := s.topics.twin(t.Name); err != nil {
			m.LeftOut = append(m.LeftOut, fmt.Sprintf("topic %q: %v", t.Name, err))
			continue
		}
		rows[t.Name] = &topicRow{Topic: t}
		s.topics.mu.folded[message.FoldName(t.Name)] = t.Name
	}
	births := make(map[string]int64)
	for _, q := range m.Queues {
		if !message.IsSystemTopic(q.Topic) && message.CheckTopic(q.Topic) != nil || q.ID >= maxQueues {
			m.LeftOut = append(m.LeftOut, fmt.Sprintf("queue %s/%d: not a name or number for a queue", q.Topic, q.ID))
			continue
		}
		row := rows[q.Topic]
		if row == nil {
			row = &topicRow{Topic: Topic{Name: q.Topic}.withDefaults(Topic{WriteQueues: 1})}
			rows[q.Topic], guessed[q.Topic] = row, true
		}
		if guessed[q.Topic] {
			row.ReadQueues, row.WriteQueues = max(row.ReadQueues, int(q.ID)+1), max(row.WriteQueues, int(q.ID)+1)
		}
		row.starts = slices.Concat(row.starts, make([]int64, max(0, int(q.ID)+1-len(row.starts))))
		row.starts[q.ID] = q.Start
		if _, ok := births[q.Topic]; !ok {
			births[q.Topic] = m.Reached
		}
		if q.First >= 0 {
			births[q.Topic] = min(births[q.Topic], q.First)
		}
	}
	for name, row := range rows {
		if birth, ok := births[name]; ok && m.Closed {
			row.birth = birth
		} else if m.Closed {
			row.birth = m.Reached
		}
		if err := s.topics.save(s.ctx, row); err != nil {
			return err
		}
		s.topics.mu.folded[message.FoldName(name)] = name
		tp := &topic{name: name}
		tp.row.Store(row)
		s.topics.mu.live[name] = tp
		delete(s.topics.mu.dead, name)
	}
	if m.Existing {
		return nil
	}
	if m.Closed {
		s.dispatch.deadBelow = m.Reached
	}
	if err := s.queues.Reset(); err != nil {
		return err
	}
	if s.index != nil {
		return s.index.Reset()
	}
	return nil
}

// bury notes that a topic was deleted, if there is none of the name: its records
// below position are dead.
func (t *topics) bury(name string, position int64) {
	t.mu.RLock()
	known := t.mu.live[name] != nil || t.mu.dead[name] != nil
	t.mu.RUnlock()
	if known {
		return
	}
	name = strings.Clone(name) // the record is lent
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.dead[name] = &topicRow{Topic: Topic{Name: name}.withDefaults(Topic{WriteQueues: 1}), dead: true, birth: position}
	t.mu.folded[message.FoldName(name)] = name
	t.mu.dirty[name] = true
}

// finishImport takes over committed offsets when the log has been replayed, and
// says what came of it.
func (s *Store) finishImport() error {
	m := s.imported
	report := &Import{Topics: len(m.Config.Topics), LeftOut: m.LeftOut}
	groups := make(map[string]map[message.Queue]int64)
	for _, g := range m.Config.Groups {
		groups[g.Name] = nil
		err := s.progress.CreateGroup(s.ctx, progress.Group{Name: g.Name, Disabled: g.Disabled, RetryMax: g.RetryMax, RetryQueues: g.RetryQueues})
		if errors.Is(err, ErrExists) && m.Existing {
			continue
		}
		if err != nil {
			delete(groups, g.Name)
			report.LeftOut = append(report.LeftOut, fmt.Sprintf("group %q: %v", g.Name, err))
		}
	}
	for _, o := range m.Config.Offsets {
		q := message.Queue{Topic: o.Topic, ID: o.Queue}
		start, end, ok := s.queueBounds(q)
		if !ok {
			report.LeftOut = append(report.LeftOut, fmt.Sprintf("offset %d of group %s in %s: no such queue", o.Offset, o.Group, q))
			continue
		}
		if groups[o.Group] == nil {
			groups[o.Group] = make(map[message.Queue]int64)
		}
		if o.Offset > end {
			report.LeftOut = append(report.LeftOut, fmt.Sprintf("offset %d of group %s in %s: the queue ends at %d, which it got", o.Offset, o.Group, q, end))
		}
		groups[o.Group][q] = min(max(o.Offset, start), end)
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		offsets := groups[name]
		if len(offsets) == 0 {
			report.Groups++
			continue
		}
		if err := s.progress.Reset(s.ctx, name, offsets); err != nil {
			if s.ctx.Err() != nil || !errors.Is(err, ErrInvalidName) && !errors.Is(err, ErrUnsupported) {
				return err
			}
			report.LeftOut = append(report.LeftOut, fmt.Sprintf("offsets of group %q: %v", name, err))
			continue
		}
		report.Groups++
		report.Offsets += len(offsets)
	}
	t, h := s.timers.Stats(), s.halves.Stats()
	report.Pending, report.TimersLeftOut = t.Pending, t.LeftOut
	report.Halves, report.HalvesLeftOut = int64(h.Pending), h.Ignored
	s.recovery.Import = report
	s.cfg.logger.Info("imported from RocketMQ", "topics", report.Topics, "groups", report.Groups, "offsets", report.Offsets,
		"delayed", report.Pending, "halves", report.Halves, "left out", len(report.LeftOut))
	return s.saveRule()
}

// endImport removes the notes: the directory is a store now.
func (s *Store) endImport() error {
	s.imported, s.dispatch.deadBelow = nil, 0
	err := s.state.Remove(importName)
	if err == nil {
		err = s.state.SyncDir(".")
	}
	if err != nil {
		return fmt.Errorf("store: end the import: %w", err)
	}
	return nil
}
