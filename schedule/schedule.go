package schedule

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/embermq/embermq/message"
)

// Schedule knows what is due when and fires it.
type Schedule struct {
	db DB
	o  Options

	// base is where the history that this view knows begins: the position of the
	// first record that was ever applied. ahead is the mark of a save that was
	// cut off half way: rows of records below it may exist. Both belong to the
	// one goroutine at a time that calls Apply, Freeze and Reset.
	base, ahead int64

	saving sync.Mutex // held by a save; taken before mu

	pending  atomic.Int64 // timers that are pending, in memory or not
	memory   atomic.Int64 // those in memory
	wantSave atomic.Bool
	crowded  atomic.Bool // see Crowded
	counts   counts

	background context.Context
	stop       context.CancelFunc
	work       sync.WaitGroup // the driver, and calls whose caller has left
	wake       chan struct{}
	driver     driver

	mu struct {
		sync.Mutex
		closed, started bool

		// The two lanes. Overdue timers, with keys below split, are in back, all
		// others in live, so that neither waits for the other.
		// Invariant: every pending timer with a key below its lane's end is in
		// that lane's tree, or busy. All others are in far, listed in newFar, or
		// only on disk.
		back, live lane
		split      key
		far        *tree
		newFar     newcomers
		busy       map[key]busy
		parked     []parked
		ids        map[ident]*timer // timers in memory that have an id
		unnamed    newcomers        // those that are not yet there

		topics  map[string]*topic
		buckets map[int64]*bucket // by position>>bucketShift
		// lastBucket is one of buckets, or nil.
		lastBucket *bucket

		// Changes that no freeze took.
		epoch        uint32
		fresh        []*timer
		dead         map[key]ident // rows to remove
		dirtyTopics  []*topic
		dirtyBuckets []*bucket
		frozen       *frozen
		// gen counts the saves that reached the disk. Whoever reads rows without
		// mu compares it before and after: a timer may leave memory only when it
		// has changed.
		gen   uint64
		room  chan struct{} // closed when crowded ends; nil when nobody waits
		saved message.Mark
		isNew bool // nothing usable was saved

		outcomes   outcomes
		unresolved []foreign
		sleeping   int64 // the driver sleeps until then; a nearer timer wakes it
		broken     error // a row that cannot be read was met
	}
}

// bucketShift makes buckets of 64 MiB of the log.
const bucketShift = 26

// lane is the near part of a range of keys.
type lane struct {
	tree *tree
	end  key
}

// busy is a timer that an append decides about.
type busy struct {
	t  *timer
	op *op
}

// op is one append, or a parking place.
type op struct {
	kind opKind
	done chan struct{} // closed when the append has returned
}

type opKind uint8

const (
	opFire opKind = iota + 1
	opEnd         // cancel or reschedule
	opCarry
	opPark
)

func newOp(k opKind) *op { return &op{kind: k, done: make(chan struct{})} }

type parked struct {
	t  *timer
	op *op
	at time.Time // when it is tried again
}

