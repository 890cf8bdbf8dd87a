package index

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

var modelSeeds = flag.Uint64("index.seeds", 2, "seeds of the crash model; 40 make 1,440 crashes and 1.3 million operations")

// world is a store in miniature: a log in memory, the index of it, and a map from
// keys to positions that says what must be found.
type world struct {
	sim    *crash.Sim
	faulty *fs.Faulty // nil for a disk that does what it is told
	rnd    *rand.Rand
	x      *Index
	o      Options
	clock  *clock.Manual
	log    *fakeLog
	synced int64
	want   map[string][]int64 // topic#key to positions, oldest first
	saved  int64

	ahead []string
	ops   int
	finds int
}

func newWorld(seed uint64) *world {
	w := &world{sim: crash.New(seed), rnd: rand.New(rand.NewPCG(seed, 1)), log: newLog(), want: map[string][]int64{}, clock: clock.NewManual(epoch)}
	for _, dir := range []string{"index", "ember"} {
		if err := w.sim.FS().MkdirAll(dir); err != nil {
			panic(err)
		}
	}
	if err := w.sim.FS().SyncDir("."); err != nil {
		panic(err)
	}
	w.o = Options{
		Slots: 1 + w.rnd.Int64N(30), Entries: 50 + w.rnd.Int64N(400), MaxOpenFiles: 2 + w.rnd.IntN(20),
		NoUniqueID: w.rnd.IntN(3) == 0,
	}
	switch w.rnd.IntN(10) {
	case 0:
		w.o.Entries = 2 + w.rnd.Int64N(20)
	case 1:
		w.o.Entries = 3000 + w.rnd.Int64N(5000) // more than a piece
	}
	if w.rnd.IntN(3) == 0 {
		w.o.FeedBytes = chunkBytes // overflows at two chunks
	}
	w.o.PendingBytes = 1 << 30
	return w
}

func (w *world) open() error {
	w.sim.OnWrite(w.watch)
	o := w.o
	o.Manual, o.Location, o.Clock = true, time.UTC, w.clock
	o.Synced = func() int64 { return w.synced }
	o.Scan = func(from, to int64, f func(*message.Record) error) (int64, error) { return w.log.scan(from, to, f) }
	o.Start = func() int64 { return w.log.start }
	disk := w.sim.FS()
	if w.faulty != nil {
		disk = w.faulty
	}
	x, err := Open(disk.Sub("index"), disk.Sub("ember"), o)
	w.x = x
	return err
}

// watch is law 2: no entry in a file before its record is synced.
func (w *world) watch(name string, off int64, p []byte) {
	g := geometry{w.o.Slots, w.o.Entries}
	if !strings.Contains(name, "index/2") || off < g.entryAt(0) {
		return
	}
	for i := int64(0); i+EntrySize <= int64(len(p)); i += EntrySize {
		if off+i == g.entryAt(0) {
			continue
		}
		e := DecodeEntry(p[i:])
		r, err := w.log.read(e.Position)
		if err != nil {
			if e.Position >= w.log.start {
				w.ahead = append(w.ahead, fmt.Sprintf("%s at %d: entry of a record that does not exist: %v", name, off+i, e))
			}
		} else if end := e.Position + int64(r.Size()); end > w.synced {
			w.ahead = append(w.ahead, fmt.Sprintf("%s at %d: entry up to %d, synced %d", name, off+i, end, w.synced))
		}
	}
}

var modelTopics = []string{"a", "b", "%RETRY%c"}

func (w *world) key() string {
	if w.rnd.IntN(4) == 0 {
		return []string{"Aa", "BB"}[w.rnd.IntN(2)] + []string{"Aa", "BB"}[w.rnd.IntN(2)] // one hash for all
	}
	return fmt.Sprintf("k%d", w.rnd.IntN(60))
}

// append logs n records and applies them.
func (w *world) append(n int) {
	for range n {
		topic := modelTopics[w.rnd.IntN(len(modelTopics))]
		var keys []string
		for range w.rnd.IntN(4) {
			keys = append(keys, w.key())
		}
		uniq := ""
		if w.rnd.IntN(2) == 0 {
			uniq = fmt.Sprintf("u%d", w.rnd.IntN(100))
		}
		w.log.stored += int64(w.rnd.IntN(3000))
		r := w.log.add(topic, uniq, keys...)
		w.learn(r)
		w.x.Apply(r)
		w.ops++
	}
}

func (w *world) learn(r *message.Record) {
	all := slices.Collect(r.Keys())
	if id := r.UniqueID(); id != "" && !w.o.NoUniqueID {
		all = append(all, id)
	}
	slices.Sort(all)
	for _, k := range slices.Compact(all) {
		k = r.Topic() + "#" + k
		w.want[k] = append(w.want[k], r.Position())
	}
}

