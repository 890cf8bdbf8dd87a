package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/message"
)

// The crash workload: chains of epochs on a simulated machine. An epoch opens the
// log, compares it with the model, appends, and dies in some operation; then the
// power is cut, or the process is killed, or both. The model knows what had to
// survive.

// written is one record that the model has given to the log.
type written struct {
	text  string
	group int // records of one group have one number
}

// workload is one chain.
type workload struct {
	rnd     *rand.Rand
	o       Options
	aligned bool // every record is a multiple of a sector

	records []written // in the order of the log; the last group may be unanswered
	// safe counts the records that no power cut may take, kept those that no kill
	// may take.
	safe, kept int
	groups     int
	texts      int
	expired    int           // records in removed segments
	start      int64         // where the log starts
	mayStart   map[int64]int // where it may start instead, and then expired
	faulty     bool          // a sync was made to fail
	reverted   bool          // a sync may fail and take back what a kill would keep

	log   *Log
	clock *clock.Manual
	seq   *Sequence
	draft message.Message

	seed    uint64
	short   bool          // everything is enumerated
	death   int           // the one that comes next, from 1
	opening bool          // an epoch opens its log
	tried   map[tried]int // how many records were found; since the last death
	failed  error         // of a fork
	tally   *tally
	// How the machine died last.
	how     string
	outcome crash.Outcome
}

const (
	mostDeaths  = 6
	mostBetween = 8 // operations between two forks
	cutsOfFork  = 4
)

var deathNames = [mostDeaths + 1]string{"", "1st death", "2nd death", "3rd death", "4th death", "5th death", "6th death"}

// tried is an image: its bytes, and where the log had to start.
type tried struct {
	print uint64
	start int64
}

// tally counts what was tried.
type tally struct {
	images int // opened and compared
	same   int // not opened, because one with the same bytes was
	count  map[string]int
}

func newTally() *tally { return &tally{count: map[string]int{}} }

func (t *tally) add(o *tally) {
	t.images += o.images
	t.same += o.same
	for class, n := range o.count {
		t.count[class] += n
	}
}

// disk counts what a power cut did.
func (t *tally) disk(o *crash.Outcome) {
	for _, c := range [...]struct {
		class string
		n     int
	}{
		{"disk: pages lost", o.PagesOld}, {"disk: pages kept", o.PagesNew}, {"disk: pages with some stores", o.PagesPrefix},
		{"disk: torn pages", o.PagesTorn}, {"disk: garbage pages", o.PagesGarbage}, {"disk: old lengths", o.SizesOld},
		{"disk: new lengths", o.SizesNew}, {"disk: old names", o.NamesOld}, {"disk: new names", o.NamesNew},
	} {
		if c.n > 0 {
			t.count[c.class]++
		}
	}
}

func newWorkload(seed uint64, t *tally) *workload {
	rnd := rand.New(rand.NewPCG(seed, 7))
	w := &workload{
		seed: seed, rnd: rnd, clock: manualClock(), aligned: rnd.IntN(3) == 0, short: rnd.IntN(8) == 0,
		tried: map[tried]int{}, tally: t,
	}
	w.o = Options{
		SegmentSize: int64(4096 << rnd.IntN(3)), MaxUnsynced: int64(1024 << rnd.IntN(4)),
		OnDisk: rnd.IntN(3) > 0, Manual: true, Clock: w.clock, DiskReserve: -1,
	}
	return w
}

// broken is a failed claim.
type broken struct{ text string }

func (b *broken) Error() string { return b.text }

func brokenf(format string, args ...any) error { return &broken{fmt.Sprintf(format, args...)} }

// chain runs up to six deaths.
func (w *workload) chain() error {
	sim := crash.New(w.seed)
	sim.Reuse()
	root := sim.FS()
	for _, dir := range []string{"commitlog", "ember"} {
		if err := root.MkdirAll(dir); err != nil {
			return err
		}
	}
	if err := root.SyncDir("."); err != nil {
		return err
	}
	for deaths := 1 + w.rnd.IntN(mostDeaths); w.death < deaths; {
		w.death++
		clear(w.tried)
		if w.death > 1 || w.rnd.IntN(2) == 0 {
			sim.StopAfter(sim.Ops()+1+w.rnd.IntN(60), w.rnd.IntN(2) == 0)
		}
		sim.ForkAfter(w.untilFork(), w.fork)
		err := w.epoch(sim)
		if w.failed != nil {
			return w.failed
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sim.Name(), err)
		}
		if sim, err = w.die(sim); err != nil {
			return err
		}
	}
	return nil
}

