package store_test

import (
	"errors"
	"flag"
	"fmt"
	iofs "io/fs"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
)

var (
	crashImages = flag.Int("crash.images", 1200, "images that TestCrash opens")
	crashSeed   = flag.Uint64("crash.seed", 0, "replay the chain of this seed only; Pebble's goroutines make a replay differ a little, so it is done 50 times")
)

// TestCrash opens stores on machines that died, and demands of each that
// nothing promised is lost and nothing else turns up.
func TestCrash(t *testing.T) {
	c := newCampaign()
	if *crashSeed != 0 {
		for range 50 {
			if err := c.chain(*crashSeed); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	begun := time.Now()
	if seed, err := c.run(*crashImages); err != nil {
		t.Fatalf("%v\nreplay: go test ./store -run '^TestCrash$' -crash.seed=%d", err, seed)
	}
	t.Logf("%d images, %.0f a second", c.opened, float64(c.opened)/time.Since(begun).Seconds())
	for _, name := range slices.Sorted(maps.Keys(c.count)) {
		t.Logf("%8d %s", c.count[name], name)
	}
	if c.opened < 10_000 {
		return // too few to demand some of each
	}
	for _, class := range outcomes {
		if c.count[class] < 1000 {
			t.Errorf("only %d images of class %q", c.count[class], class)
		}
	}
	for _, part := range lawParts[:6] { // timers, halves and settled records have campaigns of their own
		if c.count[part] < 1000 {
			t.Errorf("the second law was looked at only %d times for %q", c.count[part], part)
		}
	}
}

// campaign counts over many chains, of which several run at once.
type campaign struct {
	mu     sync.Mutex
	opened int
	count  map[string]int
}

func newCampaign() *campaign { return &campaign{count: map[string]int{}} }

func (c *campaign) add(class string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count[class] += n
}

// run goes through the seeds from 1 on until so many images were opened, and
// returns the first seed that fails.
func (c *campaign) run(images int) (seed uint64, err error) {
	var wg sync.WaitGroup
	var next uint64
	for range 2 * runtime.GOMAXPROCS(0) { // an open waits for Pebble's goroutines most of the time
		wg.Go(func() {
			for {
				c.mu.Lock()
				if c.opened >= images || err != nil {
					c.mu.Unlock()
					return
				}
				next++
				mine := next
				c.mu.Unlock()
				if e := c.chain(mine); e != nil {
					c.mu.Lock()
					if err == nil {
						seed, err = mine, e
					}
					c.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return seed, err
}

// outcomes are the classes that a campaign must have met. Torn tails and half
// groups are rare here, and met by the million in the campaign of the log alone.
var outcomes = []string{
	"kill", "power cut", "kill, then power cut", "crash in Open", "disk: nothing kept", "disk: all kept", "disk: stale pages",
	"disk: pages with some stores", "disk: torn pages", "disk: garbage pages", "disk: old lengths", "disk: old names",
	"log: nothing lost", "log: zeros behind the end", "log: tail rewritten", "closed and opened",
}

var lawParts = []string{
	"law: queue entries", "law: saved queues", "law: offsets", "law: marks", "law: index", "law: keys", "law: timers", "law: halves", "law: settled",
}

// classes are the outcomes of a power cut.
func classes(o crash.Outcome) (is []string) {
	kept, lost := o.PagesNew+o.PagesPrefix+o.PagesTorn+o.SizesNew+o.NamesNew, o.PagesOld+o.SizesOld+o.NamesOld
	for _, c := range []struct {
		class string
		hit   bool
	}{
		{"disk: nothing kept", kept == 0 && lost > 0}, {"disk: all kept", lost+o.PagesPrefix+o.PagesTorn == 0 && kept > 0},
		{"disk: stale pages", o.PagesOld > 0 && kept > 0}, {"disk: pages with some stores", o.PagesPrefix > 0},
		{"disk: torn pages", o.PagesTorn > 0}, {"disk: garbage pages", o.PagesGarbage > 0},
		{"disk: old lengths", o.SizesOld > 0}, {"disk: old names", o.NamesOld > 0},
	} {
		if c.hit {
			is = append(is, c.class)
		}
	}
	return is
}

// chain is up to six crashes, one behind the other.
func (c *campaign) chain(seed uint64) error {
	w := newWork(seed, c)
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
			d.die(w.rnd, c)
			c.mu.Lock()
			c.opened++
			c.mu.Unlock()
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

// die decides how the machine died. Of several power cuts it takes the one
// whose classes were met least.
func (d *crashed) die(rnd *rand.Rand, c *campaign) {
	if d.inOpen {
		c.add("crash in Open", 1)
	}
	switch k := rnd.IntN(8); {
	case k < 2:
		d.sim = d.sim.Kill()
		c.add("kill", 1)
		return
	case k == 2:
		c.add("kill, then power cut", 1)
		d.sim = d.sim.Kill()
	}
	var cut *crash.Sim
	rarest := -1
	for range 6 {
		s := d.sim.PowerCut(crash.Modes[rnd.IntN(len(crash.Modes))], rnd.Uint64())
		rare := 1 << 30
		c.mu.Lock()
		for _, class := range classes(s.Outcome()) {
			rare = min(rare, c.count[class])
		}
		c.mu.Unlock()
		if cut == nil || rare < rarest {
			cut, rarest = s, rare
		}
	}
	d.sim = cut
	d.m.kept = d.m.safe
	d.law.cut()
	c.add("power cut", 1)
	for _, class := range classes(cut.Outcome()) {
		c.add(class, 1)
	}
}

// inspect opens a copy of a dead machine and compares, puts a little, and opens
// it once more.
func (w *work) inspect(d *crashed) error {
	c := *w
	c.m, c.law = d.m.clone(), d.law.clone()
	sim := d.sim.Kill()
	if c.rnd.IntN(16) == 0 {
		if err := c.lose(sim.FS()); err != nil {
			return err
		}
	}
	c.law.watch(sim)
	if err := c.open(sim.FS()); err != nil {
		return err
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
	c.law.report(c.c)
	return err
}

// lose removes files of derived state: what they hold must come back.
func (w *work) lose(root fs.FS) error {
	w.c.add("derived files lost", 1)
	kind := 1 + w.rnd.IntN(3)
	if kind&1 != 0 {
		if err := root.Remove("ember/queues"); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
	}
	if kind&2 != 0 {
		return removeTree(root, "consumequeue")
	}
	return nil
}

// removeTree removes what lies in a folder, and not the folder itself.
func removeTree(root fs.FS, dir string) error {
	list, err := root.List(dir)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	for _, e := range list {
		if e.Dir && err == nil {
			err = removeTree(root, dir+"/"+e.Name)
		}
		if err == nil {
			err = root.Remove(dir + "/" + e.Name)
		}
	}
	return err
}

// classify counts what recovery found.
func (w *work) classify(given int) {
	r := w.s.Log().Recovery()
	n := len(w.m.items)
	switch {
	case r.CutBytes > 0:
		w.c.add("log: torn tail", 1)
	case n < given:
		w.c.add("log: zeros behind the end", 1)
	default:
		w.c.add("log: nothing lost", 1)
	}
	if r.CutRecords > 0 {
		w.c.add("log: half group cut", 1)
	}
	if r.Rewritten > 0 {
		w.c.add("log: tail rewritten", 1)
	}
	if r.Clean {
		w.c.add("log: clean", 1)
	}
}
