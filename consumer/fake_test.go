package consumer_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ consumer.Engine = (*fake)(nil)

// fake is an engine in memory. It holds what a store's log and meta database
// hold, and forgets on crash what a killed store would not have written yet.
type fake struct {
	groups *group.Coordinator

	mu       sync.Mutex
	closed   bool
	queues   map[string]int // of each topic
	logs     map[message.Queue][][]byte
	first    map[message.Queue]int64 // first kept offset
	watches  map[*fakeWatch]bool
	progress map[place]*progress
	journal  []settled // what was settled, in order
	retryMax int
	heir     *fake // the engine after a crash

	// Faults and counts of calls, under mu.
	onRead   func(q message.Queue, from int64) error
	onSettle func(vs []message.Verdict) error
	reads    int
	settles  int
	verdicts map[message.VerdictKind]int
}

type place struct {
	group string
	q     message.Queue
}

// progress is one group's in one queue.
type progress struct {
	known     bool
	committed int64
	settled   map[int64]bool
	attempts  map[int64]int
}

// settled is one entry of the journal. logged says that a record in the log
// decided it, which a crash does not take back.
type settled struct {
	at     place
	v      message.Verdict
	logged bool
}

func newFake(tb testing.TB, topics map[string]int) *fake {
	tb.Helper()
	f := &fake{
		queues: maps.Clone(topics), logs: make(map[message.Queue][][]byte), first: make(map[message.Queue]int64),
		watches: make(map[*fakeWatch]bool), progress: make(map[place]*progress), retryMax: 16,
		verdicts: make(map[message.VerdictKind]int),
	}
	f.start(tb)
	return f
}

func (f *fake) start(tb testing.TB) {
	tb.Helper()
	c, err := group.New(group.Options{Clock: clock.Real{}, Queues: func(topic string) int {
		n, _ := f.QueueCount(topic)
		return n
	}})
	require.NoError(tb, err)
	f.groups = c
}

// close ends the coordinator; every engine call fails from then on.
func (f *fake) close(tb testing.TB) {
	tb.Helper()
	f.mu.Lock()
	f.closed = true
	for w := range f.watches {
		w.end()
	}
	f.mu.Unlock()
	require.NoError(tb, f.groups.Close())
}

// reopen is the engine after a kill of which only so many of the last unlogged
// settles are lost.
func (f *fake) reopen(tb testing.TB, lost int) *fake {
	tb.Helper()
	f.close(tb)
	f.mu.Lock()
	defer f.mu.Unlock()
	n := newFake(tb, f.queues)
	n.logs, n.first, n.retryMax = maps.Clone(f.logs), maps.Clone(f.first), f.retryMax
	f.heir = n
	keep := len(f.journal) - lost
	for i, s := range f.journal {
		if i < keep || s.logged {
			n.journal = append(n.journal, s)
			n.apply(s)
		}
	}
	return n
}

func (f *fake) addTopic(topic string, queues int) {
	f.mu.Lock()
	f.queues[topic] = queues
	f.mu.Unlock()
	f.groups.Refresh(topic)
}

// put appends a message to its queue.
func (f *fake) put(tb testing.TB, m *message.Message) int64 {
	tb.Helper()
	var d message.Draft
	q := message.Queue{Topic: m.Topic, ID: m.QueueID}
	require.NoError(tb, d.Encode(m, q, nil))
	return f.append(q, &d, m.Tag)
}

// putN appends n messages to the topic's queues in turn, with bodies 0 to n-1.
func (f *fake) putN(tb testing.TB, topic string, n int) {
	tb.Helper()
	queues, err := f.QueueCount(topic)
	require.NoError(tb, err)
	for i := range n {
		f.put(tb, &message.Message{Topic: topic, QueueID: int32(i % queues), Body: []byte(strconv.Itoa(i))})
	}
}

func (f *fake) append(q message.Queue, d *message.Draft, tag string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.appendLocked(q, d, tag)
}

