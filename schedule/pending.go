package schedule

import (
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/embermq/embermq/message"
)

// Timer describes a pending timer.
type Timer struct {
	// ID is the handle, empty for a message delayed by level and for a retry.
	ID    message.TimerID
	Topic string // of delivery
	Due   time.Time
	// Position is where the waiting record lies in the log.
	Position int64
}

// Pending yields the pending timers of a topic, or of all if it is empty, that
// are due from from to before to, in due order. A zero time is no bound. Timers
// that are put or that end meanwhile may be yielded or not. An error comes last.
func (t *Timers) Pending(topic string, from, to time.Time) iter.Seq2[Timer, error] {
	return func(yield func(Timer, error) bool) {
		low, high := bound(from, key{}), bound(to, maxKey)
		for low.less(high) {
			page, next, _, err := t.s.page(low, high)
			if err != nil {
				yield(Timer{}, err)
				return
			}
			for i := range page {
				r := &page[i]
				if topic != "" && r.topic != topic {
					continue
				}
				if !yield(t.s.describe(r)) {
					return
				}
			}
			low = next
		}
	}
}

// Waiting tells whether a stored record is one whose message is still to be
// delivered, and when. A record that waited once and was delivered, cancelled,
// carried forward or dropped is not.
func (t *Timers) Waiting(r *message.Record) (due time.Time, ok bool, err error) {
	w, ok := t.s.o.Levels.parse(r)
	if !ok || w.cancels != "" {
		return due, false, nil
	}
	k := key{w.due, r.Position()}
	page, _, _, err := t.s.page(k, k.succ())
	if err != nil || len(page) == 0 {
		return due, false, err
	}
	return time.UnixMilli(w.due), true, nil
}

func bound(t time.Time, open key) key {
	if t.IsZero() {
		return open
	}
	ms, ok := ceilMilli(t)
	if !ok {
		return maxKey
	}
	return key{due: max(0, ms)}
}

func (s *Schedule) describe(r *row) (Timer, error) {
	t := Timer{Topic: r.topic, Due: time.UnixMilli(r.due), Position: r.pos}
	switch {
	case r.flags&flagLevel != 0 || isRetry(r.topic):
	case r.flags&flagHashed == 0:
		t.ID = message.TimerID(r.id.Text())
	default:
		// Only the record itself has an id that is not 32 digits.
		var rec message.Record
		if _, err := s.o.Read(r.pos, int(r.size), nil, &rec); err == nil {
			t.ID = message.TimerID(strings.Clone(rec.UniqueID()))
		}
	}
	return t, nil
}

// pageSize is how many timers a page reads from each of its sources.
const pageSize = 512

// page returns the pending timers from low to before next, which is at most
// high, and the count of saves when it read. Memory is asked first: a timer that
// leaves it meanwhile is on disk.
func (s *Schedule) page(low, high key) (out []row, next key, gen uint64, err error) {
	for {
		s.mu.Lock()
		gen = s.mu.gen
		whole := s.wholeLocked()
		out, next = s.memoryLocked(low, high)
		s.mu.Unlock()
		if whole {
			return out, next, gen, nil
		}
		rows, more, err := s.rows(low, next, pageSize)
		if err != nil {
			return nil, low, gen, err
		}
		if more {
			next = rows[len(rows)-1].succ()
			out = slices.DeleteFunc(out, func(r row) bool { return !r.less(next) })
		}
		known := make(map[key]struct{}, len(out))
		for i := range out {
			known[out[i].key] = struct{}{}
		}
		s.mu.Lock()
		if s.mu.gen != gen {
			s.mu.Unlock()
			continue
		}
		for _, r := range rows {
			if _, ok := known[r.key]; !ok && !s.isDeadLocked(r.key) && r.pos >= s.topicLocked(r.topic).floor {
				r.disk = true
				out = append(out, r)
			}
		}
		s.mu.Unlock()
		slices.SortFunc(out, compareRows)
		return out, next, gen, nil
	}
}

func compareRows(a, b row) int {
	switch {
	case a.less(b.key):
		return -1
	case b.less(a.key):
		return 1
	}
	return 0
}

// memoryLocked is page for the timers in memory.
func (s *Schedule) memoryLocked(low, high key) (out []row, next key) {
	next = high
	add := func(t *timer) {
		if t.alive() {
			out = append(out, row{key: t.key, id: t.id, size: t.size, flags: t.flags, topic: t.topic.name})
		}
	}
	for _, tr := range []*tree{s.mu.back.tree, s.mu.live.tree, s.farLocked()} {
		n := 0
		tr.AscendRange(item{key: low}, item{key: next}, func(it item) bool {
			if n == pageSize {
				next = it.key
				return false
			}
			n++
			add(it.t)
			return true
		})
	}
	for k, b := range s.mu.busy {
		if !k.less(low) && k.less(next) {
			add(b.t)
		}
	}
	out = slices.DeleteFunc(out, func(r row) bool { return !r.less(next) })
	slices.SortFunc(out, compareRows)
	return out, next
}
