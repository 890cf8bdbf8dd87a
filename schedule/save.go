package schedule

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// frozen is what one save writes. Its timers may end meanwhile; their rows are
// then removed by the next one.
type frozen struct {
	fresh   []*timer
	dead    map[key]ident
	topics  []topicRow
	buckets []bucket
	mark    markRow
	done    bool // it is on disk; guarded by Schedule.mu
}

// Freeze takes what changed up to m and returns the function that saves it. One
// save runs at a time. A freeze whose save failed, or never ran, is part of the
// next one.
func (s *Schedule) Freeze(m message.Mark) func() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restoreLocked()
	f := &frozen{fresh: s.mu.fresh, dead: s.mu.dead, buckets: make([]bucket, 0, len(s.mu.dirtyBuckets))}
	f.mark = markRow{mark: m, base: s.base, floor: s.floorLocked()}
	for _, t := range s.mu.dirtyTopics {
		f.topics = append(f.topics, topicRow{t.name, t.count, t.floor})
		t.dirty = false
	}
	for _, b := range s.mu.dirtyBuckets {
		b.dirty = false
		f.buckets = append(f.buckets, *b)
		if b.count == 0 {
			delete(s.mu.buckets, b.n)
		}
	}
	s.mu.dirtyTopics, s.mu.dirtyBuckets, s.mu.lastBucket = s.mu.dirtyTopics[:0], s.mu.dirtyBuckets[:0], nil
	s.mu.fresh, s.mu.dead = nil, make(map[key]ident)
	s.mu.epoch++
	s.mu.frozen = f
	s.wantSave.Store(false)
	s.roomLocked()
	return func() error { return s.save(f) }
}

// restoreLocked takes back a freeze that is not on disk. Parts of it may be.
func (s *Schedule) restoreLocked() {
	f := s.mu.frozen
	if f == nil || f.done {
		return
	}
	s.mu.frozen = nil
	for _, t := range f.fresh {
		if t.place != nowhere {
			t.marks |= markMaybe
			s.freshLocked(t)
		}
	}
	for k, i := range f.dead {
		s.mu.dead[k] = i
	}
	for _, r := range f.topics {
		s.dirtyLocked(s.mu.topics[r.name])
	}
	for _, b := range f.buckets {
		s.bucketLocked(b.n<<bucketShift, 0) // makes it dirty
	}
}

var errSuperseded = errors.New("schedule: save: a later freeze has taken this one back")

// save writes a freeze. A small one is one batch. A larger one goes in several,
// of which the last has the mark; before the first it is noted how far they will
// reach. Rows that a crash leaves in front of the mark do no harm: the replay
// finds their records again, and knows that rows of records below that note may
// exist.
func (s *Schedule) save(f *frozen) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	current, broken := s.mu.frozen == f, s.mu.broken
	s.mu.Unlock()
	if !current {
		return errSuperseded
	}
	if broken != nil {
		return s.unmark()
	}
	if err := s.write(f); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.restoreLocked()
		s.roomLocked()
		return fmt.Errorf("schedule: save: %w", err)
	}
	s.mu.Lock()
	f.done = true
	s.mu.gen++
	s.mu.saved, s.mu.isNew = f.mark.mark, false
	f.dead = nil
	s.mu.Unlock()
	s.settle(f)
	return nil
}

// unmark takes the mark away when rows cannot be read, so that the next Open
// rebuilds the view. Changes stay in memory meanwhile.
func (s *Schedule) unmark() error {
	s.mu.Lock()
	isNew := s.mu.isNew
	s.mu.isNew = true
	s.mu.Unlock()
	if isNew {
		return nil
	}
	b := new(kv.Batch)
	b.Delete([]byte(keyMark))
	return s.db.Apply(context.Background(), b, true)
}

// settle lets go of what need not be in memory any more. It holds the lock for
// moments only.
func (s *Schedule) settle(f *frozen) {
	const step = 256
	for from := 0; from < len(f.fresh); from += step {
		s.mu.Lock()
		for _, t := range f.fresh[from:min(from+step, len(f.fresh))] {
			if t.place == nowhere {
				continue
			}
			t.marks |= markStored
			if t.place == inFar {
				s.liftLocked(t)
				s.forgetLocked(t)
			}
		}
		s.mu.newFar.skip()
		s.mu.unnamed.skip()
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.frozen == f {
		s.mu.frozen = nil
	}
}

// write puts the freeze on disk. Removals come first: an id may end one timer and
// begin another.
func (s *Schedule) write(f *frozen) error {
	b, parts := new(kv.Batch), 0
	var kb, vb []byte
	full := func() error {
		if b.Size() < s.o.saveBytes {
			return nil
		}
		if parts == 0 {
			b2 := new(kv.Batch)
			b2.Set([]byte(keyAhead), binary.BigEndian.AppendUint64(nil, uint64(f.mark.mark.Offset)))
			if err := s.db.Apply(context.Background(), b2, false); err != nil {
				return err
			}
		}
		parts++
		err := s.db.Apply(context.Background(), b, false)
		b.Reset()
		return err
	}
	for k, i := range f.dead {
		if !(plant.Enabled && plant.Is(plant.TimerKeepsRow)) {
			kb = timerKey(kb[:0], k)
			b.Delete(kb)
		}
		if i != (ident{}) {
			kb = idKey(kb[:0], i, k)
			b.Delete(kb)
		}
		if err := full(); err != nil {
			return err
		}
	}
	for _, t := range f.byKey() {
		kb, vb = timerKey(kb[:0], t.key), appendTimer(vb[:0], t)
		b.Set(kb, vb)
		if err := full(); err != nil {
			return err
		}
	}
	for _, t := range f.fresh {
		if t.id != (ident{}) {
			kb = idKey(kb[:0], t.id, t.key)
			b.Set(kb, nil)
		}
		if err := full(); err != nil {
			return err
		}
	}
	for i := range f.topics {
		r := &f.topics[i]
		kb = append(append(kb[:0], prefixTopic...), r.name...)
		if r.count == 0 && r.floor == 0 {
			b.Delete(kb)
		} else {
			vb = r.append(vb[:0])
			b.Set(kb, vb)
		}
	}
	for _, n := range f.buckets {
		kb = binary.BigEndian.AppendUint64(append(kb[:0], prefixBucket...), uint64(n.n))
		if n.count == 0 {
			b.Delete(kb)
		} else {
			vb = binary.BigEndian.AppendUint64(append(vb[:0], rowVersion), uint64(n.count))
			b.Set(kb, vb)
		}
	}
	b.Set([]byte(keyMark), f.mark.append(vb[:0]))
	b.Delete([]byte(keyAhead))
	return s.db.Apply(context.Background(), b, true)
}

// byKey is the new timers in the order of their keys. Rows go to Pebble in order,
// those of ids, which grow along the log anyway, behind those of timers: then the
// tables that it makes of them hardly overlap, and few rows are merged again.
func (f *frozen) byKey() []*timer {
	ts := slices.Clone(f.fresh)
	slices.SortFunc(ts, func(a, b *timer) int {
		if c := cmp.Compare(a.due, b.due); c != 0 {
			return c
		}
		return cmp.Compare(a.pos, b.pos)
	})
	return ts
}

// Reset forgets everything, on disk too. A replay from the log's start follows.
func (s *Schedule) Reset() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	b := new(kv.Batch)
	b.DeleteRange([]byte(prefixAll), end(prefixAll))
	if err := s.db.Apply(context.Background(), b, true); err != nil {
		return fmt.Errorf("schedule: reset: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clearLocked()
	return nil
}
