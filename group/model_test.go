package group

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/message"
)

const modelLimit = time.Minute

// hub and seat are what a schedule drives; the doubles in double_test.go break
// one promise each.
type hub interface {
	Join(ctx context.Context, w Member) (seat, error)
	Valid(k Claim) error
	Refresh(topics ...string)
	Fence(group string)
}

type seat interface {
	Next(ctx context.Context) (Change, error)
	Release(ks ...Claim)
	Leave(ctx context.Context) error
	Abandon(cause error)
	Resubscribe(subs map[string]string) error
}

type realHub struct{ *Coordinator }

func (h realHub) Join(ctx context.Context, w Member) (seat, error) { return h.Coordinator.Join(ctx, w) }

// schedule is one random run: what it does to the coordinator, and its ledger.
type schedule struct {
	rnd    *rand.Rand
	hub    hub
	clock  *clock.Manual
	ledger *ledger

	mode     Mode
	strategy Strategy
	fault    atomic.Pointer[string]
	counts   map[string]*atomic.Int64
	epoch    atomic.Uint64
	subs     map[string]string

	actors []*actor
}

// actor is a member. A goroutine of its own waits in Next; the schedule decides
// when its handlers end.
type actor struct {
	s      *schedule
	id     string
	seat   seat
	cancel context.CancelFunc
	prompt bool // its handlers end as soon as they are told to
	hung   bool // its handlers do not end
	gone   bool // the schedule took it out; the schedule changes it under the ledger's lock
	leaves context.CancelFunc
}