// untilFork is how many operations lie between two looks at a machine that lives.
func (w *workload) untilFork() int {
	if w.short {
		return 1
	}
	return 1 + w.rnd.IntN(mostBetween)
}

// fork tries images of a machine that dies in an operation, while it goes on.
func (w *workload) fork(died *crash.Sim) (next int) {
	if w.failed = w.tryAll(died); w.failed != nil {
		return 0
	}
	return w.untilFork()
}

func (w *workload) tryAll(died *crash.Sim) error {
	c := *w
	c.killed()
	image := died.Kill()
	if err := c.try(image); err != nil {
		return err
	}
	image.Free()
	if w.short || w.rnd.IntN(8) == 0 {
		if err := w.enumerate(died); err != nil {
			return err
		}
	}
	if !w.short {
		first := w.rnd.IntN(len(crash.Modes))
		for i := range cutsOfFork {
			c := *w
			image := c.cut(died, crash.Modes[(first+3*i)%len(crash.Modes)])
			if err := c.try(image); err != nil {
				return err
			}
			image.Free()
		}
	}
	died.Free()
	return nil
}

// enumerate tries what a power cut can leave, all of it if that is not too much.
func (w *workload) enumerate(died *crash.Sim) error {
	limit := 16
	if w.short {
		limit = 256
	}
	for image := range died.Enumerate(limit) {
		c := *w
		c.kept, c.reverted = c.safe, false
		if c.how = "enumerated"; image.Complete() {
			w.tally.count["enumerated wholly"]++
		}
		if err := c.try(image); err != nil {
			return err
		}
		image.Free()
	}
	return nil
}

// cut makes an image of a power cut.
func (w *workload) cut(sim *crash.Sim, mode crash.Mode) *crash.Sim {
	sim = sim.PowerCut(mode, w.rnd.Uint64())
	w.kept, w.reverted = w.safe, false
	w.how, w.outcome = "power cut", sim.Outcome()
	return sim
}

// killed says that the process was killed.
func (w *workload) killed() {
	w.how, w.outcome = "kill", crash.Outcome{}
	if w.reverted {
		w.kept, w.reverted = w.safe, false // the kernel itself took back what it had
	}
}

// die makes several images of the machine, tries each, and goes on with the last.
func (w *workload) die(sim *crash.Sim) (*crash.Sim, error) {
	w.opening = false
	model := *w
	for range 3 {
		*w = model
		next := sim
		switch w.rnd.IntN(12) {
		case 0, 1, 2, 3:
			next = next.Kill()
			w.killed()
		case 4:
			next = w.cut(next.Kill(), crash.Modes[w.rnd.IntN(len(crash.Modes))])
		default:
			next = w.cut(next, crash.Modes[w.rnd.IntN(len(crash.Modes))])
		}
		died := *w
		if w.rnd.IntN(4) > 0 {
			if err := w.try(next); err != nil {
				return nil, err
			}
			if w.rnd.IntN(3) == 0 {
				return next, nil
			}
			continue
		}
		// Look at a copy; the chain may go on without recovery having been done.
		if err := w.try(next.Kill()); err != nil {
			return nil, err
		}
		if w.rnd.IntN(3) == 0 {
			*w = died
			return next, nil
		}
	}
	// A machine that goes on as it is: the process died, nothing else.
	*w = model
	w.killed()
	return sim.Kill(), nil
}

// try opens an image and compares it with what had to survive. One with the bytes
// of an image that was tried since the last death is no new one, and is opened
// only if it has to hold more than was found then.
func (w *workload) try(sim *crash.Sim) error {
	same := tried{sim.Print(), w.start}
	if n, ok := w.tried[same]; ok && n >= w.kept {
		w.tally.same++
		return nil
	}
	w.tally.images++
	w.tally.count[w.how]++
	w.tally.count[deathNames[w.death]]++
	w.tally.disk(&w.outcome)
	if w.opening {
		w.tally.count["died in Open"]++
	}
	if err := w.inspect(sim, same); err != nil {
		return fmt.Errorf("%s: %w", sim.Name(), err)
	}
	return nil
}

// inspect opens an image and compares.
func (w *workload) inspect(sim *crash.Sim, same tried) error {
	sim.SetMap(w.rnd.IntN(4) == 0)
	if err := w.open(sim); err != nil {
		return err
	}
	if err := w.compare(); err != nil {
		return err
	}
	w.tried[same] = len(w.records)
	if w.rnd.IntN(2) == 0 {
		w.tally.count["appended again"]++
		if err := w.append(); err != nil {
			return err
		}
	}
	var err error
	if w.rnd.IntN(2) == 0 {
		err = w.log.Abandon()
	} else {
		err = w.log.Close()
	}
	w.log = nil
	return err
}

