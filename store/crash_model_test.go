package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// model is what a store must hold. It knows every record that was given to the
// log, in order, and for the rest the states that a crash may leave.
type model struct {
	mu sync.Mutex

	items []item
	// safe counts the items that nothing may take away, kept those that no kill
	// may. Invariant: safe ≤ kept ≤ len(items).
	safe, kept     int
	groups, serial int

	// The log's start may be anything from the first to the second.
	start, mayStart int64
	// mayQueue is the log position up to which queues may have lost entries:
	// retention moves their starts first, and then a crash may spare the log.
	mayQueue int64

	topics  map[string][]*store.Topic // what a topic may be; nil means absent
	offsets map[groupQueue][]int64    // what a committed offset may be; -1 means none
	made    map[string]bool           // groups that must be there
	onDisk  bool
}

type groupQueue struct {
	group string
	q     message.Queue
}

// item is one record.
type item struct {
	q       message.Queue
	text    string
	tag     string
	size    int    // of the body: the text and a filling that follows from it
	deletes string // the topic that the record deletes
	group   int
	pos     int64 // -1 until it is known
	// before is what the topic could be if the deletion is lost.
	before []*store.Topic
}

func newModel(onDisk bool) *model {
	return &model{topics: map[string][]*store.Topic{}, offsets: map[groupQueue][]int64{}, made: map[string]bool{}, onDisk: onDisk}
}

// clone copies the model as it is at this moment.
func (m *model) clone() *model {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := newModel(m.onDisk)
	c.items = slices.Clone(m.items)
	c.safe, c.kept, c.groups, c.serial = m.safe, m.kept, m.groups, m.serial
	c.start, c.mayStart, c.mayQueue = m.start, m.mayStart, m.mayQueue
	for k, v := range m.topics {
		c.topics[k] = slices.Clone(v)
	}
	for k, v := range m.offsets {
		c.offsets[k] = slices.Clone(v)
	}
	c.made = maps.Clone(m.made)
	return c
}

func (m *model) do(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// body is an item's body.
func (it *item) body() []byte {
	b := []byte(it.text)
	for len(b) < it.size {
		b = append(b, it.text[len(it.text)-1])
	}
	return b
}

// contents is what a queue must hold.
type contents struct {
	start int64
	items []int // indexes
}

func (c contents) end() int64 { return c.start + int64(len(c.items)) }

// expected replays the first n items; those below expired are gone.
func (m *model) expected(n, expired int) map[message.Queue]contents {
	all := map[message.Queue]contents{}
	for i := range m.items[:n] {
		it := &m.items[i]
		c := all[it.q]
		if i < expired {
			c.start++
		} else {
			c.items = append(c.items, i)
		}
		all[it.q] = c
		if it.deletes != "" {
			for q, c := range all {
				if q.Topic == it.deletes {
					all[q] = contents{start: c.end()}
				}
			}
		}
	}
	return all
}

// expired counts the items in front of position start.
func (m *model) expired(start int64) int {
	for i := len(m.items) - 1; i >= 0; i-- {
		if p := m.items[i].pos; p >= 0 && p < start {
			return i + 1
		}
	}
	return 0
}

// before counts the items in front of item i that are in its queue.
func (m *model) before(i int) (n int64) {
	for k := range m.items[:i] {
		if m.items[k].q == m.items[i].q {
			n++
		}
	}
	return n
}

// visible counts the items in front of position end.
func (m *model) visible(end int64) int { return m.expired(end) }

// wrong is a claim that does not hold, as opposed to a call that failed.
type wrong struct{ text string }

func (w *wrong) Error() string { return w.text }

func wrongf(format string, args ...any) error { return &wrong{fmt.Sprintf(format, args...)} }

// settle compares a store that was just opened with the model, and makes the
// model what the store shows: what was served once must stay. need is how many
// items must be there.
func (m *model) settle(s *store.Store, need int, l *law) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.matchLog(s, need, l)
	if err != nil {
		return err
	}
	if err := m.matchTopics(s, n); err != nil {
		return err
	}
	if err := m.matchQueues(s, n); err != nil {
		return err
	}
	if err := m.matchGroups(s); err != nil {
		return err
	}
	// What was lost of the queues' files is no damage once it is rebuilt.
	for _, q := range s.Queues().All() {
		if err := q.Ready(ctx); err != nil {
			return err
		}
	}
	rep, err := s.Check(ctx)
	if err != nil {
		return err
	}
	if !rep.OK() {
		return wrongf("check: %v", rep.Damages)
	}
	if c := s.Stats().Recovery.Clamped; c > 0 {
		return wrongf("%d offsets were behind their queue's end", c)
	}
	m.items = m.items[:n]
	m.safe, m.kept = n, n
	return nil
}