func (f *fake) appendLocked(q message.Queue, d *message.Draft, tag string) int64 {
	offset := f.first[q] + int64(len(f.logs[q]))
	d.Stamp(int64(len(f.logs)*1000)+offset, offset, time.Now().UnixMilli())
	f.logs[q] = append(f.logs[q], slices.Clone(d.Bytes()))
	for w := range f.watches {
		w.arrivedLocked(q, tag)
	}
	return offset
}

// expire drops everything below an offset.
func (f *fake) expire(q message.Queue, to int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs[q] = f.logs[q][to-f.first[q]:]
	f.first[q] = to
}

func (f *fake) QueueCount(topic string) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n, ok := f.queues[topic]; ok {
		return n, nil
	}
	return 0, fmt.Errorf("fake: topic %s: %w", topic, message.ErrNotFound)
}

func (f *fake) usableLocked() error {
	if f.closed {
		return fmt.Errorf("fake: %w", message.ErrClosed)
	}
	return nil
}

func (f *fake) Read(ctx context.Context, q message.Queue, from int64, n message.Limit, flt message.Filter) (message.Batch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := message.Batch{Next: from}
	if err := ctx.Err(); err != nil {
		return b, err
	}
	if err := f.usableLocked(); err != nil {
		return b, err
	}
	f.reads++
	start, end := f.boundsLocked(q)
	if from < start || from > end {
		return b, &message.RangeError{Queue: q, Offset: from, Start: start, End: end}
	}
	bytes := 0
	for ; b.Next < end && len(b.Records) < n.Count && (bytes == 0 || n.Bytes == 0 || bytes < n.Bytes); b.Next++ {
		if f.onRead != nil {
			if err := f.onRead(q, b.Next); err != nil {
				if len(b.Records) > 0 {
					err = nil
				}
				return b, err
			}
		}
		r, err := message.ParseRecord(f.logs[q][b.Next-start])
		if err != nil {
			return b, err
		}
		bytes += r.Size()
		if flt == nil || flt.Match(&r) {
			b.Records = append(b.Records, r)
		}
	}
	return b, nil
}

func (f *fake) boundsLocked(q message.Queue) (start, end int64) {
	return f.first[q], f.first[q] + int64(len(f.logs[q]))
}

func (f *fake) Bounds(q message.Queue) (start, end int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	start, end = f.boundsLocked(q)
	return start, end, f.usableLocked()
}

func (f *fake) OffsetAt(q message.Queue, t time.Time, b message.Bound) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	start, end := f.boundsLocked(q)
	for at := start; at < end; at++ {
		r, err := message.ParseRecord(f.logs[q][at-start])
		if err != nil {
			return 0, err
		}
		if b == message.Lower && !r.StoredAt().Before(t) {
			return at, nil
		}
		if b == message.Upper && r.StoredAt().After(t) {
			return max(at-1, start), nil
		}
	}
	return end, nil
}

func (f *fake) Groups() *group.Coordinator { return f.groups }

func (f *fake) standingLocked(at place) *progress {
	p := f.progress[at]
	if p == nil {
		p = &progress{settled: make(map[int64]bool), attempts: make(map[int64]int)}
		f.progress[at] = p
	}
	return p
}

func (f *fake) Standing(_ context.Context, c group.Claim, q message.Queue) (message.Standing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.usableLocked(); err != nil {
		return message.Standing{}, err
	}
	if err := f.groups.Valid(c); err != nil {
		return message.Standing{}, err
	}
	p := f.standingLocked(place{c.Group, q})
	st := message.Standing{Known: p.known, Committed: p.committed, Attempts: maps.Clone(p.attempts)}
	for _, at := range slices.Sorted(maps.Keys(p.settled)) {
		if n := len(st.Settled); n > 0 && st.Settled[n-1].To == at {
			st.Settled[n-1].To++
		} else {
			st.Settled = append(st.Settled, message.Range{From: at, To: at + 1})
		}
	}
	return st, nil
}

