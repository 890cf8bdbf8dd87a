package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// How soon retention looks again. It also looks after every checkpoint, so that
// a store that is being filled does not outrun it.
const (
	lookIdle  = time.Minute
	lookTight = 10 * time.Second       // at the Clean watermark; RocketMQ's cleanResourceInterval
	lookFull  = 500 * time.Millisecond // puts fail until there is room
)

// retain deletes the oldest segments that may go and keeps the full-disk mark
// true. It is one step of the background work.
//
// A segment goes when retention wants it (age, bytes, or the disk's
// watermarks) and no live group still needs a record in it; the active segment
// never goes. The order is oldest first and stops at the first that must stay, because
// the log has one start.
func (s *Store) retain() error {
	now := s.cfg.env.Clock.Now()
	usage, err := s.look()
	if err != nil || s.pins.Load() > 0 {
		return err
	}
	used := usedPercent(usage)
	guarded := false
	defer func() { s.stats.guarded.Store(guarded) }()
	length := s.log.Appended() - s.log.Start()
	before := s.log.Start()
	guard := int64(-1)
	for _, seg := range s.log.Segments() {
		end := seg.Base + seg.Size
		if end > s.log.Visible() { // the active one
			break
		}
		wanted, err := s.wanted(end, now, used, length)
		if err != nil {
			return err
		}
		if !wanted {
			break
		}
		if guard < 0 {
			guard = s.guardPosition(now)
		}
		if guarded = end > guard; guarded {
			break
		}
		before = end
		length -= seg.Size
		usage.Free += seg.Size
		used = usedPercent(usage)
	}
	if before == s.log.Start() {
		return nil
	}
	if err := s.expire(before); err != nil {
		return err
	}
	_, err = s.look()
	return err
}

// look asks the log's file system for room and notes which watermarks it is at.
func (s *Store) look() (fs.Usage, error) {
	usage, err := s.logFS.Usage()
	if err != nil {
		return usage, fmt.Errorf("store: ask for room: %w", err)
	}
	used := usedPercent(usage)
	s.full.Store(used >= s.cfg.watermarks.Full)
	s.tight.Store(used >= s.cfg.watermarks.Clean)
	return usage, nil
}

// lookAgain is how long after a look the next one is due; false when nothing can
// change without a put.
func (s *Store) lookAgain() (d time.Duration, timed bool) {
	switch {
	case s.full.Load():
		return lookFull, true
	case len(s.log.Segments()) < 2:
		return 0, false
	case s.tight.Load():
		return lookTight, true
	}
	return lookIdle, s.cfg.retention > 0 || s.cfg.retainBytes > 0
}

// wanted reports whether retention would like the sealed segment that ends at
// end to go.
func (s *Store) wanted(end int64, now time.Time, used int, length int64) (bool, error) {
	if used >= s.cfg.watermarks.Force || s.cfg.retainBytes > 0 && length > s.cfg.retainBytes {
		return true, nil
	}
	if s.cfg.retention == 0 || end >= s.log.Visible() {
		return false, nil
	}
	// The first record behind a segment was stored no earlier than its last one.
	var r message.Record
	if err := s.log.RecordAt(end, &r); err != nil {
		return false, err
	}
	return now.Sub(r.StoredAt()) >= s.cfg.retention, nil
}

// usedPercent is the share of the file system in use, rounded up as RocketMQ does.
func usedPercent(u fs.Usage) int {
	if u.Total <= 0 {
		return 0
	}
	return int(((u.Total-u.Free)*100 + u.Total - 1) / u.Total)
}

// expire drops the log below a segment boundary, and what the views hold of it.
//
// The order guards against a crash in between. What waits in the segments is
// carried forward first, durably. Then comes a checkpoint, unless there was one
// behind the segments: no saved mark may lie below the log's start. On a full disk
// it may be impossible, and only what it does not need goes. Then the queues'
// new starts are saved in meta, and only then they move and the log is cut: a queue whose records are all gone would
// otherwise begin again at 0 in a rebuild, and give new messages the offsets of
// old ones.
func (s *Store) expire(before int64) error {
	s.expiring.Lock()
	defer s.expiring.Unlock()
	if s.pins.Load() > 0 {
		return nil // a copy has begun meanwhile
	}
	if _, err := s.timers.Carry(s.ctx, before); err != nil {
		return err
	}
	if _, err := s.halves.Carry(s.ctx, before); err != nil {
		return err
	}
	if err := s.carryDead(s.ctx, before); err != nil {
		return err
	}
	if s.checkpointed.Load() < before {
		if err := s.checkpoint(s.ctx); err != nil {
			if before = s.checkpointed.Load(); before <= s.log.Start() {
				return err
			}
			s.cfg.logger.Warn("retention without a checkpoint", "error", err)
		}
	}
	// RocketMQ cannot rebuild entries whose records are gone: they must be in files.
	if err := s.queues.Flush(); err != nil && !errors.Is(err, ErrDiskFull) && !fs.IsFull(err) {
		return err
	}
	if err := s.topics.saveStarts(s.ctx, before, s.startAt); err != nil {
		return err
	}
	if err := s.queues.Expire(before); err != nil {
		return err
	}
	s.expiredFiles.Store(true)
	s.dirty.Store(true)
	removed, err := s.log.Expire(before)
	if len(removed) > 0 {
		s.stats.expired.Add(int64(len(removed)))
		s.cfg.logger.Info("segments expired", "count", len(removed), "start", s.log.Start())
	}
	if err != nil {
		return err
	}
	for _, v := range s.dispatch.views {
		if e, ok := v.(interface{ Expire(start int64) error }); ok {
			if err := e.Expire(s.log.Start()); err != nil {
				return err
			}
		}
	}
	return nil
}

// guardPosition is the log position of the first record that a live group has
// not settled, or the log's end.
func (s *Store) guardPosition(now time.Time) int64 {
	lowest := s.log.Appended()
	if s.cfg.forceExpiry || plant.Enabled && plant.Is(plant.StoreExpiresUnread) {
		return lowest
	}
	s.topics.all(func(q *queue) {
		offset, guarded := s.progress.Guards(q.name, now)
		if !guarded {
			return
		}
		start, end := q.entries.Bounds()
		offset = max(offset, start)
		if offset >= end {
			return
		}
		position, err := s.positionOf(s.ctx, q, offset)
		if err != nil {
			// Unknown guards everything: losing room is better than losing messages.
			lowest = s.log.Start()
			return
		}
		lowest = min(lowest, position)
	})
	return lowest
}
