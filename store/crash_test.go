package store_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/embermq/embermq/internal/crash"
)

var (
	crashImages = flag.Int("crash.images", 1200, "images that TestCrash opens")
	crashSeed   = flag.Uint64("crash.seed", 0, "replay the chain of this seed only; Pebble's goroutines make a replay differ a little, so it is done 50 times")
)

// TestCrash opens stores on machines that died, and demands of each that
// nothing promised is lost and nothing else turns up.
func TestCrash(t *testing.T) {
	count := map[string]int{}
	begun := time.Now()
	opened := 0
	if *crashSeed != 0 {
		for range 50 {
			if err := chain(*crashSeed, count, &opened); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	for seed := uint64(1); opened < *crashImages; seed++ {
		if err := chain(seed, count, &opened); err != nil {
			t.Fatalf("%v\nreplay: go test ./store -run '^TestCrash$' -crash.seed=%d", err, seed)
		}
	}
	t.Logf("%d images, %.0f a second", opened, float64(opened)/time.Since(begun).Seconds())
	for _, name := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%8d %s", count[name], name)
	}
	if opened < 10_000 {
		return // too few to demand some of each
	}
	for _, class := range outcomes {
		if count[class] < 1000 {
			t.Errorf("only %d images of class %q", count[class], class)
		}
	}
}

// outcomes are the classes that a campaign must have met.
var outcomes = []string{
	"kill", "power cut", "kill, then power cut", "crash in Open", "disk: nothing unsynced kept", "disk: pages kept", "disk: stale pages",
	"disk: pages with some stores", "disk: torn pages", "disk: garbage pages", "disk: old lengths", "disk: old names",
	"log: nothing lost", "log: zeros behind the end", "log: torn tail", "log: tail rewritten",
}

// chain is up to six crashes, one behind the other.
func chain(seed uint64, count map[string]int, opened *int) error {
	w := newWork(seed, count)
	sim := crash.New(seed)
	need := 0
	for range 1 + w.rnd.IntN(6) {
		dead, err := w.epoch(sim, need)
		if err != nil {
			return fmt.Errorf("seed %d, %s: %w", seed, sim.Name(), err)
		}
		if len(dead) == 0 {
			return nil
		}
		for i := range dead {
			d := &dead[i]
			d.die(w.rnd, count)
			*opened++
			// The machine is looked at in a copy; the chain may go on without.
			if err := w.inspect(d); err != nil {
				return fmt.Errorf("seed %d, %s: %w", seed, d.sim.Name(), err)
			}
		}
		next := &dead[w.rnd.IntN(len(dead))]
		sim, w.m, w.law, need = next.sim, next.m, next.law, next.m.kept
	}
	return nil
}

// die decides how the machine died.
func (d *crashed) die(rnd *rand.Rand, count map[string]int) {
	switch k := rnd.IntN(8); {
	case k < 3:
		d.sim = d.sim.Kill()
		count["kill"]++
		return
	case k == 3:
		count["kill, then power cut"]++
		d.sim = d.sim.Kill()
	}
	d.sim = d.sim.PowerCut(crash.Modes[rnd.IntN(len(crash.Modes))], rnd.Uint64())
	d.m.kept = d.m.safe
	d.law.cut()
	count["power cut"]++
	o := d.sim.Outcome()
	for _, c := range []struct {
		class string
		hit   bool
	}{
		{"disk: nothing unsynced kept", o.PagesOld > 0 && o.PagesNew+o.PagesPrefix+o.PagesTorn == 0},
		{"disk: pages kept", o.PagesNew > 0}, {"disk: stale pages", o.PagesOld > 0}, {"disk: pages with some stores", o.PagesPrefix > 0},
		{"disk: torn pages", o.PagesTorn > 0}, {"disk: garbage pages", o.PagesGarbage > 0},
		{"disk: old lengths", o.SizesOld > 0}, {"disk: old names", o.NamesOld > 0},
	} {
		if c.hit {
			count[c.class]++
		}
	}
}

// inspect opens a copy of a dead machine and compares, puts a little, and opens
// it once more.
func (w *work) inspect(d *crashed) error {
	c := *w
	c.m, c.law = d.m.clone(), d.law.clone()
	sim := d.sim.Kill()
	c.law.watch(sim)
	if err := c.open(sim.FS()); err != nil {
		return err
	}
	if !c.s.Stats().Recovery.New && d.m.serial == 0 {
		w.count["crash in Open"]++
	}
	err := c.m.settle(c.s, d.m.kept, c.law)
	c.classify(len(d.m.items))
	if err == nil {
		err = c.run(1 + c.rnd.IntN(4))
	}
	if err == nil && c.rnd.IntN(2) == 0 {
		err = c.reopen()
	}
	if e := c.s.Abandon(); err == nil {
		err = e
	}
	if n := sim.OpenFiles(); err == nil && n > 0 {
		return wrongf("%d files stay open", n)
	}
	return err
}

// classify counts what recovery found.
func (w *work) classify(given int) {
	r := w.s.Log().Recovery()
	n := len(w.m.items)
	switch {
	case r.CutBytes > 0:
		w.count["log: torn tail"]++
	case n < given:
		w.count["log: zeros behind the end"]++
	default:
		w.count["log: nothing lost"]++
	}
	if r.CutRecords > 0 {
		w.count["log: half group cut"]++
	}
	if r.Rewritten > 0 {
		w.count["log: tail rewritten"]++
	}
	if r.Clean {
		w.count["log: clean"]++
	}
}
