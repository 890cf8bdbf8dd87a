package store_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var (
	settleImages = flag.Int("settle.images", 200, "images that TestSettleCrash opens")
	settleSeed   = flag.Uint64("settle.seed", 0, "replay this seed only")
)

// TestSettleCrash kills consumers in the middle of every kind of verdict and looks
// at what is left: every message waits for its group in exactly one place, unless
// somebody has settled it.
func TestSettleCrash(t *testing.T) {
	if *settleSeed != 0 {
		if _, err := crashSettles(*settleSeed); err != nil {
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
			for images < *settleImages && !t.Failed() {
				seed++
				mine := seed
				mu.Unlock()
				n, err := crashSettles(mine)
				mu.Lock()
				images += n
				if err != nil {
					t.Errorf("%v\nreplay: go test ./store -run '^TestSettleCrash$' -settle.seed=%d", err, mine)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d images", images)
}

// ending is what is known of a message.
type ending struct {
	stored bool // its Put has returned
	tried  bool // somebody may have settled it for good
	ended  bool // … has, and that was synced
	failed bool // there was a verdict that may have made it a dead letter
	// behind are those that the group had settled for good when the first such
	// verdict made this one a dead letter. With it they stay settled.
	behind []string
}

// settler consumes topic t with group g and topic u with group u, which leases.
type settler struct {
	rnd    *rand.Rand
	clock  *clock.Manual
	opts   []store.Option
	s      *store.Store
	seat   *group.Membership
	leases group.Claim

	mu    sync.Mutex
	known map[string]ending
	acked []string // ended, but not synced
}

type settleDeath struct {
	sim   *crash.Sim
	known map[string]ending
}

var settleTopics = map[string]string{"g": "t", "u": "u"}

func crashSettles(seed uint64) (images int, err error) {
	rnd := rand.New(rand.NewPCG(seed, 11))
	w := &settler{rnd: rnd, clock: clock.NewManual(time.UnixMilli(1_700_000_000_000)), known: map[string]ending{}}
	w.opts = []store.Option{
		store.WithSegmentSize(8192), store.WithMaxUnsynced(8192), store.WithRetention(time.Hour), store.WithTopicQueues(1),
		store.WithDurability([]message.Durability{message.OnDisk, message.InCache}[rnd.IntN(2)]),
	}
	var dead []settleDeath
	t := &tap{sim: crash.New(seed), picks: map[int]bool{}}
	t.crash = func(c *crash.Sim) {
		w.mu.Lock()
		defer w.mu.Unlock()
		dead = append(dead, settleDeath{c, maps.Clone(w.known)})
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
	for range 60 {
		if err := w.step(); err != nil {
			return fail(errors.Join(err, w.s.Abandon()))
		}
	}
	if err := w.verify(); err != nil {
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
		c := &settler{rnd: rnd, clock: clock.NewManual(w.clock.Now()), opts: w.opts, known: d.known}
		if err := c.inspect(sim); err != nil {
			return fail(fmt.Errorf("%s: %w", sim.Name(), err))
		}
	}
	return images, nil
}

func (w *settler) open(root fs.FS) (err error) {
	e := env.Env{Open: func(string, bool) (fs.FS, error) { return root, nil }, Clock: w.clock, Manual: true, PID: 7}
	if w.s, err = store.Open("crash", append(slices.Clip(w.opts), store.WithEnvironment(e))...); err != nil {
		return err
	}
	for _, topic := range settleTopics {
		if err := w.s.CreateTopic(ctx, store.Topic{Name: topic}); err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	w.seat, err = w.s.Groups().Join(ctx, group.Member{Group: "g", Subscriptions: map[string]string{"t": "*"}})
	if err != nil {
		return err
	}
	m, err := w.s.Groups().Join(ctx, group.Member{Group: "u", Mode: group.Shared, Subscriptions: map[string]string{"u": "*"}})
	if err != nil {
		return err
	}
	ch, err := m.Next(ctx)
	if err != nil {
		return err
	}
	w.leases = ch.Given[0]
	// A place in the topics keeps retention off them, as a consumer's start does.
	for name, c := range map[string]group.Claim{"g": w.seat.Claim(), "u": w.leases} {
		q := message.Queue{Topic: settleTopics[name]}
		if !w.s.Progress().Place(name, q).Known {
			if err := w.s.Settle(ctx, c, message.Verdict{Queue: q, Offset: -1, Kind: message.DoneThrough}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *settler) note(id string, f func(e *ending)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.known[id]
	f(&e)
	w.known[id] = e
}

func (w *settler) step() error {
	switch k := w.rnd.IntN(24); {
	case k < 8:
		return w.put([]string{"t", "u"}[w.rnd.IntN(2)])
	case k < 14:
		return w.verdict()
	case k < 17:
		return w.lease()
	case k < 18:
		_, err := w.s.DeadLetters().Redrive(ctx, []string{"g", "u"}[w.rnd.IntN(2)], store.Redrive{Max: 2})
		return err
	case k < 19:
		return w.discard()
	case k < 20:
		return w.s.Checkpoint(ctx)
	case k < 21:
		return w.sync()
	case k < 22:
		w.clock.Advance(2 * time.Hour)
		return w.s.Retain()
	case k < 23:
		w.clock.Advance(time.Minute)
		return w.s.Step(ctx)
	default:
		_, err := w.s.Put(ctx, &message.Message{Topic: "filler", Body: make([]byte, 1500)})
		return err
	}
}

func (w *settler) put(topic string) error {
	id := fmt.Sprintf("%s-%d", topic, len(w.known))
	w.note(id, func(*ending) {})
	_, err := w.s.Put(ctx, &message.Message{Topic: topic, UniqueID: id, Body: make([]byte, w.rnd.IntN(600)), Durability: message.OnDisk})
	w.note(id, func(e *ending) { e.stored = true })
	return err
}

// sync makes sure of all that was settled.
func (w *settler) sync() error {
	if err := w.s.Sync(ctx); err != nil {
		return err
	}
	for _, id := range w.acked {
		w.note(id, func(e *ending) { e.ended = true })
	}
	w.acked = nil
	return nil
}

func (w *settler) done(id string, call func() error) error {
	w.note(id, func(e *ending) { e.tried = true })
	if err := call(); err != nil {
		return err
	}
	w.acked = append(w.acked, id)
	return nil
}

// verdict settles some record that waits for group g.
func (w *settler) verdict() error {
	q := message.Queue{Topic: []string{"t", "%RETRY%g"}[w.rnd.IntN(2)]}
	open, err := w.waiting("g", q)
	if err != nil || len(open) == 0 {
		return err
	}
	r := open[w.rnd.IntN(min(len(open), 4))]
	v := message.Verdict{Queue: q, Offset: r.Offset(), Kind: message.Retry}
	switch w.rnd.IntN(7) {
	case 0:
		v.Kind = message.DeadLetter
		w.note(r.UniqueID(), func(e *ending) {
			if !e.failed {
				e.behind = w.ackedOf("t")
			}
		})
	case 1:
		v.After = -1
	case 2:
		v.After = 7 * time.Second
	case 3:
		v.Kind = message.Failed
	case 4, 5:
		v.Kind = message.Done
		return w.done(r.UniqueID(), func() error { return w.s.Settle(ctx, w.seat.Claim(), v) })
	}
	w.note(r.UniqueID(), func(e *ending) { e.failed = true })
	return w.s.Settle(ctx, w.seat.Claim(), v)
}

// ackedOf are the messages of a topic that were settled and not synced yet.
func (w *settler) ackedOf(topic string) (ids []string) {
	for _, id := range w.acked {
		if strings.HasPrefix(id, topic+"-") {
			ids = append(ids, id)
		}
	}
	return ids
}

func (w *settler) lease() error {
	b, err := w.s.Lease(ctx, w.leases, nil, message.Limit{Count: 1 + w.rnd.IntN(3)}, time.Minute, 0)
	for i := range b.Records {
		r := &b.Records[i]
		v := message.Verdict{Queue: w.leases.Queue, Offset: r.Record.Offset(), Kind: message.Retry, After: -1, Lease: r.Lease}
		settle := func() error { return w.s.Settle(ctx, w.leases, v) }
		switch w.rnd.IntN(4) {
		case 0:
			err = errors.Join(err, settle())
		case 1:
			v.Kind = message.DeadLetter
			err = errors.Join(err, settle())
		case 2:
			v.Kind = message.Done
			err = errors.Join(err, w.done(r.Record.UniqueID(), settle))
		}
	}
	return err
}

// discard deletes one dead letter.
func (w *settler) discard() error {
	for d, err := range w.s.DeadLetters().All(ctx, "g") {
		if err != nil {
			return err
		}
		err = w.done(d.ID, func() error {
			_, err := w.s.DeadLetters().Delete(ctx, "g", func(x *store.DeadLetter) bool { return x.Offset == d.Offset })
			return err
		})
		return err
	}
	return nil
}

// waiting reads what a group has not settled in a queue, which may not exist.
func (w *settler) waiting(name string, q message.Queue) (open []message.Record, err error) {
	start, end, err := w.s.Bounds(q)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	st := w.s.Progress().Place(name, q)
	if st.Committed > end {
		return nil, fmt.Errorf("%s: committed %d of %s, which ends at %d", name, st.Committed, q, end)
	}
	for at := max(start, st.Committed); at < end && err == nil; {
		var b message.Batch
		b, err = w.s.Read(ctx, q, at, message.Limit{}, nil)
		for _, r := range b.Records {
			if !slices.ContainsFunc(st.Settled, func(s message.Range) bool { return s.From <= r.Offset() && r.Offset() < s.To }) {
				open = append(open, r)
			}
		}
		at = b.Next
	}
	return open, err
}

// verify counts in how many places each message waits.
func (w *settler) verify() error {
	w.clock.Advance(3 * time.Hour) // every retry is due
	if err := w.s.Step(ctx); err != nil {
		return err
	}
	if n := w.s.Timers().Len(); n > 0 {
		return fmt.Errorf("%d timers are pending", n)
	}
	places, buried := map[string]int{}, []string{}
	for name, topic := range settleTopics {
		for _, topic := range []string{topic, message.PrefixRetry + name} {
			open, err := w.waiting(name, message.Queue{Topic: topic})
			if err != nil {
				return err
			}
			for i := range open {
				places[open[i].UniqueID()]++
			}
		}
		for d, err := range w.s.DeadLetters().All(ctx, name) {
			if err != nil {
				return err
			}
			places[d.ID]++
			if name == "g" {
				buried = append(buried, d.ID)
			}
		}
	}
	for _, id := range buried {
		for _, earlier := range w.known[id].behind {
			if places[earlier] > 0 {
				return fmt.Errorf("%s is back although it was settled before the dead letter %s", earlier, id)
			}
		}
	}
	for id, e := range w.known {
		switch n := places[id]; {
		case n > 1:
			return fmt.Errorf("%s waits in %d places", id, n)
		case n == 0 && e.stored && !e.tried:
			return fmt.Errorf("%s was skipped", id)
		case n > 0 && e.ended:
			return fmt.Errorf("%s is back although its end was synced", id)
		}
	}
	return nil
}

// inspect opens an image, compares, works on, and opens it again.
func (w *settler) inspect(sim *crash.Sim) error {
	if err := w.open(sim.FS()); err != nil {
		return err
	}
	err := w.verify()
	for id := range w.known { // what was lost may be decided in another order now
		w.note(id, func(e *ending) { e.failed, e.behind = true, nil })
	}
	for range 10 {
		if err == nil {
			err = w.step()
		}
	}
	if err == nil {
		err = w.verify()
	}
	if err == nil && w.rnd.IntN(2) == 0 {
		if err = w.s.Close(); err == nil {
			if err = w.open(sim.FS()); err != nil {
				return err
			}
			err = w.verify()
		}
	}
	return errors.Join(err, w.s.Abandon())
}