// expected is what a query must yield.
func (w *world) expected(q Query) (list []int64) {
	all := w.want[q.Topic+"#"+q.Key]
	for i := len(all) - 1; i >= 0 && len(list) < q.Limit; i-- {
		p := all[i]
		if p < w.log.start || q.Before > 0 && p >= q.Before {
			continue
		}
		r, err := w.log.read(p)
		if err != nil {
			panic(err)
		}
		if !q.Begin.IsZero() && r.StoredAt().Before(q.Begin) || !q.End.IsZero() && r.StoredAt().After(q.End) {
			continue
		}
		list = append(list, p)
	}
	return list
}

func (w *world) query() error {
	w.ops++
	w.finds++
	q := Query{Topic: modelTopics[w.rnd.IntN(len(modelTopics))], Key: w.key(), Limit: 1 + w.rnd.IntN(40)}
	if w.rnd.IntN(4) == 0 {
		q.Key = fmt.Sprintf("u%d", w.rnd.IntN(100))
	}
	if n := len(w.log.records); n > 0 && w.rnd.IntN(2) == 0 {
		q.Begin = w.log.records[w.rnd.IntN(n)].StoredAt()
		q.End = q.Begin.Add(time.Duration(w.rnd.IntN(100_000)) * time.Millisecond)
	}
	if w.rnd.IntN(4) == 0 {
		q.Before = w.rnd.Int64N(w.log.end + 1)
	}
	return w.ask(q)
}

func (w *world) ask(q Query) error {
	got, res, err := w.log.find(w.x, q)
	if err != nil {
		return fmt.Errorf("query %+v: %w", q, err)
	}
	if want := w.expected(q); !slices.Equal(got, want) || res.Truncated {
		return fmt.Errorf("query %+v: got %v %+v, want %v", q, got, res, want)
	}
	return nil
}