// New reads what was saved. Nothing is written. If Saved reports false, Reset
// and a replay from the log's start follow, otherwise a replay from the mark;
// then Start.
func New(db DB, o Options) (*Schedule, error) {
	if err := o.normalise(); err != nil {
		return nil, err
	}
	s := &Schedule{db: db, o: o, wake: make(chan struct{}, 1)}
	s.driver.step = make(chan struct{}, 1)
	s.background, s.stop = context.WithCancel(context.Background())
	s.clearLocked()
	if err := s.loadState(); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// clearLocked makes the empty state.
func (s *Schedule) clearLocked() {
	m := &s.mu
	m.back, m.live = lane{tree: newTree()}, lane{tree: newTree(), end: maxKey}
	m.split, m.far = key{}, newTree()
	m.newFar = newcomers{mark: markFar, wants: func(t *timer) bool { return t.place == inFar }}
	m.busy, m.parked = make(map[key]busy), nil
	m.ids = make(map[ident]*timer)
	m.unnamed = newcomers{mark: markUnnamed, wants: func(t *timer) bool { return t.place != nowhere }}
	m.topics = make(map[string]*topic)
	m.buckets, m.lastBucket = make(map[int64]*bucket), nil
	m.epoch++
	m.fresh, m.dead = nil, make(map[key]ident)
	m.dirtyTopics, m.dirtyBuckets = nil, nil
	m.frozen, m.gen = nil, m.gen+1
	m.saved, m.isNew = message.Mark{}, true
	m.outcomes = newOutcomes(s.o.Remember)
	m.unresolved, m.broken = nil, nil
	m.sleeping = never
	s.base, s.ahead = -1, 0
	s.roomLocked()
	s.pending.Store(0)
	s.memory.Store(0)
}

// Name is the view's name.
func (s *Schedule) Name() string { return "timers" }

// Saved is the mark of the last save, false if there is nothing usable.
func (s *Schedule) Saved() (message.Mark, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.saved, !s.mu.isNew
}

// Close ends the driver and waits for appends under way. It saves nothing: the
// store's last checkpoint follows. Calls afterwards return message.ErrClosed.
func (s *Schedule) Close() error {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.stop()
	s.work.Wait()
	return nil
}

// topicLocked finds or makes the state of a topic. The name may be lent.
func (s *Schedule) topicLocked(name string) *topic {
	if t := s.mu.topics[name]; t != nil {
		return t
	}
	t := &topic{name: strings.Clone(name)}
	s.mu.topics[t.name] = t
	return t
}

// countLocked moves the counts that are saved.
func (s *Schedule) countLocked(t *topic, pos, by int64) {
	if pos >= t.floor && t.count+by >= 0 { // only a forged record could bring it below
		t.count += by
		s.pending.Add(by)
		s.dirtyLocked(t)
	}
	s.bucketLocked(pos, by)
}

func (s *Schedule) dirtyLocked(t *topic) {
	if !t.dirty {
		t.dirty = true
		s.mu.dirtyTopics = append(s.mu.dirtyTopics, t)
	}
}

// bucketLocked counts a timer by position. Most are in the bucket of the one
// before.
func (s *Schedule) bucketLocked(pos, by int64) {
	n := pos >> bucketShift
	b := s.mu.lastBucket
	if b == nil || b.n != n {
		if b = s.mu.buckets[n]; b == nil {
			b = &bucket{n: n}
			s.mu.buckets[n] = b
		}
		s.mu.lastBucket = b
	}
	b.count = max(0, b.count+by)
	s.dirtyBucketLocked(b)
}

func (s *Schedule) dirtyBucketLocked(b *bucket) {
	if !b.dirty {
		b.dirty = true
		s.mu.dirtyBuckets = append(s.mu.dirtyBuckets, b)
	}
}

// bucket counts the pending timers whose records lie in one stretch of the log.
// Timers of deleted topics count until somebody meets them.
type bucket struct {
	n, count int64
	dirty    bool
}

// findLocked returns the timer if it is in memory.
func (s *Schedule) findLocked(k key) *timer {
	if b, ok := s.mu.busy[k]; ok {
		return b.t
	}
	if it, ok := s.laneLocked(k).tree.Get(item{key: k}); ok {
		return it.t
	}
	if it, ok := s.farLocked().Get(item{key: k}); ok {
		return it.t
	}
	return nil
}

// farLocked is the far tree with everything in it.
func (s *Schedule) farLocked() *tree {
	s.mu.newFar.take(func(t *timer) { s.mu.far.ReplaceOrInsert(item{t.key, t}) })
	return s.mu.far
}

// idsLocked is the map of ids with everything in it.
func (s *Schedule) idsLocked() map[ident]*timer {
	s.mu.unnamed.take(func(t *timer) {
		t.next = s.mu.ids[t.id]
		s.mu.ids[t.id] = t
		t.marks |= markNamed
	})
	return s.mu.ids
}

// knowLocked brings a timer into memory. It gets its place before anybody is asked
// for its id.
func (s *Schedule) knowLocked(t *timer) {
	s.memory.Add(1)
	if t.id != (ident{}) {
		s.mu.unnamed.add(t)
	}
}

// forgetLocked takes a timer, which is in no structure any more, out of memory.
func (s *Schedule) forgetLocked(t *timer) {
	t.place = nowhere
	s.memory.Add(-1)
	if t.marks&markNamed == 0 {
		return
	}
	t.marks &^= markNamed
	switch first := s.mu.ids[t.id]; {
	case first == t && t.next == nil:
		delete(s.mu.ids, t.id)
	case first == t:
		s.mu.ids[t.id] = t.next
	default:
		for ; first != nil; first = first.next {
			if first.next == t {
				first.next = t.next
				break
			}
		}
	}
	t.next = nil
}

// isFresh says that the timer waits for the next freeze.
func (s *Schedule) isFresh(t *timer) bool { return !t.stored() && t.epoch == s.mu.epoch }

// mayHaveRow says that a row of the timer is or may be on disk, now or when the
// save under way is done.
func (s *Schedule) mayHaveRow(t *timer) bool { return !s.isFresh(t) || t.marks&markMaybe != 0 }

func (s *Schedule) freshLocked(t *timer) {
	t.epoch, t.at = s.mu.epoch, int32(len(s.mu.fresh))
	s.mu.fresh = append(s.mu.fresh, t)
	s.fullLocked()
}

func (s *Schedule) buryLocked(k key, id ident) {
	s.mu.dead[k] = id
	s.fullLocked()
}

func (s *Schedule) fullLocked() {
	n := len(s.mu.fresh) + len(s.mu.dead)
	if n >= s.o.Dirty {
		s.wantSave.Store(true)
	}
	if n >= 2*s.o.Dirty {
		s.crowded.Store(true)
	}
}

// roomLocked ends what Crowded says.
func (s *Schedule) roomLocked() {
	s.crowded.Store(false)
	if s.mu.room != nil {
		close(s.mu.room)
		s.mu.room = nil
	}
}

// isDeadLocked says that the row of a key counts no more.
func (s *Schedule) isDeadLocked(k key) bool {
	if _, ok := s.mu.dead[k]; ok {
		return true
	}
	if f := s.mu.frozen; f != nil && !f.done {
		_, ok := f.dead[k]
		return ok
	}
	return false
}

// killLocked ends a timer that is in memory.
func (s *Schedule) killLocked(t *timer) {
	s.liftLocked(t)
	if s.mayHaveRow(t) {
		s.buryLocked(t.key, t.id)
	}
	if s.isFresh(t) {
		f := s.mu.fresh
		last := f[len(f)-1]
		f[t.at], last.at = last, t.at
		f[len(f)-1] = nil
		s.mu.fresh = f[:len(f)-1]
	}
	s.forgetLocked(t)
	s.countLocked(t.topic, t.pos, -1)
}

// Crowded says that saves do not keep up: twice as much as is worth a save waits for
// the next Freeze. Who brings more then should wait for the channel, or memory would
// grow with what the disk cannot take. It is closed by the next Freeze, and when a
// save fails, for nobody knows how long that will last. Otherwise it is nil.
func (s *Schedule) Crowded() <-chan struct{} {
	if !s.crowded.Load() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.crowded.Load() {
		return nil
	}
	if s.mu.room == nil {
		s.mu.room = make(chan struct{})
	}
	return s.mu.room
}

// NeedsSave says that so much has changed that a checkpoint would do good.
func (s *Schedule) NeedsSave() bool { return s.wantSave.Load() }
