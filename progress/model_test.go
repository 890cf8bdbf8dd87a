package progress

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/message"
)

// state is what the model knows of all groups: a plain map of maps.
type state map[string]*modelGroup

type modelGroup struct {
	settings Group
	offsets  map[message.Queue]int64
}

func (s state) clone() state {
	c := make(state, len(s))
	for name, g := range s {
		c[name] = &modelGroup{settings: g.settings, offsets: maps.Clone(g.offsets)}
	}
	return c
}

// model runs random calls on a Progress and on two maps: what is in memory and
// what a crash leaves. Batches and syncs of the log fail now and then, on
// either side of the disk.
type model struct {
	t       testing.TB
	rng     *rand.Rand
	p       *Progress
	db      *faultyDB
	log     *fakeLog
	clock   *clock.Manual
	o       Options
	memory  state
	durable state
	epochs  map[string]uint64 // the highest that a call returned under
	crashes int
}

var (
	modelGroups = []string{"a", "ab", "b", "c-1"}
	modelTopics = []string{"t", "t-1", "u"}
)

func newModel(t testing.TB, seed uint64) *model {
	m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 1)), db: newDB(t), log: newLog(modelTopics...),
		clock: clock.NewManual(day), memory: state{}, durable: state{}, epochs: map[string]uint64{}}
	m.o = Options{Bounds: m.log.bounds, SyncLog: m.log.sync, Manual: true, Clock: m.clock}
	return m
}

func (m *model) open() (err error) {
	m.p, err = Open(bg, m.db, m.o)
	return err
}

