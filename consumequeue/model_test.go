package consumequeue

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

// world is a store in miniature: a log that is a slice, and the queues built
// from it. Topics, births and the log's start are durable at once, as they are
// in a real store before anything depends on them.
type world struct {
	sim *crash.Sim
	rnd *rand.Rand
	s   *Queues

	log      []logRecord
	appended int64 // behind the last record; all of it is applied
	synced   int64
	logStart int64
	births   map[string]birth
	saved    int64 // mark of the last save that succeeded
	injected bool  // a damage was declared, so a rebuild is no surprise
	rebuilds int
	ahead    []string // entries that reached a file before their record was synced
}

type logRecord struct {
	q      message.Queue
	offset int64 // -1: the topic is deleted here
	e      Entry
}

// birth is where a topic was created again: records before it are dead.
type birth struct {
	position int64
	starts   map[message.Queue]int64
}

const worldFile = 200

var worldTopics = []string{"a", "b", "c"}

func newWorld(seed uint64) *world {
	w := &world{sim: crash.New(seed), rnd: rand.New(rand.NewPCG(seed, 1)), births: map[string]birth{}}
	root := w.sim.FS()
	for _, dir := range []string{"consumequeue", "ember"} {
		if err := root.MkdirAll(dir); err != nil {
			panic(err)
		}
	}
	if err := root.SyncDir("."); err != nil {
		panic(err)
	}
	return w
}

func (w *world) open() error {
	w.sim.OnWrite(w.watch)
	s, err := Open(w.sim.FS().Sub("consumequeue"), w.sim.FS().Sub("ember"), Options{
		FileSize: worldFile, Manual: true, TailBudget: 40 << 10, MaxOpenFiles: 3,
		Synced:  func() int64 { return w.synced },
		Rebuild: w.rebuild,
	})
	w.s = s
	return err
}

// watch is law 2: no entry in a file before its record is synced.
func (w *world) watch(name string, off int64, p []byte) {
	if !strings.Contains(name, "consumequeue/") {
		return
	}
	for i := 0; i+EntrySize <= len(p); i += EntrySize {
		if e := Decode(p[i:]); e != (Entry{}) && !e.Blank() && e.end() > w.synced {
			w.ahead = append(w.ahead, fmt.Sprintf("%s at %d: entry up to %d, synced %d", name, off+int64(i), e.end(), w.synced))
		}
	}
}

func (w *world) rebuild(_ context.Context, qs []*Queue) error {
	w.rebuilds++
	want := map[message.Queue]*Queue{}
	for _, q := range qs {
		want[q.Name()] = q
	}
	for _, r := range w.log {
		if q := want[r.q]; q != nil && r.offset >= 0 && r.e.Position >= w.logStart && !w.dead(r) {
			q.Restore(r.offset, r.e)
		}
	}
	return nil
}

func (w *world) dead(r logRecord) bool { return r.e.Position < w.births[r.q.Topic].position }

func (w *world) queue() message.Queue {
	return message.Queue{Topic: worldTopics[w.rnd.IntN(len(worldTopics))], ID: int32(w.rnd.IntN(2))}
}

// append logs n records of one queue and applies them; now and then the queue
// jumps, as behind a filler.
func (w *world) append(name message.Queue, n int) {
	q := w.s.Queue(name)
	for range n {
		_, offset := q.Bounds()
		if w.rnd.IntN(40) == 0 {
			offset += int64(w.rnd.IntN(30))
		}
		size := int32(50 + w.rnd.IntN(200))
		r := logRecord{name, offset, Entry{Position: w.appended, Size: size, TagHash: int64(w.rnd.Int32())}}
		w.log = append(w.log, r)
		w.appended += int64(size)
		q.Append(r.offset, r.e)
	}
}

// deleteTopic logs a deletion and makes the topic again, going on with its offsets.
func (w *world) deleteTopic(topic string) error {
	b := birth{position: w.appended + 50, starts: map[message.Queue]int64{}}
	for _, q := range w.s.All() {
		if q.Name().Topic == topic {
			_, b.starts[q.Name()] = q.Bounds()
		}
	}
	w.log = append(w.log, logRecord{message.Queue{Topic: topic}, -1, Entry{Position: w.appended, Size: 50}})
	w.appended += 50
	w.synced = w.appended
	w.births[topic] = b
	return w.rebirth(topic)
}

func (w *world) rebirth(topic string) error {
	err := w.s.Delete(topic)
	for q, at := range w.births[topic].starts {
		w.s.Create(q, at)
	}
	return err
}

func (w *world) step() error {
	switch k := w.rnd.IntN(100); {
	case k < 45:
		w.append(w.queue(), 1+w.rnd.IntN(60))
	case k < 60:
		w.sync()
	case k < 72:
		return w.s.Flush()
	case k < 78:
		w.s.Step()
		return w.s.Err()
	case k < 90:
		return w.save()
	case k < 94:
		w.logStart += (w.synced - w.logStart) / 3 * int64(w.rnd.IntN(2))
		return w.s.Expire(w.logStart)
	case k < 96:
		return w.deleteTopic(worldTopics[w.rnd.IntN(len(worldTopics))])
	case k < 97 && w.injected:
		if q, ok := w.s.Lookup(w.queue()); ok {
			q.MarkDamaged(0, "injected")
		}
	default:
		return w.readSome()
	}
	return nil
}

