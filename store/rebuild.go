package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/message"
)

// scanLog calls f for every record from position from on. A store that writes stops
// at damage; a reader tells met of it and goes on behind.
func (s *Store) scanLog(from int64, f func(r *message.Record) error, met func(damage error)) error {
	for from < s.log.Visible() {
		end, err := s.log.Scan(from, s.log.Visible(), f)
		if err == nil || !s.cfg.readOnly || !errors.Is(err, ErrCorrupt) {
			return err
		}
		met(err)
		next, ok, err := s.log.Resume(end + 1)
		if err != nil || !ok {
			return err
		}
		from = next
	}
	return nil
}

// rebuilding is a queue whose entries are collected.
type rebuilding struct {
	q    *consumequeue.Queue
	home *queue
	next int64 // the offset behind the last one that was found
}

// rebuildQueues reads the log once and gives damaged queues their entries back.
func (s *Store) rebuildQueues(ctx context.Context, qs []*consumequeue.Queue) error {
	wanted := make(map[message.Queue]*rebuilding, len(qs))
	for _, q := range qs {
		home, ok := s.topics.queue(q.Name())
		if !ok {
			continue // deleted meanwhile
		}
		start, _ := q.Bounds()
		wanted[q.Name()] = &rebuilding{q, home, start}
	}
	var damage error
	err := s.scanLog(s.log.Start(), func(r *message.Record) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !r.Dispatchable() || !s.topics.alive(r.Topic(), r.Position()) {
			return nil
		}
		foreign := s.foreign(r.Position())
		restore := func(name message.Queue, offset int64) bool {
			if b, ok := wanted[name]; ok {
				b.restore(offset, s.entryOf(r), foreign, damage)
			}
			return true
		}
		restore(r.Queue(), r.Offset())
		if foreign {
			alsoIn(r, restore)
		}
		return nil
	}, func(err error) { damage = err })
	if err != nil {
		return fmt.Errorf("store: rebuild %d queues: %w", len(qs), err)
	}
	for _, b := range wanted {
		if _, end := b.q.Bounds(); damage != nil && b.next < end {
			b.home.lose(b.next, end, damage) // the end is that of the tail: it counts where nothing is
		}
	}
	s.stats.rebuilt.Add(int64(len(qs)))
	s.cfg.logger.Info("queues rebuilt", "count", len(qs))
	return nil
}

func (b *rebuilding) restore(offset int64, e consumequeue.Entry, foreign bool, damage error) {
	if foreign && offset == 0 {
		b.q.RestoreAtEnd(e)
		return
	}
	if damage != nil && !foreign && offset > b.next {
		b.home.lose(b.next, offset, damage)
		b.q.Restore(b.next, consumequeue.Blank) // a queue does not begin behind what is lost
	}
	b.q.Restore(offset, e)
	b.next = max(b.next, offset+1)
}