func (w *workload) open(sim *crash.Sim) error {
	root := sim.FS()
	// Now and then W changes between opens.
	if w.rnd.IntN(16) == 0 {
		w.o.MaxUnsynced = int64(1024 << w.rnd.IntN(4))
	}
	w.o.Owner, w.o.Found = 5, 5
	var applied int64 = -1
	w.o.Apply = func(es []*Entry) {
		for _, e := range es {
			if e.Position < applied {
				panic("applied out of order")
			}
			applied = e.Position + int64(e.Draft.Size())
		}
	}
	l, err := Open(root.Sub("commitlog"), root.Sub("ember"), w.o)
	if err != nil && w.faulty && !sim.Stopped() && !errors.Is(err, message.ErrCorrupt) {
		// The next opener is told of a sync that failed under the last one. Open
		// refuses then; it has promised nothing yet, so it may be tried again.
		w.tally.count["sync error in Open"]++
		l, err = Open(root.Sub("commitlog"), root.Sub("ember"), w.o)
	}
	if err != nil {
		return err
	}
	w.log = l
	return nil
}

// compare demands that the log holds a prefix of what was written that contains
// what had to survive, whole groups only, and then takes it as the truth: what
// was served once stays.
func (w *workload) compare() error {
	l := w.log
	if l.Start() != w.start {
		expired, ok := w.mayStart[l.Start()]
		if !ok {
			return brokenf("log starts at %d instead of %d", l.Start(), w.start)
		}
		w.start, w.expired = l.Start(), expired
	}
	w.mayStart = nil
	n := w.expired
	end, err := l.Scan(l.Start(), l.Visible(), func(r *message.Record) error {
		if n >= len(w.records) {
			return brokenf("record %d was never written: %q", n, r.Body())
		}
		text, _, _ := bytes.Cut(r.Body(), []byte{0})
		if string(text) != w.records[n].text {
			return brokenf("record %d is %q instead of %q", n, text, w.records[n].text)
		}
		if r.Offset() != int64(n) {
			return brokenf("record %d has queue offset %d", n, r.Offset())
		}
		n++
		return nil
	})
	if err != nil {
		return err
	}
	rec := l.Recovery()
	switch {
	case end != l.Visible():
		return brokenf("scan ended at %d of %d", end, l.Visible())
	case n < w.kept:
		return brokenf("%d of %d records that had to survive are there: %+v", n, w.kept, rec)
	case n < len(w.records) && n > 0 && w.records[n-1].group == w.records[n].group:
		return brokenf("half a group: %d records, %+v", n, rec)
	}
	class := "nothing lost"
	switch {
	case rec.CutRecords > 0:
		class = "half group cut"
	case rec.CutBytes > 0:
		class = "torn tail"
	case n < len(w.records):
		class = "lost, zeros behind"
	case rec.Clean:
		class = "clean"
	}
	w.tally.count[class]++
	if rec.SegmentsDeleted > 0 {
		w.tally.count["segment deleted"]++
	}
	if rec.Rewritten > 0 {
		w.tally.count["tail rewritten"]++
	}
	w.records = w.records[:n:n]
	w.safe, w.kept = n, n
	w.seq = NewSequence(int64(n))
	return nil
}

// epoch opens, appends and does everything else until the machine stops.
func (w *workload) epoch(sim *crash.Sim) error {
	stopped := func(err error) error {
		var b *broken
		if errors.As(err, &b) || !sim.Stopped() {
			return err
		}
		return nil // the process is dead, and so is its error
	}
	w.opening = true
	if err := w.open(sim); err != nil {
		return stopped(err)
	}
	w.opening = false
	if err := w.compare(); err != nil {
		return stopped(err)
	}
	steps := 4 + w.rnd.IntN(30)
	if w.short {
		steps = 1 + w.rnd.IntN(4)
	}
	for range steps {
		if w.failed != nil {
			return nil
		}
		var err error
		switch k := w.rnd.IntN(24); {
		case k == 0:
			w.clock.Advance(syncEvery)
			w.log.Step()
			w.seen()
		case k == 1:
			w.log.Step()
			w.seen()
		case k == 2:
			if err = w.log.Sync(ctx); err == nil {
				w.safe, w.kept = len(w.records), len(w.records)
			}
		case k == 3:
			err = w.log.SaveDurably()
		case k == 4:
			err = w.expire()
		case k == 5 && w.rnd.IntN(3) == 0:
			// Not the fault that answers a lost sync with success: nobody can
			// keep a promise on such a disk.
			fault := []crash.SyncFault{crash.SyncDropped, crash.SyncReverted}[w.rnd.IntN(2)]
			w.faulty, w.reverted = true, w.reverted || fault == crash.SyncReverted
			sim.FailSync("commitlog/*", fault)
		case k == 6 && w.rnd.IntN(3) == 0:
			if err = w.log.Close(); err == nil {
				w.safe, w.kept = len(w.records), len(w.records)
				if err = w.open(sim); err == nil {
					err = w.compare()
				}
			}
		default:
			err = w.append()
		}
		if (errors.Is(err, message.ErrPoisoned) || w.log.Poison() != nil) && !sim.Stopped() {
			w.tally.count["poisoned"]++
			return nil
		}
		if err != nil {
			return stopped(err)
		}
	}
	return nil
}

