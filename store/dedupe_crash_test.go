package store_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var (
	dedupeImages = flag.Int("dedupe.images", 250, "images that TestDedupeCrash opens")
	dedupeSeed   = flag.Uint64("dedupe.seed", 0, "replay this seed only")
)

// dedupeFound are seeds that have failed.
var dedupeFound = []uint64{
	338, // a power cut left a wild time in RocketMQ's checkpoint, and every key was too old
}

// TestDedupeCrash kills a store that remembers keys at every kind of moment, also
// between the append of a record and the answer, and puts the keys again: of one
// key no two records lie closer than the window, and who was answered once is
// answered the same.
func TestDedupeCrash(t *testing.T) {
	if *dedupeSeed != 0 {
		if _, err := crashDedupe(*dedupeSeed); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, seed := range dedupeFound {
		_, err := crashDedupe(seed)
		require.NoError(t, err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	images, seed := 0, uint64(0)
	for range 4 { // an open waits most of the time
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for images < *dedupeImages && !t.Failed() {
				seed++
				mine := seed
				mu.Unlock()
				n, err := crashDedupe(mine)
				mu.Lock()
				images += n
				if err != nil {
					t.Errorf("%v\nreplay: go test ./store -run '^TestDedupeCrash$' -dedupe.seed=%d", err, mine)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d images", images)
}

const (
	onceWindow = time.Hour
	onceDelay  = time.Minute
	onceKeys   = 12
)

// answered is what the last put of a key was told, and when that was stored.
type answered struct {
	receipt message.Receipt
	at      time.Time
}

type onceWork struct {
	rnd   *rand.Rand
	clock *clock.Manual
	opts  []store.Option
	s     *store.Store

	mu    sync.Mutex
	known map[string]answered
}

type onceCrash struct {
	sim   *crash.Sim
	known map[string]answered
	now   time.Time
}

// crashDedupe runs one script and returns how many images of it were opened.
func crashDedupe(seed uint64) (images int, err error) {
	rnd := rand.New(rand.NewPCG(seed, 8))
	durability := []message.Durability{message.OnDisk, message.InCache}[rnd.IntN(2)]
	w := &onceWork{rnd: rnd, clock: clock.NewManual(time.UnixMilli(1_700_000_000_000)), known: map[string]answered{}}
	w.opts = []store.Option{
		store.WithSegmentSize(8192), store.WithMaxUnsynced(8192), store.WithRetention(3 * onceWindow), store.WithTopicQueues(1),
		store.WithDurability(durability), store.WithDedupe(onceWindow, 1000),
	}
	var dead []onceCrash
	t := &tap{sim: crash.New(seed), picks: map[int]bool{}}
	t.crash = func(c *crash.Sim) {
		w.mu.Lock()
		defer w.mu.Unlock()
		dead = append(dead, onceCrash{c, maps.Clone(w.known), w.clock.Now()})
	}
	for op := range 3000 {
		if rnd.IntN(40) == 0 {
			t.picks[op] = rnd.IntN(2) == 0
		}
	}
	fail := func(err error) (int, error) { return images, fmt.Errorf("seed %d: %w", seed, err) }
	if err := w.open(t.fs()); err != nil {
		return fail(err)
	}
	for range 50 {
		if err := w.step(); err != nil {
			return fail(errors.Join(err, w.s.Abandon()))
		}
	}
	if err := errors.Join(w.law(), w.s.Abandon()); err != nil {
		return fail(err)
	}
	for _, d := range dead {
		images++
		sim := d.sim.Kill()
		if rnd.IntN(2) == 0 {
			sim = d.sim.PowerCut(crash.Modes[rnd.IntN(len(crash.Modes))], rnd.Uint64())
			if durability == message.InCache {
				d.known = map[string]answered{} // it may have taken them all
			}
		}
		if err := w.inspect(sim, d); err != nil {
			return fail(fmt.Errorf("%s: %w", sim.Name(), err))
		}
	}
	return images, nil
}

func (w *onceWork) open(root fs.FS) (err error) {
	e := env.Env{Open: func(string, bool) (fs.FS, error) { return root, nil }, Clock: w.clock, Manual: true, PID: 7}
	w.s, err = store.Open("crash", append(slices.Clip(w.opts), store.WithEnvironment(e))...)
	return err
}

func (w *onceWork) step() error {
	switch k := w.rnd.IntN(20); {
	case k < 14:
		return w.put()
	case k < 16:
		return w.s.Checkpoint(ctx)
	case k < 18:
		w.clock.Advance(time.Duration(1+w.rnd.IntN(30)) * time.Minute)
		return w.s.Step(ctx)
	case k < 19:
		return w.s.Retain()
	default:
		_, err := w.s.Put(ctx, &message.Message{Topic: "filler", Body: make([]byte, 1500)})
		return err
	}
}

// put puts some keys in one of the ways there are. Those whose number is odd wait
// for a time first.
func (w *onceWork) put() error {
	var ms []*message.Message
	for _, n := range w.rnd.Perm(onceKeys)[:1+w.rnd.IntN(3)] {
		ms = append(ms, w.message(n))
	}
	switch w.rnd.IntN(3) {
	case 0:
		return w.putEach(ms[:1], w.s.Put)
	case 1:
		rs, err := w.s.PutBatch(ctx, ms)
		if err != nil {
			return err
		}
		for i, m := range ms {
			if err := w.answered(m, rs[i]); err != nil {
				return err
			}
		}
		return nil
	}
	var waits []*message.Pending
	for _, m := range ms {
		waits = append(waits, w.s.PutAsync(ctx, m))
	}
	if err := w.s.Step(ctx); err != nil {
		return err
	}
	for i, m := range ms {
		r, err := waits[i].Wait(ctx)
		if err == nil {
			err = w.answered(m, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// message is one of a key. Its body tells when it was put: the same time as its
// record, or as that of the record in which it waited.
func (w *onceWork) message(n int) *message.Message {
	key := "key-" + strconv.Itoa(n)
	m := &message.Message{Topic: "t", IdempotencyKey: key, Body: []byte(key + " " + strconv.FormatInt(w.clock.Now().UnixMilli(), 10))}
	if n%2 == 1 {
		m.Delay = onceDelay
	}
	return m
}

// answered compares an answer with the one before, while the window lasts.
func (w *onceWork) answered(m *message.Message, r message.Receipt) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	old, ok := w.known[m.IdempotencyKey]
	if ok && w.clock.Now().Before(old.at.Add(onceWindow)) {
		if r != old.receipt {
			return fmt.Errorf("%s: answered %+v, and then %+v", m.IdempotencyKey, old.receipt, r)
		}
		return nil
	}
	w.known[m.IdempotencyKey] = answered{r, r.StoredAt}
	return nil
}

func (w *onceWork) putEach(ms []*message.Message, put func(context.Context, *message.Message) (message.Receipt, error)) error {
	for _, m := range ms {
		r, err := put(ctx, m)
		if err == nil {
			err = w.answered(m, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// law looks at what was delivered: of no key two within the window.
func (w *onceWork) law() error {
	q := message.Queue{Topic: "t"}
	at, end, err := w.s.Bounds(q)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	times := map[string][]int64{}
	for at < end {
		b, err := w.s.Read(ctx, q, at, message.Limit{}, nil)
		if err != nil {
			return err
		}
		for i := range b.Records {
			key, ms, _ := strings.Cut(string(b.Records[i].Body()), " ")
			n, err := strconv.ParseInt(ms, 10, 64)
			if err != nil {
				return err
			}
			times[key] = append(times[key], n)
		}
		at = b.Next
	}
	for key, ts := range times {
		slices.Sort(ts)
		for i := range ts[1:] {
			if ts[i+1]-ts[i] < onceWindow.Milliseconds() {
				return fmt.Errorf("%s was stored at %d and at %d", key, ts[i], ts[i+1])
			}
		}
	}
	return nil
}

// inspect opens an image and puts all keys, and again after another restart.
func (w *onceWork) inspect(sim *crash.Sim, d onceCrash) error {
	c := &onceWork{rnd: w.rnd, clock: clock.NewManual(d.now), opts: w.opts, known: d.known}
	if err := c.open(sim.FS()); err != nil {
		return err
	}
	all := func() error {
		var ms []*message.Message
		for n := range onceKeys {
			ms = append(ms, c.message(n))
		}
		return c.putEach(ms, c.s.Put)
	}
	err := all()
	if err == nil && c.rnd.IntN(2) == 0 {
		if err = c.s.Close(); err == nil {
			if err = c.open(sim.FS()); err != nil {
				return err
			}
			err = all()
		}
	}
	if err == nil { // what waits is delivered
		c.clock.Advance(onceDelay)
		err = errors.Join(c.s.Step(ctx), c.law())
	}
	return errors.Join(err, c.s.Abandon())
}
