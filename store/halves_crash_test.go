package store_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var (
	halfImages = flag.Int("halves.images", 250, "images that TestHalvesCrash opens")
	halfSeed   = flag.Uint64("halves.seed", 0, "replay this seed only")
)

// TestHalvesCrash kills transactions in the middle of every kind of step and
// looks at what is left: no half is visible, none is both committed and rolled
// back, none is lost.
func TestHalvesCrash(t *testing.T) {
	if *halfSeed != 0 {
		if _, err := crashHalves(*halfSeed); err != nil {
			t.Fatal(err)
		}
		return
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	images, seed := 0, uint64(0)
	for range 4 { // an open waits most of the time
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for images < *halfImages && !t.Failed() {
				seed++
				mine := seed
				mu.Unlock()
				n, err := crashHalves(mine)
				mu.Lock()
				images += n
				if err != nil {
					t.Errorf("%v\nreplay: go test ./store -run '^TestHalvesCrash$' -halves.seed=%d", err, mine)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d images", images)
}

// fate is what is known of a half.
type fate struct {
	stored bool             // its Prepare has returned
	how    message.Decision // the last that was acknowledged
	may    message.Decision // what a call under way could make of it, or how
}

type halfWork struct {
	rnd    *rand.Rand
	clock  *clock.Manual
	opts   []store.Option
	s      *store.Store
	answer message.Decision

	mu    sync.Mutex
	fates map[string]fate
}

type halfCrash struct {
	sim   *crash.Sim
	fates map[string]fate
}

// crashHalves runs one script and returns how many images of it were opened.
func crashHalves(seed uint64) (images int, err error) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	w := &halfWork{rnd: rnd, clock: clock.NewManual(time.UnixMilli(1_700_000_000_000)), fates: map[string]fate{}}
	w.opts = []store.Option{
		store.WithSegmentSize(8192), store.WithMaxUnsynced(8192), store.WithRetention(time.Hour), store.WithTopicQueues(1),
		store.WithDurability([]message.Durability{message.OnDisk, message.InCache}[rnd.IntN(2)]),
		store.WithTransactions(store.Transactions{MaxChecks: 1}),
	}
	var dead []halfCrash
	t := &tap{sim: crash.New(seed), picks: map[int]bool{}}
	t.crash = func(c *crash.Sim) {
		w.mu.Lock()
		defer w.mu.Unlock()
		dead = append(dead, halfCrash{c, maps.Clone(w.fates)})
	}
	for op := range 3000 {
		if rnd.IntN(60) == 0 {
			t.picks[op] = rnd.IntN(2) == 0
		}
	}
	l := newLaw()
	l.watch(t.sim)
	fail := func(err error) (int, error) { return images, fmt.Errorf("seed %d: %w", seed, err) }
	if err := w.open(t.fs()); err != nil {
		return fail(err)
	}
	for range 40 {
		if err := w.step(); err != nil {
			return fail(errors.Join(err, w.s.Abandon()))
		}
	}
	if err := w.verify(w.fates); err != nil {
		return fail(errors.Join(err, w.s.Abandon()))
	}
	if err := w.s.Abandon(); err != nil {
		return fail(err)
	}
	if err := l.err(); err != nil {
		return fail(err)
	}
	for _, d := range dead {
		images++
		sim := d.sim.Kill()
		if rnd.IntN(3) > 0 {
			sim = d.sim.PowerCut(crash.Modes[rnd.IntN(len(crash.Modes))], rnd.Uint64())
		}
		if err := w.inspect(sim, d.fates); err != nil {
			return fail(fmt.Errorf("%s: %w", sim.Name(), err))
		}
	}
	return images, nil
}

func (w *halfWork) open(root fs.FS) (err error) {
	e := env.Env{Open: func(string, bool) (fs.FS, error) { return root, nil }, Clock: w.clock, Manual: true, PID: 7}
	if w.s, err = store.Open("crash", append(slices.Clip(w.opts), store.WithEnvironment(e))...); err != nil {
		return err
	}
	_, err = w.s.Halves().OnCheck("g", func(context.Context, *message.Half) (message.Decision, error) { return w.answer, nil }, message.CheckOptions{})
	return err
}

// update changes what is known between two operations of the disk.
func (w *halfWork) update(f func(fates map[string]fate)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w.fates)
}

// each is called for all halves with a state; it returns the new fate.
func (w *halfWork) each(in message.Decision, f func(x fate) fate) {
	w.update(func(fates map[string]fate) {
		for id, x := range fates {
			if x.stored && x.how == in {
				fates[id] = f(x)
			}
		}
	})
}

func (w *halfWork) pick(in message.Decision) (id string, ok bool) {
	for _, id := range slices.Sorted(maps.Keys(w.fates)) {
		if x := w.fates[id]; x.stored && x.how == in && (!ok || w.rnd.IntN(3) == 0) {
			return id, true
		}
	}
	return "", false
}

func (w *halfWork) step() error {
	switch k := w.rnd.IntN(20); {
	case k < 7:
		id := fmt.Sprintf("half-%d", len(w.fates))
		w.update(func(fates map[string]fate) { fates[id] = fate{} })
		m := &message.Message{Topic: "t", UniqueID: id, Body: append([]byte(id+"."), make([]byte, w.rnd.IntN(600))...)}
		_, _, err := w.s.Halves().Prepare(ctx, m, "g", message.HalfOptions{})
		w.update(func(fates map[string]fate) { fates[id] = fate{stored: true} })
		return err
	case k < 11:
		return w.end(message.Undecided, w.s.Halves().Commit)
	case k < 13:
		return w.end(message.Undecided, func(ctx context.Context, id message.HalfID) (message.Receipt, message.Decision, error) {
			how, err := w.s.Halves().Rollback(ctx, id)
			return message.Receipt{}, how, err
		})
	case k < 14:
		want := []message.Decision{message.Committed, message.RolledBack}[w.rnd.IntN(2)]
		return w.end(message.GivenUp, func(ctx context.Context, id message.HalfID) (message.Receipt, message.Decision, error) {
			return w.s.Halves().Recover(ctx, id, want)
		})
	case k < 16:
		return w.check([]message.Decision{message.Undecided, message.Undecided, message.Committed, message.RolledBack}[w.rnd.IntN(4)])
	case k < 17:
		return w.s.Checkpoint(ctx)
	case k < 18:
		w.clock.Advance(2 * time.Hour)
		return w.s.Retain()
	default:
		_, err := w.s.Put(ctx, &message.Message{Topic: "filler", Body: make([]byte, 1500)})
		return err
	}
}

// end gives a verdict on some half. While the call runs, any verdict may be found.
func (w *halfWork) end(in message.Decision, call func(context.Context, message.HalfID) (message.Receipt, message.Decision, error)) error {
	id, ok := w.pick(in)
	if !ok {
		return nil
	}
	w.update(func(fates map[string]fate) { fates[id] = fate{stored: true, how: in, may: anything} })
	_, how, err := call(ctx, message.HalfID(id))
	if err == nil && (how == in || how == message.Undecided) {
		err = fmt.Errorf("%s: the answer is %v", id, how)
	}
	w.update(func(fates map[string]fate) { fates[id] = fate{stored: true, how: how} })
	return err
}

const anything message.Decision = 255

// check has all halves asked about. Those that had their one check are given up.
func (w *halfWork) check(how message.Decision) error {
	w.answer = how
	w.clock.Advance(time.Minute)
	w.each(message.Undecided, func(x fate) fate { x.may = anything; return x })
	err := w.s.Step(ctx)
	w.update(func(fates map[string]fate) {
		for id, x := range fates {
			if x.stored && x.how == message.Undecided {
				got, e := w.s.Halves().State(message.HalfID(id))
				err = errors.Join(err, e)
				fates[id] = fate{stored: true, how: got}
			}
		}
	})
	return err
}

// verify compares the store with what is known.
func (w *halfWork) verify(fates map[string]fate) error {
	delivered := map[string]int{}
	if _, end, err := w.s.Bounds(message.Queue{Topic: "t"}); err == nil && end > 0 {
		start, _, _ := w.s.Bounds(message.Queue{Topic: "t"})
		for at := start; at < end; {
			b, err := w.s.Read(ctx, message.Queue{Topic: "t"}, at, message.Limit{}, nil)
			if err != nil {
				return err
			}
			for i := range b.Records {
				delivered[b.Records[i].UniqueID()]++
			}
			at = b.Next
		}
		if start > 0 {
			delivered["expired"] = 1
		}
	}
	for id, x := range fates {
		how, err := w.s.Halves().State(message.HalfID(id))
		switch {
		case errors.Is(err, store.ErrNotFound) && !x.stored:
		case err != nil:
			return fmt.Errorf("%s is lost: %w", id, err)
		case x.stored && how != x.how && x.may != anything:
			return fmt.Errorf("%s is %v, was acknowledged as %v", id, how, x.how)
		}
		want := 0
		if how == message.Committed {
			want = 1
		}
		if n := delivered[id]; n != want && (n != 0 || delivered["expired"] == 0) {
			return fmt.Errorf("%s is %v and delivered %d times", id, how, n)
		}
	}
	return nil
}

// inspect opens an image, compares, decides about everything, and opens it again.
func (w *halfWork) inspect(sim *crash.Sim, fates map[string]fate) error {
	c := &halfWork{rnd: w.rnd, clock: clock.NewManual(w.clock.Now()), opts: w.opts}
	if err := c.open(sim.FS()); err != nil {
		return err
	}
	err := c.verify(fates)
	if err == nil {
		err = c.finish(fates)
	}
	if err == nil {
		err = c.verify(fates)
	}
	if err == nil && w.rnd.IntN(2) == 0 {
		if err = c.s.Close(); err == nil {
			if err = c.open(sim.FS()); err != nil {
				return err
			}
			err = c.verify(fates)
		}
	}
	return errors.Join(err, c.s.Abandon())
}

// finish decides about what is open, and says so in fates.
func (w *halfWork) finish(fates map[string]fate) error {
	for h := range w.s.Halves().All() {
		var how message.Decision
		var err error
		switch {
		case h.GivenUp:
			_, how, err = w.s.Halves().Recover(ctx, h.ID, message.Committed)
		case w.rnd.IntN(2) == 0:
			_, how, err = w.s.Halves().Commit(ctx, h.ID)
		default:
			how, err = w.s.Halves().Rollback(ctx, h.ID)
		}
		if err != nil {
			return err
		}
		fates[string(h.ID)] = fate{stored: true, how: how}
	}
	return nil
}
