package consumequeue

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/embermq/embermq/internal/fs"
)

// Delete removes the topic's queues from memory and then their files and
// folders, durably. Handles of them are dead afterwards: an Append to one does
// nothing, a Read matches message.ErrNotFound, and Queue makes a new one. When
// it fails the queues are gone from memory all the same, and Delete may be
// called again for the files.
func (s *Queues) Delete(topic string) error {
	for _, q := range s.detach(topic) {
		s.files.drop(q, 0, maxOffset*EntrySize)
	}
	if s.o.ReadOnly || !pathSafe(topic) {
		return nil
	}
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	if err := errors.Join(s.forgetSumsOf(topic), s.removeTopic(topic)); err != nil {
		return fmt.Errorf("consumequeue: delete topic %s: %w", topic, err)
	}
	if err := s.fsys.SyncDir("."); err != nil && !isNotExist(err) {
		return fmt.Errorf("consumequeue: delete topic %s: %w", topic, err)
	}
	return nil
}

// HasFolder says whether files of the topic may be there, whatever the saved image
// knows: files are written between two saves.
func (s *Queues) HasFolder(topic string) bool {
	if !pathSafe(topic) {
		return false
	}
	_, err := s.fsys.Stat(topic)
	return !isNotExist(err)
}

// detach takes the topic's queues out of the table and marks them dead.
func (s *Queues) detach(topic string) (dead []*Queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent.Store(nil)
	kept := s.list[:0:0]
	for _, q := range s.list {
		if q.name.Topic != topic {
			kept = append(kept, q)
			continue
		}
		dead = append(dead, q)
		delete(s.table, q.name)
		q.mu.Lock()
		if q.flags&flagDamaged != 0 {
			s.stats.damaged.Add(-1)
		}
		q.clearLocked()
		q.flags |= flagDead
		s.discard(q.image)
		q.image = nil
		q.mu.Unlock()
	}
	s.list = kept
	return dead
}

// removeTree removes the queue files of every topic. The caller holds flushMu.
func (s *Queues) removeTree() error {
	topics, err := s.entries(".")
	if err != nil {
		return fmt.Errorf("consumequeue: reset: %w", err)
	}
	for _, t := range topics {
		if !t.Dir {
			continue
		}
		if err := s.removeTopic(t.Name); err != nil {
			return fmt.Errorf("consumequeue: reset: %w", err)
		}
	}
	if err := s.fsys.SyncDir("."); err != nil && !isNotExist(err) {
		return fmt.Errorf("consumequeue: reset: %w", err)
	}
	return nil
}

// removeTopic removes a topic's queue files, and the folders that are empty then.
func (s *Queues) removeTopic(topic string) error {
	ids, err := s.entries(topic)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := strconv.ParseInt(id.Name, 10, 32); err != nil || !id.Dir {
			continue
		}
		dir := topic + "/" + id.Name
		list, err := s.entries(dir)
		if err != nil {
			return err
		}
		for _, e := range list {
			if _, ok := parseFileName(e.Name); !ok || e.Dir || e.Link {
				continue
			}
			if err := s.fsys.Remove(dir + "/" + e.Name); err != nil && !isNotExist(err) {
				return err
			}
		}
		if err := s.removeEmpty(dir); err != nil {
			return err
		}
	}
	return s.removeEmpty(topic)
}

// removeEmpty removes a folder unless something of somebody else's is in it.
func (s *Queues) removeEmpty(dir string) error {
	list, err := s.fsys.List(dir)
	if isNotExist(err) {
		return nil
	}
	if err != nil || len(list) > 0 {
		return err
	}
	if err := s.fsys.Remove(dir); err != nil && !isNotExist(err) {
		return err
	}
	return nil
}

// entries is List for a folder that may be missing.
func (s *Queues) entries(dir string) ([]fs.Entry, error) {
	list, err := s.fsys.List(dir)
	if isNotExist(err) {
		return nil, nil
	}
	return list, err
}
