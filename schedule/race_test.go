package schedule

import (
	"flag"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/kv/kvtest"
	"github.com/embermq/embermq/message"
)

var racesFlag = flag.Int("races", 100_000, "races of Cancel against firing")

// races lets a driver goroutine fire timers while others cancel them. What was
// answered must be what the log says.
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
	return nil
}

func TestCancelRaces(t *testing.T) { require.NoError(t, races(t, *racesFlag)) }