// append writes one group and notes what its answer promises.
func (w *workload) append() error {
	n := 1
	if w.rnd.IntN(3) == 0 {
		n = 2 + w.rnd.IntN(3)
	}
	g := &Group{OnDisk: w.rnd.IntN(2) == 0}
	w.groups++
	for i := range n {
		w.texts++
		text := fmt.Sprintf("record %d of group %d", w.texts, w.groups)
		size := w.rnd.IntN(300)
		if w.rnd.IntN(10) == 0 {
			size = w.rnd.IntN(900)
		}
		w.encode(g.Add(), text, max(size, len(text)), i, n)
	}
	limit, size := w.log.GroupLimit(), int64(0)
	for i := range g.Entries {
		size += int64(g.Entries[i].Draft.Size())
	}
	if size > limit {
		return nil
	}
	for i := range g.Entries {
		text, _, _ := strings.Cut(string(w.bodyOf(&g.Entries[i])), "\x00")
		w.records = append(w.records, written{text, w.groups})
	}
	err := w.log.Append(ctx, g)
	w.seen()
	if err != nil {
		return err
	}
	w.kept = len(w.records)
	if g.OnDisk {
		w.safe = len(w.records)
	}
	return nil
}

func (w *workload) bodyOf(e *Entry) []byte {
	r, err := message.ParseRecord(e.Draft.Bytes())
	if err != nil {
		panic(err)
	}
	return r.Body()
}

// encode makes one record; aligned ones fill whole sectors.
func (w *workload) encode(e *Entry, text string, size, i, n int) {
	e.Seq = w.seq
	var env *message.Envelope
	if i == 0 && n > 1 {
		env = &message.Envelope{Reserved: []message.Property{{Name: message.PropGroup, Value: message.GroupValue(n), Own: true}}}
	}
	w.draft.Topic = "t"
	for range 2 {
		w.draft.Body = body(text, size)
		if err := e.Draft.Encode(&w.draft, message.Queue{Topic: "t"}, env); err != nil {
			panic(err)
		}
		if !w.aligned || e.Draft.Size()%sector == 0 {
			return
		}
		size = len(w.draft.Body) + sector - e.Draft.Size()%sector
	}
}

// seen takes what is visible in an OnDisk log as promised: a consumer may have
// read it.
func (w *workload) seen() {
	if !w.o.OnDisk {
		return
	}
	n := w.expired
	_, _ = w.log.scan(w.log.Start(), w.log.Visible(), false, func(*message.Record) error { n++; return nil })
	w.safe = max(w.safe, min(n, len(w.records)))
	w.kept = max(w.kept, w.safe)
}

func (w *workload) expire() error {
	list := w.log.Segments()
	if len(list) < 2 {
		return nil
	}
	before := list[w.rnd.IntN(len(list))].Base
	gone := w.expired
	w.mayStart = map[int64]int{}
	for _, s := range list {
		if s.Base >= before {
			break
		}
		_, err := w.log.scan(s.Base, s.Base+s.Size, false, func(*message.Record) error { gone++; return nil })
		if err != nil {
			return err
		}
		w.mayStart[s.Base+s.Size] = gone
	}
	removed, err := w.log.Expire(before)
	if err != nil {
		return err
	}
	if len(removed) > 0 {
		last := removed[len(removed)-1]
		w.start = last.Base + last.Size
		w.expired = w.mayStart[w.start]
		w.tally.count["expired"]++
	}
	w.mayStart = nil
	return nil
}

// report prints the counts in order.
func report(tb testing.TB, count map[string]int) {
	tb.Helper()
	for _, class := range slices.Sorted(maps.Keys(count)) {
		tb.Logf("%9d %s", count[class], class)
	}
}