func (s *schedule) join() {
	if len(s.live()) >= 6 {
		return
	}
	id := fmt.Sprintf("m%d", s.rnd.IntN(8))
	for _, a := range s.actors {
		if a.id == id && (!a.gone || !s.ledger.ended(a)) {
			return
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	m, err := s.hub.Join(ctx, Member{Group: "g", ID: id, Mode: s.mode, Strategy: s.strategy, Subscriptions: s.subs})
	if err != nil {
		s.ledger.complain("join %s: %v", id, err)
		cancel()
		return
	}
	a := &actor{s: s, id: id, seat: m, cancel: cancel, prompt: s.rnd.IntN(3) == 0}
	s.actors = append(s.actors, a)
	go a.run()
}

func (a *actor) run() {
	defer a.s.ledger.end(a)
	for {
		ch, err := a.seat.Next(context.Background())
		if err != nil {
			return
		}
		if release := a.s.ledger.told(a, ch); a.prompt {
			a.release(release)
		}
	}
}

// release ends handlers and only then gives the claims back.
func (a *actor) release(ks []Claim) {
	for _, k := range ks {
		a.s.ledger.finish(k)
	}
	a.seat.Release(ks...)
}

func (s *schedule) live() (as []*actor) {
	for _, a := range s.actors {
		if !a.gone && a.leaves == nil {
			as = append(as, a)
		}
	}
	return as
}

func (s *schedule) pick() *actor {
	if len(s.actors) == 0 {
		return nil
	}
	return s.actors[s.rnd.IntN(len(s.actors))]
}

// step does one random thing. Most steps do not wait for the coordinator to
// come to rest, so that they meet it in the middle of its work.
func (s *schedule) step() {
	a := s.pick()
	n := s.rnd.IntN(100)
	switch {
	case a == nil || n < 16:
		s.ledger.during("join")
		s.join()
	case n < 22:
		s.ledger.during("leave")
		s.leave(a)
	case n < 25:
		s.ledger.during("cut a leave short")
		if a.leaves != nil && !a.gone {
			s.ledger.excuse(a)
			a.leaves()
		}
	case n < 29:
		s.ledger.during("kill")
		s.ledger.excuse(a)
		a.cancel()
	case n < 31:
		s.ledger.during("abandon")
		s.ledger.excuse(a)
		a.seat.Abandon(nil)
	case n < 36:
		s.ledger.during("hang")
		a.hung = !a.hung
	case n < 62:
		s.ledger.during("release")
		if ks := s.ledger.draining(a); !a.hung && len(ks) > 0 {
			a.release(ks[:1+s.rnd.IntN(len(ks))])
		}
	case n < 66:
		s.ledger.during("queues")
		topic := []string{"t", "u"}[s.rnd.IntN(2)]
		s.counts[topic].Store(int64(s.rnd.IntN(9)))
		s.hub.Refresh(topic)
	case n < 69:
		s.ledger.during("fence")
		synctest.Wait()
		s.epoch.Add(1)
		s.ledger.fenceAll(s.clock.Now())
		s.hub.Fence("g")
	case n < 75:
		s.ledger.during("fault")
		s.fault.Store(nil)
		if s.rnd.IntN(2) == 0 {
			faults := []string{"error", "panic", "foreign topic", "negative", "twice"}
			s.fault.Store(&faults[s.rnd.IntN(len(faults))])
		}
	case n < 78:
		s.ledger.during("resubscribe")
		s.resubscribe()
	case n < 88:
		s.ledger.during("time")
		s.advance()
	default:
		s.ledger.during("check")
		s.check()
	}
}

func (s *schedule) leave(a *actor) {
	if a.gone || a.leaves != nil {
		return
	}
	var ctx context.Context
	ctx, a.leaves = context.WithCancel(context.Background())
	go func() { _ = a.seat.Leave(ctx) }()
}

func (s *schedule) resubscribe() {
	if len(s.live()) == 0 {
		return
	}
	synctest.Wait()
	all := []map[string]string{{"t": "*"}, {"t": "*", "u": "*"}, {"t": "*", "u": "x"}}
	s.subs = all[s.rnd.IntN(len(all))]
	for _, a := range s.live() {
		if err := a.seat.Resubscribe(s.subs); err != nil {
			s.ledger.complain("resubscribe %s: %v", a.id, err)
		}
	}
}

// advance moves the clock. Members that were told something heard it before,
// so the ledger's times are the coordinator's.
func (s *schedule) advance() {
	synctest.Wait()
	s.clock.Advance([]time.Duration{time.Second, modelLimit / 2, modelLimit}[s.rnd.IntN(3)])
	synctest.Wait()
}

func (s *schedule) check() {
	synctest.Wait()
	s.ledger.checkClaims(s.hub, s.clock.Now())
}

// settle lets everything come to rest and demands that the queues are held.
func (s *schedule) settle() {
	s.ledger.during("settle")
	s.fault.Store(nil)
	s.hub.Refresh()
	for range 5 {
		synctest.Wait()
		for _, a := range s.actors {
			// Some hang for ever: the limit has to do its work.
			if ks := s.ledger.draining(a); !a.hung && len(ks) > 0 {
				a.release(ks)
			}
		}
		synctest.Wait()
		s.clock.Advance(modelLimit)
	}
	s.check()
	var live []string
	for _, a := range s.live() {
		live = append(live, a.id)
	}
	if len(live) == 0 {
		return
	}
	var wanted []slot
	for topic := range s.subs {
		for id := range int32(s.counts[topic].Load()) {
			q := message.Queue{Topic: topic, ID: id}
			if s.mode == Clustering {
				wanted = append(wanted, slot{queue: q})
				continue
			}
			for _, m := range live {
				wanted = append(wanted, slot{q, m})
			}
		}
	}
	s.ledger.checkHeld(wanted, s.clock.Now())
}

// finish leaves no goroutine behind; the bubble fails if one stays.
func (s *schedule) finish(c *Coordinator) {
	for _, a := range s.actors {
		if a.leaves != nil {
			a.leaves()
		}
	}
	if err := c.Close(); err != nil {
		s.ledger.complain("close: %v", err)
	}
	synctest.Wait()
	for _, a := range s.actors {
		a.cancel()
		if !s.ledger.ended(a) {
			s.ledger.complain("%s still waits after Close", a.id)
		}
	}
	if len(c.Groups()) != 0 {
		s.ledger.complain("groups after Close: %v", c.Groups())
	}
}

// run runs one schedule and returns what the ledger complains of.
func run(t *testing.T, seed uint64, wrap func(hub) hub, limit time.Duration) (problems []string, overlaps int, done tally) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &schedule{rnd: rand.New(rand.NewPCG(seed, 0)), clock: clock.NewManual(time.Unix(1e9, 0))}
		s.counts = map[string]*atomic.Int64{"t": new(atomic.Int64), "u": new(atomic.Int64)}
		s.counts["t"].Store(int64(s.rnd.IntN(9)))
		s.counts["u"].Store(2)
		s.subs = map[string]string{"t": "*"}
		if s.rnd.IntN(5) == 0 {
			s.mode = []Mode{Broadcasting, Shared}[s.rnd.IntN(2)]
		}
		parity := Rooms{
			Queue:  func(q message.Queue) string { return fmt.Sprint(q.ID % 3) },
			Member: func(id string) string { return fmt.Sprint(id[1] % 2) },
		}
		inner := []Strategy{Average(), Circle(), ConsistentHash(0), Nearby(Average(), parity)}
		s.strategy = unsteady{inner[s.rnd.IntN(len(inner))], &s.fault}
		s.ledger = newLedger(s)
		c, err := New(Options{
			Queues: func(topic string) int { return int(s.counts[topic].Load()) },
			Epoch:  func(string) uint64 { return s.epoch.Load() },
			Clock:  s.clock, DrainLimit: limit,
		})
		require.NoError(t, err)
		s.hub = wrap(realHub{c})
		for range 20 + s.rnd.IntN(40) {
			s.step()
		}
		s.settle()
		s.finish(c)
		problems, overlaps = s.ledger.problems, s.ledger.overlaps
		done = tally{s.ledger.begun, c.Stats()}
	})
	return problems, overlaps, done
}