// all asks for every key there is.
func (w *world) all() error {
	for k := range w.want {
		topic, key, _ := strings.Cut(k, "#")
		w.ops++
		if err := w.ask(Query{Topic: topic, Key: key, Limit: 1000}); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) step() error {
	switch k := w.rnd.IntN(100); {
	case k < 30:
		w.append(1 + w.rnd.IntN(30))
	case k < 32:
		w.append(1000)
	case k < 42:
		w.sync()
	case k < 50:
		w.x.Step()
		return w.x.Err()
	case k < 58:
		return w.save()
	case k < 62:
		w.log.start += (w.synced - w.log.start) / 3 * int64(w.rnd.IntN(2))
		w.log.start = w.boundary(w.log.start)
		return w.x.Expire(w.log.start)
	case k < 65:
		w.clock.Advance(time.Duration(w.rnd.IntN(7200)-3600) * time.Second)
	case k < 67:
		return w.reopen()
	default:
		for range 5 {
			if err := w.query(); err != nil {
				return err
			}
		}
	}
	return nil
}

// boundary is the last record boundary up to p.
func (w *world) boundary(p int64) int64 {
	i, _ := slices.BinarySearchFunc(w.log.records, p, func(r message.Record, p int64) int { return int(r.Position() - p) })
	if i < len(w.log.records) {
		return w.log.records[i].Position()
	}
	return w.log.end
}

func (w *world) sync() {
	if w.log.end > w.synced {
		w.synced = w.boundary(w.synced + 1 + w.rnd.Int64N(w.log.end-w.synced))
	}
}

func (w *world) save() error {
	m := w.log.mark()
	saveIt := w.x.Freeze(m)
	w.append(w.rnd.IntN(60))
	w.synced = max(w.synced, m.Offset)
	if w.rnd.IntN(2) == 0 {
		w.x.Step()
	}
	if err := saveIt(); err != nil {
		return err
	}
	got, ok := w.x.Saved()
	if !ok && w.saved > 0 || ok && (got.Offset > m.Offset || got.Offset < w.saved) {
		return fmt.Errorf("saved %v %v after a save of %v", got, ok, m)
	}
	w.saved = got.Offset
	return nil
}

// reopen closes in order and opens again.
func (w *world) reopen() error {
	if w.rnd.IntN(2) == 0 {
		if err := w.save(); err != nil {
			return err
		}
	}
	if err := w.x.Close(); err != nil {
		return err
	}
	return w.recover()
}

// after is the world on a disk that a crash left, with the log up to keep.
func (w *world) after(sim *crash.Sim, keep int64) *world {
	n := *w
	n.sim, n.faulty, n.rnd = sim, nil, rand.New(rand.NewPCG(w.rnd.Uint64(), 2))
	l := &fakeLog{mu: new(sync.Mutex), stored: w.log.stored, start: w.log.start, at: map[int64]int{}}
	for i, r := range w.log.records {
		if r.Position()+int64(r.Size()) > keep {
			break
		}
		l.records = append(l.records, r)
		l.at[r.Position()] = i
		l.end = r.Position() + int64(r.Size())
	}
	n.log, n.synced, n.ahead, n.ops = l, l.end, nil, 0
	n.want = map[string][]int64{}
	for i := range l.records {
		n.learn(&l.records[i])
	}
	return &n
}

// recover does what a store does at Open.
func (w *world) recover() error {
	if err := w.open(); err != nil {
		return err
	}
	m, ok := w.x.Saved()
	if !ok && w.saved > 0 || ok && m.Offset < w.saved {
		return fmt.Errorf("save of %d is lost, have %v %d: %s", w.saved, ok, m.Offset, w.x.SavedReason())
	}
	if ok && m.Offset > 0 {
		r, err := w.log.read(w.lastBefore(m.Offset))
		if m.Offset > w.log.end || err == nil && r.Fingerprint() != m.Fingerprint {
			return fmt.Errorf("mark %v does not fit the log", m)
		}
	}
	if !ok {
		if err := w.x.Reset(); err != nil {
			return err
		}
	}
	w.saved = m.Offset
	for i := range w.log.records {
		if r := &w.log.records[i]; r.Position() >= max(m.Offset, w.log.start) {
			w.x.Apply(r)
		}
	}
	return nil
}

func (w *world) lastBefore(end int64) int64 {
	last := int64(-1)
	for i := range w.log.records {
		if p := w.log.records[i].Position(); p < end {
			last = p
		}
	}
	return last
}

func (w *world) check() error {
	if err := w.all(); err != nil {
		return err
	}
	var found error
	err := w.x.Check(context.Background(), nil, func(path string, off int64, reason string) {
		found = fmt.Errorf("check: %s at %d: %s", path, off, reason)
	})
	if rebuilt := w.x.Stats().Rebuilds; rebuilt > 0 && found == nil {
		found = fmt.Errorf("%d rebuilds because of damage", rebuilt)
	}
	if len(w.ahead) > 0 {
		found = errors.Join(found, fmt.Errorf("ahead of the log: %s", w.ahead[0]))
	}
	return errors.Join(err, found)
}

// TestCrash runs random operations, kills and power cuts, and compares with the
// map after every one; one of the disks goes on, through up to four crashes.
func TestCrash(t *testing.T) {
	seeds := *modelSeeds
	if testing.Short() {
		seeds = 1
	}
	var images, ops int
	for seed := range seeds {
		n, k, err := crashChain(seed)
		require.NoError(t, err, "seed %d", seed)
		images, ops = images+n, ops+k
	}
	t.Logf("%d images, %d operations", images, ops)
}

func crashChain(seed uint64) (images, ops int, err error) {
	w := newWorld(seed)
	if err := w.recover(); err != nil {
		return 0, 0, err
	}
	for range 4 {
		if w.rnd.IntN(2) == 0 {
			w.sim.StopAfter(w.sim.Ops()+1+w.rnd.IntN(300), w.rnd.IntN(2) == 0)
		}
		for range 20 + w.rnd.IntN(60) {
			if err := w.step(); err != nil && !w.sim.Stopped() {
				return images, ops, fmt.Errorf("%s: step: %w", w.sim.Name(), err)
			}
			if w.sim.Stopped() {
				break
			}
		}
		if len(w.ahead) > 0 {
			return images, ops, fmt.Errorf("%s: ahead of the log: %s", w.sim.Name(), w.ahead[0])
		}
		ops += w.ops
		var next *world
		pick := w.rnd.IntN(len(crash.Modes) + 1)
		for i := range len(crash.Modes) + 1 {
			n := w.after(w.sim.Kill(), w.log.end)
			if i < len(crash.Modes) {
				n = w.after(w.sim.PowerCut(crash.Modes[i], w.rnd.Uint64()), w.boundary(w.synced+w.rnd.Int64N(w.log.end-w.synced+1)))
			}
			if err := n.survive(); err != nil {
				return images, ops, fmt.Errorf("%s: %w", n.sim.Name(), err)
			}
			images++
			ops += n.ops
			n.ops = 0
			if i == pick {
				next = n
			}
		}
		w = next
	}
	return images, ops, nil
}

// survive recovers, compares, goes on, opens again, and compares again.
func (w *world) survive() error {
	if err := w.recover(); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if err := w.check(); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	w.append(40)
	if err := w.save(); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	again := w.after(w.sim.Kill(), w.log.end)
	if err := again.recover(); err != nil {
		return fmt.Errorf("second recover: %w", err)
	}
	err := again.check()
	w.ops += again.ops
	if err != nil {
		return fmt.Errorf("second verify: %w", err)
	}
	return nil
}