// sync makes the log durable up to some record.
func (w *world) sync() {
	i := sort.Search(len(w.log), func(i int) bool { return w.log[i].e.end() > w.synced })
	if i < len(w.log) {
		w.synced = w.log[i+w.rnd.IntN(len(w.log)-i)].e.end()
	}
}

func (w *world) save() error {
	mark := w.appended
	saveIt := w.s.Freeze(message.Mark{Offset: mark})
	for range w.rnd.IntN(3) {
		w.append(w.queue(), 1+w.rnd.IntN(30))
	}
	w.synced = max(w.synced, mark)
	if w.rnd.IntN(2) == 0 {
		if err := w.s.Flush(); err != nil {
			return err
		}
	}
	if err := saveIt(); err != nil {
		return err
	}
	w.saved = mark
	return nil
}

func (w *world) readSome() error {
	q := w.s.Queue(w.queue())
	start, end := q.Bounds()
	if start == end {
		return nil
	}
	_, err := q.ReadContext(context.Background(), start+w.rnd.Int64N(end-start), make([]Entry, 20))
	return err
}

// after is the world on a disk that a crash left: keep says how much of the log
// survived.
func (w *world) after(sim *crash.Sim, keep int64) *world {
	n := *w
	n.sim, n.rnd = sim, rand.New(rand.NewPCG(w.rnd.Uint64(), 2))
	i := sort.Search(len(w.log), func(i int) bool { return w.log[i].e.end() > keep })
	n.log = append([]logRecord(nil), w.log[:i]...)
	n.appended = 0
	if i > 0 {
		n.appended = w.log[i-1].e.end()
	}
	n.synced = n.appended
	n.births = map[string]birth{}
	for t, b := range w.births {
		n.births[t] = b
	}
	n.ahead, n.rebuilds = nil, 0
	return &n
}

// recover does what a store does at Open: replay from the mark, or from the
// log's start when there is none.
func (w *world) recover() error {
	if err := w.open(); err != nil {
		return err
	}
	m, ok := w.s.Saved()
	if ok && m.Offset > w.appended {
		return fmt.Errorf("image of %d is ahead of the log, %d", m.Offset, w.appended)
	}
	if !ok && w.saved > 0 || ok && m.Offset < w.saved {
		return fmt.Errorf("save of %d is lost, have %v %d: %s", w.saved, ok, m.Offset, w.s.SavedReason())
	}
	from := m.Offset
	if !ok {
		if err := w.s.Reset(); err != nil {
			return err
		}
		from = w.logStart
		for _, b := range w.births {
			for q, at := range b.starts {
				w.s.Create(q, at)
			}
		}
	}
	for _, r := range w.log {
		switch {
		case r.e.Position < from:
		case r.offset < 0 && r.e.end() == w.births[r.q.Topic].position:
			if err := w.rebirth(r.q.Topic); err != nil {
				return err
			}
		case r.offset >= 0 && !w.dead(r):
			w.s.Queue(r.q).Append(r.offset, r.e)
		}
	}
	// A queue whose records have all expired: the store knows its end.
	for name, q := range w.model() {
		w.s.Create(name, q.end)
	}
	return w.s.Expire(w.logStart)
}

type modelQueue struct {
	start, end int64
	entries    map[int64]Entry
}

// model is what the queues must hold, from the log alone.
func (w *world) model() map[message.Queue]*modelQueue {
	qs := map[message.Queue]*modelQueue{}
	for _, b := range w.births {
		for name, at := range b.starts {
			qs[name] = &modelQueue{start: at, end: at}
		}
	}
	for _, r := range w.log {
		if r.offset < 0 || w.dead(r) {
			continue
		}
		q := qs[r.q]
		if q == nil {
			q = &modelQueue{start: r.offset, end: r.offset}
			qs[r.q] = q
		}
		if q.entries == nil {
			q.start, q.entries = r.offset, map[int64]Entry{}
		}
		q.entries[r.offset] = r.e
		q.end = r.offset + 1
	}
	for _, q := range qs {
		for q.start < q.end && q.entries[q.start].Position < w.logStart {
			q.start++
			for _, ok := q.entries[q.start]; !ok && q.start < q.end; _, ok = q.entries[q.start] {
				q.start++
			}
		}
	}
	return qs
}

func (q *modelQueue) entry(offset int64) Entry {
	if e, ok := q.entries[offset]; ok {
		return e
	}
	return Blank
}

