package progress

import (
	"context"
	"errors"
	"iter"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errDisk = errors.New("disk says no")
	bg      = context.Background()
	// day is where manual clocks begin.
	day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// failure is what the next batch meets.
type failure int

const (
	works failure = iota
	failsBefore
	failsAfter // the batch is on disk, but its writer hears an error
)

// faultyDB is a real key-value store on a simulated disk, whose batches can be
// made to fail or wait.
type faultyDB struct {
	*kv.DB
	t       testing.TB
	mu      sync.Mutex
	next    failure
	applies int
	entered chan struct{} // when set: a batch announces itself here …
	gate    chan struct{} // … and waits here
	calls   chan func()   // when set: where the store below is called
}

func newDB(t testing.TB) *faultyDB {
	t.Helper()
	db, err := kv.Open(crash.New(1).FS(), kv.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return &faultyDB{DB: db, t: t}
}

// bubble runs f in a synctest bubble. The key-value store stays outside with its
// goroutines and is called from there; time stands still in the bubble until it
// has answered.
func bubble(t *testing.T, f func(t *testing.T, db *faultyDB)) {
	t.Helper()
	db := newDB(t)
	db.calls = make(chan func())
	defer close(db.calls)
	go func() {
		for call := range db.calls {
			call()
		}
	}()
	synctest.Test(t, func(t *testing.T) { f(t, db) })
}

func (d *faultyDB) below(call func()) {
	if d.calls == nil {
		call()
		return
	}
	d.calls <- call
	d.calls <- func() {} // taken when the first has returned
}

func (d *faultyDB) Apply(ctx context.Context, b *kv.Batch, sync bool) error {
	if d.gate != nil {
		d.entered <- struct{}{}
		select {
		case <-d.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !sync {
		d.t.Error("a batch of primary state was not synced")
	}
	d.mu.Lock()
	d.applies++
	f := d.next
	d.next = works
	d.mu.Unlock()
	if f == failsBefore {
		return errDisk
	}
	var err error
	d.below(func() { err = d.DB.Apply(bg, b, sync) })
	if err != nil {
		return err
	}
	if f == failsAfter {
		return errDisk
	}
	return nil
}

func (d *faultyDB) Scan(from, to []byte) iter.Seq2[kv.KV, error] {
	return func(yield func(kv.KV, error) bool) {
		if d.calls != nil { // only in bubbles, which begin with an empty store
			return
		}
		for row, err := range d.DB.Scan(from, to) {
			if !yield(row, err) {
				return
			}
			// What is lent for one step must not be kept.
			clear(row.Key)
			clear(row.Value)
		}
	}
}

// put changes a row behind the back of progress.
func (d *faultyDB) put(key, value string) {
	d.t.Helper()
	var b kv.Batch
	b.Set([]byte(key), []byte(value))
	require.NoError(d.t, d.DB.Apply(bg, &b, true))
}

func (d *faultyDB) dump() map[string]string {
	d.t.Helper()
	rows := make(map[string]string)
	for row, err := range d.DB.Scan(nil, nil) {
		require.NoError(d.t, err)
		rows[string(row.Key)] = string(row.Value)
	}
	return rows
}

func (d *faultyDB) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.applies
}

func (d *faultyDB) fail(f failure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = f
}

// fakeLog knows the ends of queues, those that readers see and those on disk.
type fakeLog struct {
	mu      sync.Mutex
	visible map[message.Queue]int64
	synced  map[message.Queue]int64
	syncs   int
	err     error
}

func newLog(topics ...string) *fakeLog {
	l := &fakeLog{visible: make(map[message.Queue]int64), synced: make(map[message.Queue]int64)}
	for _, t := range topics {
		for id := range int32(4) {
			l.visible[message.Queue{Topic: t, ID: id}] = 100
			l.synced[message.Queue{Topic: t, ID: id}] = 100
		}
	}
	return l
}

func (l *fakeLog) bounds(q message.Queue) (start, end int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end, ok := l.visible[q]
	if !ok {
		return 0, 0, message.ErrNotFound
	}
	return 0, end, nil
}

func (l *fakeLog) known(q message.Queue) (start, end int64, ok bool) {
	start, end, err := l.bounds(q)
	return start, end, err == nil
}

func (l *fakeLog) sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.syncs++
	maps.Copy(l.synced, l.visible)
	return nil
}

func (l *fakeLog) append(q message.Queue, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.visible[q] += n
}

// cut is the power going off.
func (l *fakeLog) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.visible = maps.Clone(l.synced)
}

// rig is a Progress on fakes, without a goroutine unless asked for.
type rig struct {
	*Progress
	t     *testing.T
	db    *faultyDB
	log   *fakeLog
	clock *clock.Manual
	o     Options
}

func newRig(t *testing.T, set ...func(*Options)) *rig {
	t.Helper()
	return newRigOn(t, newDB(t), set...)
}

func newRigOn(t *testing.T, db *faultyDB, set ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, db: db, log: newLog("orders", "bills"), clock: clock.NewManual(day)}
	r.o = Options{Bounds: r.log.bounds, SyncLog: r.log.sync, Manual: true, Clock: r.clock}
	for _, f := range set {
		f(&r.o)
	}
	r.open()
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func (r *rig) open() {
	r.t.Helper()
	p, err := Open(bg, r.db, r.o)
	require.NoError(r.t, err)
	r.Progress = p
}

// crash forgets what is in memory.
func (r *rig) crash() {
	r.t.Helper()
	r.stop()
	r.open()
}

func (r *rig) commit(group string, q message.Queue, offset int64) {
	r.t.Helper()
	require.NoError(r.t, r.Commit(bg, group, at(q, offset)))
}

// has asserts a committed offset; -1 is none.
func (r *rig) has(group string, q message.Queue, want int64) {
	r.t.Helper()
	got, ok := r.Offsets(group)[q]
	if !ok {
		got = -1
	}
	require.Equal(r.t, want, got, "%s of %s", q, group)
}

func at(q message.Queue, offset int64) map[message.Queue]int64 {
	return map[message.Queue]int64{q: offset}
}

func queue(topic string, id int32) message.Queue { return message.Queue{Topic: topic, ID: id} }

var (
	orders0 = queue("orders", 0)
	orders1 = queue("orders", 1)
	bills0  = queue("bills", 0)
)