func (m *model) run(steps int) error {
	if err := m.open(); err != nil {
		return err
	}
	for i := range steps {
		m.clock.Advance(time.Duration(m.rng.Int64N(int64(20 * time.Minute))))
		if err := m.step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return m.restart()
}

func (m *model) step() error {
	name := modelGroups[m.rng.IntN(len(modelGroups))]
	switch m.rng.IntN(20) {
	case 0, 1, 2:
		m.log.append(m.queue(), 1+m.rng.Int64N(5))
		return nil
	case 3, 4, 5, 6:
		return m.commit(name)
	case 7:
		return m.reset(name)
	case 8:
		return m.clone(name)
	case 9:
		m.drop(modelTopics[m.rng.IntN(len(modelTopics))])
		return nil
	case 10:
		return m.create(name)
	case 11:
		return m.update(name)
	case 12:
		return m.delete(name)
	case 13, 14, 15:
		return m.flush()
	case 16:
		m.p.Touch(name)
		return nil
	case 17:
		return m.restart()
	case 18:
		return m.crash(false)
	default:
		return m.crash(true)
	}
}

func (m *model) queue() message.Queue {
	return queue(modelTopics[m.rng.IntN(len(modelTopics))], m.rng.Int32N(4))
}

func (m *model) offsets() map[message.Queue]int64 {
	offsets := make(map[message.Queue]int64)
	for range m.rng.IntN(4) {
		q := m.queue()
		_, end, _ := m.log.bounds(q)
		offsets[q] = end - m.rng.Int64N(10)
	}
	return offsets
}

// outcome arms the next batch and says whether the call works and whether the
// disk changes.
func (m *model) outcome() (ok, onDisk bool, sentinel error) {
	switch m.rng.IntN(8) {
	case 0:
		m.db.fail(failsBefore)
		return false, false, errDisk
	case 1:
		m.db.fail(failsAfter)
		return false, true, errDisk
	}
	return true, true, nil
}

// edit carries a durable call out and its effect on both maps.
func (m *model) edit(call func() error, effect func(state)) error {
	ok, onDisk, want := m.outcome()
	err := call()
	m.db.fail(works)
	if !errors.Is(err, want) {
		return fmt.Errorf("got %v, want %v", err, want)
	}
	if ok {
		effect(m.memory)
	}
	if onDisk {
		effect(m.durable)
	}
	return m.compare(m.memory)
}

// raised is an effect's last word on epochs: they rise over all that was seen.
func (m *model) raised(name string) error {
	e := m.p.Epoch(name)
	if e <= m.epochs[name] {
		return fmt.Errorf("epoch of %s: %d after %d", name, e, m.epochs[name])
	}
	m.epochs[name] = e
	return nil
}

func (m *model) ensure(name string) error {
	if m.memory[name] != nil {
		return nil
	}
	return m.create(name)
}

func (m *model) create(name string) error {
	s := Group{Name: name, RetryMax: 1 + m.rng.IntN(5), RetryQueues: 1, Disabled: m.rng.IntN(2) == 0}
	if m.memory[name] != nil {
		if err := m.p.CreateGroup(bg, s); !errors.Is(err, message.ErrExists) {
			return fmt.Errorf("create twice: %v", err)
		}
		return nil
	}
	worked := false
	err := m.edit(func() error { err := m.p.CreateGroup(bg, s); worked = err == nil; return err }, func(st state) {
		st[name] = &modelGroup{settings: s, offsets: map[message.Queue]int64{}}
	})
	if err == nil && worked {
		return m.raised(name)
	}
	return err
}

func (m *model) update(name string) error {
	s := Group{Name: name, RetryMax: 1 + m.rng.IntN(5), RetryQueues: 1 + m.rng.IntN(3)}
	if m.memory[name] == nil {
		if err := m.p.UpdateGroup(bg, s); !errors.Is(err, message.ErrNotFound) {
			return fmt.Errorf("update of nobody: %v", err)
		}
		return nil
	}
	return m.edit(func() error { return m.p.UpdateGroup(bg, s) }, func(st state) {
		if st[name] != nil {
			st[name].settings = s
		} else {
			st[name] = &modelGroup{settings: s, offsets: map[message.Queue]int64{}}
		}
	})
}

func (m *model) delete(name string) error {
	if m.memory[name] == nil {
		return nil
	}
	worked := false
	err := m.edit(func() error { err := m.p.DeleteGroup(bg, name); worked = err == nil; return err },
		func(st state) { delete(st, name) })
	if err == nil && worked {
		return m.raised(name)
	}
	return err
}

func (m *model) commit(name string) error {
	if err := m.ensure(name); err != nil || m.memory[name] == nil {
		return err
	}
	offsets := m.offsets()
	if err := m.p.Commit(bg, name, offsets); err != nil {
		return err
	}
	for q, offset := range offsets {
		if old, ok := m.memory[name].offsets[q]; !ok || offset > old {
			m.memory[name].offsets[q] = offset
		}
	}
	return m.compare(m.memory)
}

// moved is the effect of an edit that writes the group's row as well.
func (m *model) moved(name string, f func(offsets map[message.Queue]int64)) func(state) {
	settings := m.memory[name].settings
	return func(st state) {
		if st[name] == nil {
			st[name] = &modelGroup{offsets: map[message.Queue]int64{}}
		}
		st[name].settings = settings
		f(st[name].offsets)
	}
}

func (m *model) reset(name string) error {
	if err := m.ensure(name); err != nil || m.memory[name] == nil {
		return err
	}
	offsets, worked := m.offsets(), false
	err := m.edit(func() error { err := m.p.Reset(bg, name, offsets); worked = err == nil; return err },
		m.moved(name, func(have map[message.Queue]int64) { maps.Copy(have, offsets) }))
	if err == nil && worked {
		return m.raised(name)
	}
	return err
}

func (m *model) clone(to string) error {
	from := modelGroups[m.rng.IntN(len(modelGroups))]
	topic := modelTopics[m.rng.IntN(len(modelTopics))]
	if from == to || m.memory[from] == nil {
		return nil
	}
	source := maps.Clone(m.memory[from].offsets)
	other := func(q message.Queue, _ int64) bool { return q.Topic != topic }
	maps.DeleteFunc(source, other)
	if len(source) == 0 {
		return nil
	}
	if err := m.ensure(to); err != nil || m.memory[to] == nil {
		return err
	}
	worked := false
	err := m.edit(func() error { err := m.p.Clone(bg, from, to, topic); worked = err == nil; return err },
		m.moved(to, func(have map[message.Queue]int64) {
			maps.DeleteFunc(have, func(q message.Queue, o int64) bool { return !other(q, o) })
			maps.Copy(have, source)
		}))
	if err == nil && worked {
		return m.raised(to)
	}
	return err
}

func (m *model) drop(topic string) {
	m.p.DropTopic(topic)
	for _, g := range m.memory {
		maps.DeleteFunc(g.offsets, func(q message.Queue, _ int64) bool { return q.Topic == topic })
	}
}

func (m *model) flush() error {
	if m.rng.IntN(10) == 0 {
		m.log.err = errDisk
		err := m.p.Flush(bg)
		m.log.err = nil
		switch {
		case err == nil: // nothing was pending, or nothing that needs the log
			m.durable = m.memory.clone()
		case !errors.Is(err, errDisk):
			return err
		}
		return nil
	}
	before := m.db.count()
	_, onDisk, want := m.outcome()
	err := m.p.Flush(bg)
	m.db.fail(works)
	if m.db.count() == before { // nothing to write
		onDisk, want = true, nil
	}
	if !errors.Is(err, want) {
		return fmt.Errorf("flush: got %v, want %v", err, want)
	}
	if onDisk {
		m.durable = m.memory.clone()
	}
	return nil
}

func (m *model) restart() error {
	if err := m.p.Close(); err != nil {
		return err
	}
	m.durable = m.memory.clone()
	return m.reopen()
}

// crash kills the process; a cut takes the unsynced end of the log as well.
func (m *model) crash(cut bool) error {
	m.crashes++
	m.p.stop()
	if cut {
		m.log.cut()
	}
	return m.reopen()
}

func (m *model) reopen() error {
	if err := m.open(); err != nil {
		return err
	}
	m.memory = m.durable.clone()
	for name, g := range m.memory {
		for q, offset := range g.offsets {
			if _, end, err := m.log.bounds(q); err != nil || offset > end {
				return fmt.Errorf("%s of %s: offset %d is past the log's end %d", q, name, offset, end)
			}
		}
	}
	if n, err := m.p.Clamp(bg, m.log.known); n != 0 || err != nil {
		return fmt.Errorf("clamped %d offsets, %v", n, err)
	}
	for name, epoch := range m.epochs {
		if e := m.p.Epoch(name); e < epoch {
			return fmt.Errorf("epoch of %s: %d after %d", name, e, epoch)
		}
	}
	return m.compare(m.memory)
}

func (m *model) compare(want state) error {
	groups := m.p.Groups()
	if len(groups) != len(want) {
		return fmt.Errorf("groups %v, want %v", groups, want)
	}
	for _, s := range groups {
		g := want[s.Name]
		if g == nil || g.settings != s {
			return fmt.Errorf("group %+v, want %+v", s, g)
		}
		if got := m.p.Offsets(s.Name); !maps.Equal(got, g.offsets) {
			return fmt.Errorf("offsets of %s: %v, want %v", s.Name, got, g.offsets)
		}
	}
	return m.compareGuards(want)
}

func (m *model) compareGuards(want state) error {
	q := m.queue()
	lowest, guarded := int64(0), false
	for _, g := range want {
		reads := false
		for other := range g.offsets {
			reads = reads || other.Topic == q.Topic
		}
		if offset := g.offsets[q]; reads && (!guarded || offset < lowest) {
			lowest, guarded = offset, true
		}
	}
	got, ok := m.p.Guards(q, day)
	if got != lowest || ok != guarded {
		return fmt.Errorf("guard of %s: %d %t, want %d %t", q, got, ok, lowest, guarded)
	}
	return nil
}

func TestModel(t *testing.T) {
	crashes := 0
	for range 300 {
		seed := rand.Uint64()
		m := newModel(t, seed)
		require.NoError(t, m.run(300), "seed %d", seed)
		crashes += m.crashes
	}
	require.Greater(t, crashes, 1000)
}

// Concurrent callers, each the only one of its group: what each of them was
// told last is what stands at the end and after reopening.
func TestConcurrentCallers(t *testing.T) {
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprintf("durable=%t", durable), func(t *testing.T) {
			r := newRig(t, func(o *Options) {
				o.Manual, o.Clock = false, clock.Real{}
				o.FlushEvery, o.DurableSettle = 50*time.Microsecond, durable
			})
			ctx, cancel := context.WithCancel(bg)
			noise := make(chan struct{})
			go func() {
				defer close(noise)
				for i := 0; ctx.Err() == nil; i++ {
					r.Guards(orders0, time.Now())
					r.DropTopic("bills")
					_ = r.Commit(bg, "noise", at(bills0, int64(i%100)))
					_ = r.Flush(ctx)
					r.Offsets("worker-1")
					r.Stale()
				}
			}()
			last := make([]int64, 4)
			errs := make(chan error, len(last))
			for w := range last {
				go func() {
					name := fmt.Sprintf("worker-%d", w)
					rng := rand.New(rand.NewPCG(uint64(w), 2))
					for range 200 {
						offset := rng.Int64N(101)
						var err error
						switch rng.IntN(20) {
						case 0:
							err = r.Reset(bg, name, at(orders0, offset))
							last[w] = offset
						case 1:
							if err = r.DeleteGroup(bg, name); errors.Is(err, message.ErrNotFound) {
								err = nil
							}
							last[w] = -1
						default:
							err = r.Commit(bg, name, at(orders0, offset))
							last[w] = max(last[w], offset)
						}
						if err != nil {
							errs <- err
							return
						}
					}
					errs <- nil
				}()
			}
			for range last {
				require.NoError(t, <-errs)
			}
			cancel()
			<-noise
			for w, want := range last {
				r.has(fmt.Sprintf("worker-%d", w), orders0, want)
			}
			require.NoError(t, r.Close())
			r.open()
			for w, want := range last {
				r.has(fmt.Sprintf("worker-%d", w), orders0, want)
			}
		})
	}
}