// verify compares everything with the model: through reads, through Check, and
// the bytes of the files.
func (w *world) verify() error {
	if len(w.ahead) > 0 {
		return fmt.Errorf("ahead of the log: %s", w.ahead[0])
	}
	model := w.model()
	for name, m := range model {
		q := w.s.Queue(name)
		// Retention reaches damaged queues when they are rebuilt.
		if err := q.Ready(context.Background()); err != nil {
			return err
		}
		start, end := q.Bounds()
		if start != m.start || end != m.end {
			return fmt.Errorf("queue %s is [%d, %d), want [%d, %d)", name, start, end, m.start, m.end)
		}
		es := make([]Entry, end-start)
		n, err := q.ReadContext(context.Background(), start, es)
		for err == nil && n < len(es) {
			var k int
			k, err = q.ReadContext(context.Background(), start+int64(n), es[n:])
			n += k
		}
		if err != nil {
			return err
		}
		for i, e := range es {
			if want := m.entry(start + int64(i)); e != want {
				return fmt.Errorf("queue %s offset %d is %v, want %v", name, start+int64(i), e, want)
			}
		}
	}
	if w.rebuilds > 0 && !w.injected {
		return errors.New("a crash damaged a queue")
	}
	for _, q := range w.s.All() {
		if _, end := q.Bounds(); model[q.Name()] == nil && end > 0 {
			return fmt.Errorf("queue %s should not exist", q)
		}
	}
	var found []string
	err := w.s.Check(context.Background(), nil, func(path string, off int64, reason string) {
		found = append(found, fmt.Sprintf("%s at %d: %s", path, off, reason))
	})
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("check: %s", strings.Join(found, "; "))
	}
	return err
}

// verifyFiles writes everything out and compares the files byte by byte.
func (w *world) verifyFiles() error {
	w.synced = w.appended
	if err := w.s.Flush(); err != nil {
		return err
	}
	for name, m := range w.model() {
		for base := m.start * EntrySize / worldFile * worldFile; base < m.end*EntrySize; base += worldFile {
			if m.start == m.end {
				break
			}
			b, err := fs.Read(w.sim.FS().Sub("consumequeue"), dirName(name)+"/"+fileName(base))
			if err != nil {
				return err
			}
			for i := 0; i < len(b); i += EntrySize {
				offset := (base + int64(i)) / EntrySize
				got, want := Decode(b[i:]), Entry{}
				if offset < m.end {
					want = m.entry(offset)
				}
				if offset >= m.start && got != want || offset < m.start && !got.valid() {
					return fmt.Errorf("file of %s offset %d is %v, want %v", name, offset, got, want)
				}
			}
		}
	}
	return w.verify()
}

var crashSeeds = flag.Uint64("crash.seeds", 28, "how many chains of crashes TestCrash runs")

// TestCrash runs random operations, kills and power cuts, and recovers from
// every disk they could leave; one of them goes on, through up to six crashes.
func TestCrash(t *testing.T) {
	images := 0
	for seed := range *crashSeeds {
		n, err := crashChain(seed)
		require.NoError(t, err, "seed %d", seed)
		images += n
	}
	t.Logf("%d images", images)
	require.Greater(t, images, int(*crashSeeds)*20)
}

func crashChain(seed uint64) (images int, err error) {
	w := newWorld(seed)
	w.injected = seed%4 == 3
	if err := w.recover(); err != nil {
		return 0, err
	}
	for range 6 {
		if w.rnd.IntN(2) == 0 {
			w.sim.StopAfter(w.sim.Ops()+1+w.rnd.IntN(400), w.rnd.IntN(2) == 0)
		}
		for range 20 + w.rnd.IntN(60) {
			if err := w.step(); err != nil && !w.sim.Stopped() {
				return images, fmt.Errorf("%s: step: %w", w.sim.Name(), err)
			}
			if w.sim.Stopped() {
				break
			}
		}
		if len(w.ahead) > 0 {
			return images, fmt.Errorf("%s: ahead of the log: %s", w.sim.Name(), w.ahead[0])
		}
		var next *world
		for i, mode := range crash.Modes {
			keep := w.synced + w.rnd.Int64N(w.appended-w.synced+1)
			n := w.after(w.sim.PowerCut(mode, w.rnd.Uint64()), keep)
			if err := n.survive(); err != nil {
				return images, fmt.Errorf("%s: %w", n.sim.Name(), err)
			}
			images++
			if i == w.rnd.IntN(len(crash.Modes)) {
				next = n
			}
		}
		n := w.after(w.sim.Kill(), w.appended)
		if err := n.survive(); err != nil {
			return images, fmt.Errorf("%s: %w", n.sim.Name(), err)
		}
		images++
		if next == nil {
			next = n
		}
		w = next
	}
	return images, nil
}

// survive recovers, compares, writes again, opens again, and compares again.
func (w *world) survive() error {
	if err := w.recover(); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if err := w.verify(); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	w.append(w.queue(), 40)
	// A jump behind an empty queue's end leaves pre-blank entries at its start,
	// which the model takes for expired.
	if err := w.s.Expire(w.logStart); err != nil {
		return err
	}
	if err := w.verifyFiles(); err != nil {
		return fmt.Errorf("verify files: %w", err)
	}
	if err := w.save(); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	again := w.after(w.sim.Kill(), w.appended)
	if err := again.recover(); err != nil {
		return fmt.Errorf("second recover: %w", err)
	}
	if err := again.verify(); err != nil {
		return fmt.Errorf("second verify: %w", err)
	}
	return nil
}