var ctx = context.Background()

// matchLog demands that the log holds a prefix of the items, whole groups only.
func (m *model) matchLog(s *store.Store, need int, l *law) (n int, err error) {
	log := s.Log()
	start := log.Start()
	if start < m.start || start > max(m.start, m.mayStart) {
		return 0, wrongf("the log starts at %d and not in %d..%d", start, m.start, m.mayStart)
	}
	m.mayQueue = max(m.mayQueue, m.mayStart)
	m.start, m.mayStart = start, start
	expired := m.expired(start)
	n = expired
	ends := map[message.Queue]int64{}
	for i := range m.items[:expired] {
		ends[m.items[i].q]++
	}
	_, err = log.Scan(start, log.Visible(), func(r *message.Record) error {
		if n >= len(m.items) {
			return wrongf("record %d of %s was never put: %.60q", n, r.Queue(), r.Body())
		}
		it := &m.items[n]
		if r.Queue() != it.q || string(r.Body()) != string(it.body()) || r.Tag() != it.tag {
			return wrongf("record %d is %.40q of %s and not %q of %s", n, r.Body(), r.Queue(), it.text, it.q)
		}
		if r.Offset() != ends[it.q] {
			return wrongf("record %d, %q of %s, has queue offset %d and not %d", n, it.text, it.q, r.Offset(), ends[it.q])
		}
		ends[it.q]++
		it.pos = r.Position()
		l.place(it.q, r.Offset(), r.Position(), int64(r.Size()))
		n++
		return nil
	})
	switch {
	case err != nil:
		return 0, err
	case n < need:
		return 0, wrongf("%d of %d records that must be there are there: %+v", n, need, s.Stats().Recovery)
	case n < len(m.items) && n > 0 && m.items[n-1].group == m.items[n].group:
		return 0, wrongf("half of group %d is there: %d records", m.items[n].group, n)
	}
	return n, nil
}

func (m *model) matchTopics(s *store.Store, n int) error {
	have := map[string]*store.Topic{}
	for _, t := range s.Topics() {
		have[t.Name] = &t
	}
	for name := range have {
		if m.topics[name] == nil {
			return wrongf("topic %s was never made", name)
		}
	}
	lastDelete, lastPut := map[string]int{}, map[string]int{}
	for i := range m.items {
		it := &m.items[i]
		if i < n {
			lastPut[it.q.Topic] = i
			if it.deletes != "" {
				lastDelete[it.deletes] = i
			}
		} else if it.deletes != "" {
			m.topics[it.deletes] = it.before // that was lost
		}
	}
	for name, may := range m.topics {
		t := have[name]
		if !slices.ContainsFunc(may, func(c *store.Topic) bool { return t == nil && c == nil || t != nil && c != nil && *t == *c }) {
			return wrongf("topic %s is %v and none of %s", name, t, topicList(may))
		}
		d, deleted := lastDelete[name]
		p, put := lastPut[name]
		if put && (!deleted || p > d) && t == nil {
			return wrongf("topic %s has records and is absent", name)
		}
		m.topics[name] = []*store.Topic{t}
	}
	return nil
}

func topicList(ts []*store.Topic) string {
	var b strings.Builder
	for _, t := range ts {
		fmt.Fprintf(&b, "%v ", t)
	}
	return b.String()
}

