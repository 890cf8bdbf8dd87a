package schedule

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/kv/kvtest"
	"github.com/embermq/embermq/message"
)

var racesFlag = flag.Int("races", 50_000, "races of Cancel against firing")

// races lets a driver goroutine fire timers while others cancel them. What was
// answered must be what the log says, and what the log says after a crash in between.
func races(t testing.TB, n int) error {
	t.Helper()
	const round = 2000
	for done := 0; done < n; done += round {
		if err := raceRound(t, round); err != nil {
			return err
		}
	}
	return nil
}

func raceRound(t testing.TB, n int) error {
	clk := clock.NewManual(day)
	r := &rig{t: t, clock: clk, disk: kvtest.New(), ids: message.NewIDs(clk.Now), log: newFakeLog(clk)}
	r.o = Options{Manual: true, Clock: clk, Batch: 16, Near: 500}
	if err := r.open(); err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	r.log.fail = func(*Group) error { runtime.Gosched(); return nil } // let others in
	ids := make([]message.TimerID, n)
	for i := range ids {
		ids[i] = r.after("t", fmt.Sprint(i), time.Millisecond*time.Duration(1+i/8))
	}
	if err := r.save(); err != nil {
		return err
	}
	answers := make([]Outcome, n)
	told := new(promises)
	enough := 1 + rand.IntN(n)
	errs := make(chan error, 5)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			worked, err := r.Step(bg)
			if err != nil {
				errs <- err
				return
			}
			if !worked {
				if r.Timers().Len() == 0 {
					return
				}
				clk.Advance(time.Millisecond)
				runtime.Gosched()
			}
		}
	}()
	for w := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; i < n; i += 4 {
				var err error
				if answers[i], err = r.Timers().Cancel(bg, ids[i]); err != nil {
					errs <- err
					return
				}
				if told.add(answer{i, answers[i]}) == enough {
					told.cut(r)
				}
			}
		}()
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	delivered := map[string]int{}
	for _, d := range r.log.deliveries() {
		delivered[string(d.Body())]++
	}
	for i, how := range answers {
		got := delivered[fmt.Sprint(i)]
		if how == Cancelled && got != 0 || how == Delivered && got != 1 || how == Unknown {
			return fmt.Errorf("timer %d: %v, delivered %d times", i, how, got)
		}
	}
	return told.kept(r, n)
}

// promises are the answers that were given before a crash, and what the crash left.
type promises struct {
	mu      sync.Mutex
	answers []answer
	left    *fakeLog
}

type answer struct {
	timer int
	how   Outcome
}

// add notes an answer and says how many there are.
func (p *promises) add(a answer) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == nil {
		p.answers = append(p.answers, a)
	}
	return len(p.answers)
}

// cut takes what a power cut would leave now: what was synced, and any number of
// the groups behind it. Cancels and deliveries are under way meanwhile.
func (p *promises) cut(r *rig) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.left != nil {
		return
	}
	at := l.synced + rand.IntN(len(l.recs)-l.synced+1)
	for at > l.synced && !l.recs[at-1].end {
		at--
	}
	p.left = l.cut(at)
}

// kept starts on what the crash left and lets everything fire: what Cancel had said
// must stay true, and nothing is lost or comes twice.
func (p *promises) kept(old *rig, n int) error {
	clk := clock.NewManual(day)
	r := &rig{t: old.t, clock: clk, disk: old.disk.Cut(old.disk.Versions() - 1), ids: old.ids, log: p.left, o: old.o}
	r.log.clock, r.o.Clock = clk, clk
	if err := r.open(); err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	cancelled := readTruth(r.log.recs).cancelled
	if err := r.runUntil(day.Add(time.Hour)); err != nil {
		return err
	}
	delivered := map[string]int{}
	for _, d := range r.log.deliveries() {
		delivered[string(d.Body())]++
	}
	for i := range n {
		want := 1
		if cancelled[fmt.Sprint(i)] {
			want = 0
		}
		if got := delivered[fmt.Sprint(i)]; got != want {
			return fmt.Errorf("timer %d: delivered %d times after a crash, want %d", i, got, want)
		}
	}
	for _, a := range p.answers {
		if got := delivered[fmt.Sprint(a.timer)]; a.how == Cancelled && got != 0 || a.how == Delivered && got != 1 {
			return fmt.Errorf("timer %d: %v before a crash, delivered %d times", a.timer, a.how, got)
		}
	}
	return nil
}

func TestCancelRaces(t *testing.T) { require.NoError(t, races(t, *racesFlag)) }