type tally struct {
	begun int
	stats Stats
}

// unsteady is fickle without its own list of queues.
type unsteady struct {
	Strategy
	fault *atomic.Pointer[string]
}

func (s unsteady) Allocate(group, self string, qs []message.Queue, members []string) ([]message.Queue, error) {
	topic := qs[0].Topic
	mine, err := s.Strategy.Allocate(group, self, slices.Clone(qs), members)
	fault := s.fault.Load()
	if fault == nil || err != nil {
		return mine, err
	}
	switch *fault {
	case "error":
		return nil, context.DeadlineExceeded
	case "panic":
		panic("lost my mind")
	case "foreign topic":
		return append(mine, message.Queue{Topic: topic + "x"}), nil
	case "twice":
		return append(mine, mine...), nil
	}
	return append(mine, message.Queue{Topic: topic, ID: -1}), nil
}

func schedules() int {
	if testing.Short() {
		return 1000
	}
	return 10_000
}

// TestSchedules counts the handlers of one queue that overlap: none.
func TestSchedules(t *testing.T) {
	base := rand.Uint64()
	var overlaps int
	var all Stats
	begun := 0
	for i := range schedules() {
		seed := base + uint64(i)
		problems, n, done := run(t, seed, func(h hub) hub { return h }, modelLimit)
		overlaps += n
		begun += done.begun
		all.Lost += done.stats.Lost
		all.Released += done.stats.Released
		all.Failures += done.stats.Failures
		all.Refused += done.stats.Refused
		if len(problems) > 0 {
			t.Fatalf("seed %d: %d problems, the first: %s", seed, len(problems), problems[0])
		}
	}
	require.Zero(t, overlaps)
	t.Logf("%d schedules, %d handlers, %d released, %d lost, %d plans failed, %d stale claims refused, %d overlaps",
		schedules(), begun, all.Released, all.Lost, all.Failures, all.Refused, overlaps)
	// A run that did too little proves nothing.
	each := int64(schedules())
	require.Greater(t, int64(begun), 10*each)
	require.Greater(t, all.Released, 3*each)
	require.Greater(t, all.Lost, each)
	require.Greater(t, all.Failures, each/2)
	require.Greater(t, all.Refused, each)
}