// matchQueues reads every queue of every topic.
func (m *model) matchQueues(s *store.Store, n int) error {
	want := m.wanted(n)
	for _, t := range s.Topics() {
		for id := range t.ReadQueues {
			q := message.Queue{Topic: t.Name, ID: int32(id)}
			if err := m.matchQueue(s, q, want); err != nil {
				return err
			}
		}
		// Those that are neither read nor written at present go on where they were.
		for _, q := range s.QueuesOf(t.Name) {
			if _, end := s.BoundsOf(q); end != want[0][q].end() {
				return wrongf("queue %s, which is not read, ends at %d and not %d", q, end, want[0][q].end())
			}
		}
	}
	return nil
}

// wanted is what the first n items make, with as little and as much of them
// expired as may be.
func (m *model) wanted(n int) [2]map[message.Queue]contents {
	return [2]map[message.Queue]contents{
		m.expected(n, min(n, m.expired(m.start))),
		m.expected(n, min(n, m.expired(max(m.start, m.mayQueue)))),
	}
}

func (m *model) matchQueue(s *store.Store, q message.Queue, both [2]map[message.Queue]contents) error {
	// The start of a queue whose files are lost is known when it is rebuilt.
	if entries, ok := s.Queues().Lookup(q); ok {
		if err := entries.Ready(ctx); err != nil {
			return err
		}
	}
	start, end, err := s.Bounds(q)
	if err != nil {
		return err
	}
	want, high := both[0][q], both[1][q].start
	if start < want.start || start > high || end != want.end() {
		return wrongf("queue %s holds %d..%d and not %d..%d (or from %d on)", q, start, end, want.start, want.end(), high)
	}
	for at := start; at < end; {
		b, err := s.Read(ctx, q, at, message.Limit{Count: 64}, nil)
		if err != nil {
			return err
		}
		for i := range b.Records {
			r := &b.Records[i]
			if at+int64(i) >= end {
				return wrongf("queue %s: too many records", q)
			}
			it := &m.items[want.items[at-want.start+int64(i)]]
			if r.Offset() != at+int64(i) || string(r.Body()) != string(it.body()) {
				return wrongf("queue %s at %d: record %d, %.40q, and not %q", q, at+int64(i), r.Offset(), r.Body(), it.text)
			}
		}
		if len(b.Records) == 0 || b.Next != at+int64(len(b.Records)) {
			return wrongf("queue %s at %d of %d: %d records, next %d", q, at, end, len(b.Records), b.Next)
		}
		at = b.Next
	}
	return nil
}

// matchGroups compares committed offsets with what they may be.
func (m *model) matchGroups(s *store.Store) error {
	have := map[string]bool{}
	for _, g := range s.Progress().Groups() {
		have[g.Name] = true
		for q, offset := range s.Progress().Offsets(g.Name) {
			if m.offsets[groupQueue{g.Name, q}] == nil {
				return wrongf("group %s has offset %d of %s that it never committed", g.Name, offset, q)
			}
		}
	}
	for g := range m.made {
		if !have[g] {
			return wrongf("group %s is gone", g)
		}
	}
	for gq, may := range m.offsets {
		offset, ok := s.Progress().Offsets(gq.group)[gq.q]
		if !ok {
			offset = -1
		}
		if !slices.Contains(may, offset) {
			return wrongf("group %s has offset %d of %s and none of %v", gq.group, offset, gq.q, may)
		}
		if _, end, err := s.Bounds(gq.q); err == nil && offset > end {
			return wrongf("group %s has offset %d of %s, which ends at %d", gq.group, offset, gq.q, end)
		} else if t := m.topics[gq.q.Topic]; len(t) == 1 && t[0] == nil && ok {
			return wrongf("group %s has offset %d of %s, which was deleted", gq.group, offset, gq.q)
		} else if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		m.offsets[gq] = []int64{offset}
	}
	return nil
}

// flushed says that all offsets are on disk as they are now.
func (m *model) flushed() {
	for gq, may := range m.offsets {
		m.offsets[gq] = may[len(may)-1:]
	}
}