// committed is the lowest unsettled offset of a group, -1 for a group that the
// queue does not know.
func (f *fake) committed(groupName string, q message.Queue) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.progress[place{groupName, q}]
	if p == nil || !p.known {
		return -1
	}
	return p.committed
}

func (f *fake) Settle(ctx context.Context, c group.Claim, vs ...message.Verdict) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.usableLocked(); err != nil {
		return err
	}
	f.settles++
	if f.onSettle != nil {
		if err := f.onSettle(vs); err != nil {
			return err
		}
	}
	for _, v := range vs {
		if c.Queue != (message.Queue{}) && c.Queue != v.Queue {
			return fmt.Errorf("fake: a verdict on %v under a claim on %v", v.Queue, c.Queue)
		}
		var err error
		if e := f.groups.Do(c, func() error { err = f.decideLocked(c, v); return nil }); e != nil {
			return e
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// decideLocked carries out one verdict.
func (f *fake) decideLocked(c group.Claim, v message.Verdict) error {
	f.verdicts[v.Kind]++
	at := place{c.Group, v.Queue}
	p := f.standingLocked(at)
	logged := v.Kind == message.Retry || v.Kind == message.DeadLetter
	if logged && (v.Offset < p.committed || p.settled[v.Offset]) {
		return nil // settled already: no second copy
	}
	if logged {
		if err := f.copyLocked(c.Group, v); err != nil {
			return err
		}
	}
	s := settled{at: at, v: v, logged: logged || v.Kind == message.Begin}
	f.journal = append(f.journal, s)
	f.apply(s)
	return nil
}

// apply changes a group's progress.
func (f *fake) apply(s settled) {
	p := f.standingLocked(s.at)
	if s.v.Kind == message.Failed {
		p.attempts[s.v.Offset]++
		return
	}
	if s.v.Kind == message.Begin {
		if !p.known {
			p.known, p.committed = true, s.v.Offset
		}
		return
	}
	p.known = true
	if s.v.Kind == message.DoneThrough {
		p.committed = max(p.committed, s.v.Offset+1)
		maps.DeleteFunc(p.settled, func(at int64, _ bool) bool { return at < p.committed })
		maps.DeleteFunc(p.attempts, func(at int64, _ int) bool { return at < p.committed })
	} else if s.v.Offset >= p.committed {
		p.settled[s.v.Offset] = true
		delete(p.attempts, s.v.Offset)
	}
	for p.settled[p.committed] {
		delete(p.settled, p.committed)
		p.committed++
	}
}

// copyLocked puts a copy of the record into the group's retry topic, later, or
// among its dead letters.
func (f *fake) copyLocked(groupName string, v message.Verdict) error {
	r, err := message.ParseRecord(f.logs[v.Queue][v.Offset-f.first[v.Queue]])
	if err != nil {
		return err
	}
	to := message.Queue{Topic: message.PrefixRetry + groupName}
	env := &message.Envelope{ReconsumeTimes: r.ReconsumeTimes() + 1}
	origin, ok := r.Property(message.PropRetryTopic)
	if !ok {
		origin = r.Topic()
	}
	env.Reserved = append(env.Reserved, message.Property{Name: message.PropRetryTopic, Value: origin})
	if _, ok := r.Property(message.PropOriginID); !ok && r.UniqueID() != "" {
		env.Reserved = append(env.Reserved, message.Property{Name: message.PropOriginID, Value: r.UniqueID()})
	}
	dead := v.Kind == message.DeadLetter || int(r.ReconsumeTimes()) >= f.retryMax
	if dead {
		to.Topic = message.PrefixDead + groupName
		if v.Reason != "" {
			env.Reserved = append(env.Reserved, message.Property{Name: "reason", Value: v.Reason})
		}
	}
	d := new(message.Draft)
	if err := d.EncodeRecord(&r, to, env); err != nil {
		return err
	}
	if dead {
		f.queues[to.Topic] = 1
		f.appendLocked(to, d, "")
		go f.groups.Refresh(to.Topic) // a coordinator is not called back
		return nil
	}
	time.AfterFunc(v.After, func() { f.arrive(to, d) })
	return nil
}

// arrive appends to a topic that may be new.
func (f *fake) arrive(q message.Queue, d *message.Draft) {
	f.mu.Lock()
	heir := f.heir
	f.mu.Unlock()
	if heir != nil { // what waits in a log outlives the process
		heir.arrive(q, d)
		return
	}
	if _, err := f.QueueCount(q.Topic); err != nil {
		f.addTopic(q.Topic, 1)
	}
	f.append(q, d, "")
}

func (f *fake) Lease(context.Context, group.Claim, message.Filter, message.Limit, time.Duration, int) (message.LeaseBatch, error) {
	return message.LeaseBatch{}, message.ErrUnsupported
}

// bodies returns what lies in a topic, queue by queue.
func (f *fake) bodies(topic string) (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range int32(f.queues[topic]) {
		for _, b := range f.logs[message.Queue{Topic: topic, ID: id}] {
			r, err := message.ParseRecord(b)
			if err != nil {
				return []string{err.Error()}
			}
			out = append(out, string(r.Body()))
		}
	}
	return out
}

// fakeWatch is a message.Watch. It is guarded by fake.mu.
type fakeWatch struct {
	f     *fake
	tags  map[message.Queue]message.Filter
	ready []message.Queue
	wake  chan struct{}
	done  chan struct{}
	ended bool
}

func (f *fake) Watch(flt message.Filter, qs ...message.Queue) message.Watch {
	w := &fakeWatch{f: f, tags: make(map[message.Queue]message.Filter), wake: make(chan struct{}, 1), done: make(chan struct{})}
	f.mu.Lock()
	f.watches[w] = true
	f.mu.Unlock()
	w.Add(flt, qs...)
	return w
}

func (w *fakeWatch) markLocked(q message.Queue) {
	if !slices.Contains(w.ready, q) {
		w.ready = append(w.ready, q)
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *fakeWatch) arrivedLocked(q message.Queue, tag string) {
	flt, ok := w.tags[q]
	if !ok {
		return
	}
	if flt == nil || flt.Hashes() == nil || slices.Contains(flt.Hashes(), message.TagHash(tag)) {
		w.markLocked(q)
	}
}

func (w *fakeWatch) Add(flt message.Filter, qs ...message.Queue) {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	for _, q := range qs {
		w.tags[q] = flt
		w.markLocked(q)
	}
}

func (w *fakeWatch) Remove(qs ...message.Queue) {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	for _, q := range qs {
		delete(w.tags, q)
		w.ready = slices.DeleteFunc(w.ready, func(r message.Queue) bool { return r == q })
	}
}

func (w *fakeWatch) Next(ctx context.Context) (message.Queue, error) {
	for {
		w.f.mu.Lock()
		if len(w.ready) > 0 && !w.ended {
			q := w.ready[0]
			w.ready = w.ready[1:]
			w.f.mu.Unlock()
			return q, nil
		}
		w.f.mu.Unlock()
		select {
		case <-w.wake:
		case <-w.done:
			return message.Queue{}, message.ErrClosed
		case <-ctx.Done():
			return message.Queue{}, ctx.Err()
		}
	}
}

// end is Close with fake.mu held.
func (w *fakeWatch) end() {
	if !w.ended {
		w.ended = true
		close(w.done)
	}
}

func (w *fakeWatch) Close() error {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	w.end()
	delete(w.f.watches, w)
	return nil
}

// attempts are the failed deliveries in place that the engine knows.
func (f *fake) attempts(groupName string, q message.Queue, offset int64) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.standingLocked(place{groupName, q}).attempts[offset]
}
