package schedule

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/embermq/embermq/internal/plant"
)

// loadState reads everything but the timers themselves. State that cannot be
// read is no state: the view is then rebuilt.
func (s *Schedule) loadState() error {
	m := &s.mu
	var mark markRow
	found := false
	var bad error
	read := func(from string, to []byte, f func(k, v []byte) error) error {
		for r, err := range s.db.Scan([]byte(from), to) {
			if err != nil {
				return fmt.Errorf("schedule: load: %w", err)
			}
			if err := f(r.Key, r.Value); err != nil {
				bad = err
				return nil
			}
		}
		return nil
	}
	if err := read(keyMark, []byte(keyMark+"\x00"), func(k, v []byte) (err error) {
		found = true
		mark, err = parseMark(k, v)
		return err
	}); err != nil {
		return err
	}
	if err := read(keyAhead, []byte(keyAhead+"\x00"), func(k, v []byte) error {
		if len(v) != 8 {
			return damage(k, "bad length")
		}
		s.ahead = int64(binary.BigEndian.Uint64(v))
		return nil
	}); err != nil {
		return err
	}
	if err := read(prefixTopic, end(prefixTopic), func(k, v []byte) error {
		r, err := parseTopic(k, v)
		if err == nil {
			t := s.topicLocked(r.name)
			t.count, t.floor = r.count, r.floor
			s.pending.Add(r.count)
		}
		return err
	}); err != nil {
		return err
	}
	if err := read(prefixBucket, end(prefixBucket), func(k, v []byte) error {
		b, n, err := parseBucket(k, v)
		m.buckets[b] = &bucket{n: b, count: n}
		return err
	}); err != nil {
		return err
	}
	if bad != nil || !found {
		if bad != nil {
			s.o.Logger.Error("saved timers cannot be read; they are rebuilt", "error", bad)
		}
		s.clearLocked()
		return nil
	}
	m.saved, m.isNew, s.base = mark.mark, false, mark.base
	m.live.end = mark.floor
	return nil
}

// loadChunk is how many rows are read at a time.
func (s *Schedule) loadChunk() int { return min(2048, max(1, s.o.Near/4)) }

// shortLocked says that a lane has more timers on disk and should be filled.
func (s *Schedule) shortLocked(l *lane) bool {
	limit := maxKey
	if l == &s.mu.back {
		limit = s.mu.split
	}
	return l.end.less(limit) && l.tree.Len() <= s.o.Near/4
}

// fill loads both lanes as far as they are short. worked says that it did
// something, so that the driver does not sleep on a lane that is half full.
func (s *Schedule) fill(ctx context.Context, all bool) (worked bool, err error) {
	for _, l := range []*lane{&s.mu.back, &s.mu.live} {
		for ctx.Err() == nil {
			s.mu.Lock()
			short := s.shortLocked(l)
			s.mu.Unlock()
			if !short {
				break
			}
			worked = true
			if err := s.load(l); err != nil {
				return true, err
			}
			if !all {
				break
			}
		}
	}
	return worked, ctx.Err()
}

// load reads the next rows behind a lane's end. The disk is read without the
// lock; if a save came between, or the lane has moved, the caller tries again.
func (s *Schedule) load(l *lane) error {
	s.mu.Lock()
	from, limit, gen := l.end, maxKey, s.mu.gen
	if l == &s.mu.back {
		limit = s.mu.split
	}
	split := s.mu.split
	s.mu.Unlock()
	rows, more, err := s.rows(from, limit, s.loadChunk())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.gen != gen || l.end != from || s.mu.split != split {
		return nil
	}
	to := limit
	if more {
		to = rows[len(rows)-1].succ()
	}
	to = s.takeFarLocked(l, from, to)
	for i := range rows {
		if !rows[i].less(to) {
			break
		}
		s.takeRowLocked(l, &rows[i])
	}
	s.trimLocked(l)
	return nil
}

// takeFarLocked moves the lane's end to at most to, and timers that are not
// saved yet out of far behind it.
func (s *Schedule) takeFarLocked(l *lane, from, to key) key {
	var far []*timer
	s.farLocked().AscendRange(item{key: from}, item{key: to}, func(it item) bool {
		if len(far) == s.loadChunk() {
			to = it.key
			return false
		}
		far = append(far, it.t)
		return true
	})
	l.end = to
	for _, t := range far {
		s.mu.far.Delete(item{key: t.key})
		t.place = inTree
		l.tree.ReplaceOrInsert(item{t.key, t})
	}
	return to
}

func (s *Schedule) takeRowLocked(l *lane, r *row) {
	if s.isDeadLocked(r.key) && !(plant.Enabled && plant.Is(plant.TimerLoadsDead)) {
		return
	}
	if s.findLocked(r.key) != nil {
		return
	}
	tp := s.topicLocked(r.topic)
	if r.pos < tp.floor {
		s.buryLocked(r.key, r.id)
		s.countLocked(tp, r.pos, -1)
		return
	}
	t := s.timerOf(r, tp)
	s.knowLocked(t)
	t.place = inTree
	l.tree.ReplaceOrInsert(item{t.key, t})
}

func (s *Schedule) timerOf(r *row, tp *topic) *timer {
	return &timer{key: r.key, id: r.id, topic: tp, size: r.size, flags: r.flags, marks: markStored}
}

// rows reads at most n timer rows of [from, to); more says that there are
// others.
func (s *Schedule) rows(from, to key, n int) (rows []row, more bool, err error) {
	var kf, kt [40]byte
	topic := ""
	for kv, err := range s.db.Scan(timerKey(kf[:0], from), timerKey(kt[:0], to)) {
		if err != nil {
			return nil, false, fmt.Errorf("schedule: load: %w", err)
		}
		if len(rows) == n {
			return rows, true, nil
		}
		r, err := parseTimer(kv.Key, kv.Value, topic)
		if err != nil {
			s.brokenRow(err)
			continue
		}
		topic = r.topic
		rows = append(rows, r)
	}
	return rows, false, nil
}

// brokenRow notes a row that cannot be read: it is not fired now, and the next
// Open rebuilds the view from the log.
func (s *Schedule) brokenRow(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.broken == nil {
		s.mu.broken = err
		s.o.Logger.Error("a timer cannot be read; timers are rebuilt at the next open", "error", err)
	}
}

// lookup finds the rows of an id.
func (s *Schedule) lookup(i ident) ([]row, error) {
	var keys []key
	for kv, err := range s.db.Scan(idKey(nil, i, key{}), idKey(nil, i, maxKey)) {
		if err != nil {
			return nil, fmt.Errorf("schedule: look up id: %w", err)
		}
		if _, k, ok := parseID(kv.Key); ok {
			keys = append(keys, k)
		}
	}
	var found []row
	for _, k := range keys {
		rows, _, err := s.rows(k, k.succ(), 1)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r.id == i {
				found = append(found, r)
			}
		}
	}
	return found, nil
}
