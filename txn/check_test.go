package txn

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/message"
)

func always(how message.Decision) message.Checker {
	return func(context.Context, *message.Half) (message.Decision, error) { return how, nil }
}

// liveRig has the driver and workers, in the virtual time of a synctest bubble.
func liveRig(t testing.TB) *rig {
	r := mustRig(t, func(o *Options) { o.Manual, o.Clock = false, clock.Real{} })
	r.log.mu.Lock()
	r.log.clock = clock.Real{}
	r.log.mu.Unlock()
	return r
}

func TestTimes(t *testing.T) {
	r := mustRig(t)
	var asked []time.Duration
	_, err := r.Halves().OnCheck("g", func(_ context.Context, h *message.Half) (message.Decision, error) {
		asked = append(asked, h.Age)
		require.Equal(t, len(asked)-1, h.Checks)
		return message.Undecided, nil
	}, message.CheckOptions{})
	require.NoError(t, err)
	id := r.prepare(t, "orders", "x", "g")
	for range 4 * 3600 {
		require.NoError(t, r.advance(time.Second))
	}
	want := []time.Duration{6 * time.Second}
	for _, wait := range []time.Duration{30, 60, 120, 240, 480, 600, 600, 600, 600, 600, 600, 600, 600, 600} {
		want = append(want, want[len(want)-1]+wait*time.Second)
	}
	require.Equal(t, want, asked)
	require.EqualValues(t, 1, r.Halves().GivenUp())
	_, how, err := r.Halves().Commit(bg, id)
	require.NoError(t, err)
	require.Equal(t, message.GivenUp, how)
	_, how, err = r.Halves().Recover(bg, id, message.Committed)
	require.NoError(t, err)
	require.Equal(t, message.Committed, how)
	require.Equal(t, []string{"x"}, r.bodies())
}

func TestImmunity(t *testing.T) {
	r := mustRig(t)
	asked := 0
	_, err := r.Halves().OnCheck("g", func(context.Context, *message.Half) (message.Decision, error) {
		asked++
		return message.Committed, nil
	}, message.CheckOptions{})
	require.NoError(t, err)
	_, _, err = r.Halves().Prepare(bg, &message.Message{Topic: "orders"}, "g", message.HalfOptions{Immunity: time.Hour})
	require.NoError(t, err)
	require.NoError(t, r.advance(time.Hour-time.Millisecond))
	require.Zero(t, asked)
	require.NoError(t, r.advance(time.Millisecond))
	require.Equal(t, 1, asked)
}

func TestWithoutCheckerNothingCounts(t *testing.T) {
	r := mustRig(t, func(o *Options) { o.MaxChecks = 1 })
	id := r.prepare(t, "orders", "x", "g")
	require.NoError(t, r.advance(1000*time.Hour))
	how, err := r.Halves().State(id)
	require.NoError(t, err)
	require.Equal(t, message.Undecided, how)
	stop, err := r.Halves().OnCheck("other", always(message.Committed), message.CheckOptions{})
	require.NoError(t, err)
	require.NoError(t, r.steps())
	stop()
	require.EqualValues(t, 1, r.Halves().Len())
	_, err = r.Halves().OnCheck("g", always(message.Committed), message.CheckOptions{})
	require.NoError(t, err)
	require.NoError(t, r.steps())
	require.Equal(t, []string{"x"}, r.bodies())
}

func TestTurns(t *testing.T) {
	r := mustRig(t)
	var asked [3]int
	for i := range asked {
		_, err := r.Halves().OnCheck("g", func(context.Context, *message.Half) (message.Decision, error) {
			asked[i]++
			return message.RolledBack, nil
		}, message.CheckOptions{})
		require.NoError(t, err)
	}
	for range 30 {
		r.prepare(t, "orders", "x", "g")
	}
	require.NoError(t, r.advance(time.Minute))
	require.Equal(t, [3]int{10, 10, 10}, asked)
}

// TestHungChecker: those that another checker, or another group's, can decide are
// decided within two intervals.
func TestHungChecker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := liveRig(t)
		hang := make(chan struct{})
		var ended atomic.Bool
		_, err := r.Halves().OnCheck("g", func(ctx context.Context, _ *message.Half) (message.Decision, error) {
			<-hang
			ended.Store(ctx.Err() != nil)
			return message.RolledBack, nil
		}, message.CheckOptions{})
		require.NoError(t, err)
		for _, g := range []string{"g", "other"} {
			_, err = r.Halves().OnCheck(g, always(message.Committed), message.CheckOptions{})
			require.NoError(t, err)
		}
		for i := range 100 {
			r.prepare(t, "orders", fmt.Sprint(i), "g")
			r.prepare(t, "orders", fmt.Sprint(i), "other")
		}
		time.Sleep(DefaultTimeout + 2*DefaultInterval)
		synctest.Wait()
		require.Len(t, r.bodies(), 200)
		require.Zero(t, r.Halves().Len())
		for i := range 10 { // nothing new for the hung one
			r.prepare(t, "orders", fmt.Sprint(i), "g")
		}
		time.Sleep(DefaultTimeout)
		synctest.Wait()
		require.Len(t, r.bodies(), 210)
		close(hang)
		synctest.Wait()
		require.True(t, ended.Load())
		require.Len(t, r.bodies(), 210)
		for i := range 10 { // it is asked again
			r.prepare(t, "orders", fmt.Sprint(i), "g")
		}
		time.Sleep(DefaultTimeout)
		synctest.Wait()
		require.Len(t, r.bodies(), 215)
	})
}

// TestLateAnswer counts although nobody waits for it any more.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := liveRig(t)
		hang := make(chan struct{})
		_, err := r.Halves().OnCheck("g", func(context.Context, *message.Half) (message.Decision, error) {
			<-hang
			return message.Committed, nil
		}, message.CheckOptions{})
		require.NoError(t, err)
		r.prepare(t, "orders", "x", "g")
		time.Sleep(time.Hour)
		n, err := r.Carry(bg, r.log.end) // its record moves meanwhile
		require.NoError(t, err)
		require.Equal(t, 1, n)
		close(hang)
		synctest.Wait()
		require.Equal(t, []string{"x"}, r.bodies())
	})
}

func TestCloseReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(func(o *Options) { o.Manual, o.Clock = false, clock.Real{} })
		r.log.clock = clock.Real{}
		require.NoError(t, r.open())
		hang, polite := make(chan struct{}), make(chan struct{})
		_, err := r.Halves().OnCheck("g", func(ctx context.Context, h *message.Half) (message.Decision, error) {
			if h.Queue.Topic == "hangs" {
				<-hang
				return message.Committed, nil
			}
			<-ctx.Done()
			close(polite)
			return message.Committed, ctx.Err()
		}, message.CheckOptions{MinWorkers: 1, MaxWorkers: 2})
		require.NoError(t, err)
		r.prepare(t, "hangs", "x", "g")
		r.prepare(t, "waits", "x", "g")
		time.Sleep(DefaultTimeout)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		require.ErrorIs(t, r.Close(ctx), context.DeadlineExceeded)
		<-polite
		close(hang)
		require.NoError(t, r.Close(bg))
		require.Empty(t, r.bodies())
		_, err = r.Halves().OnCheck("g", always(message.Committed), message.CheckOptions{})
		require.ErrorIs(t, err, message.ErrClosed)
		_, _, err = r.Halves().Prepare(bg, &message.Message{Topic: "t"}, "g", message.HalfOptions{})
		require.ErrorIs(t, err, message.ErrClosed)
	})
}

func TestWorkersAndQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := liveRig(t)
		gate := make(chan struct{})
		var in, most atomic.Int64
		_, err := r.Halves().OnCheck("g", func(context.Context, *message.Half) (message.Decision, error) {
			for n := in.Add(1); ; {
				m := most.Load()
				if n <= m || most.CompareAndSwap(m, n) {
					break
				}
			}
			<-gate
			in.Add(-1)
			return message.Committed, nil
		}, message.CheckOptions{MinWorkers: 1, MaxWorkers: 3, Queue: 4})
		require.NoError(t, err)
		for range 20 {
			r.prepare(t, "orders", "x", "g")
		}
		time.Sleep(DefaultTimeout)
		synctest.Wait()
		require.EqualValues(t, 3, in.Load())
		r.mu.Lock()
		require.LessOrEqual(t, len(r.mu.groups["g"].deciders[0].queue), 4)
		r.mu.Unlock()
		close(gate)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(t, r.bodies(), 20)
		require.EqualValues(t, 3, most.Load())
		r.mu.Lock()
		require.Equal(t, 1, r.mu.groups["g"].deciders[0].workers)
		r.mu.Unlock()
	})
}

// TestVerdictsThatFail are tried again and count for nothing.
func TestVerdictsThatFail(t *testing.T) {
	r := mustRig(t, func(o *Options) { o.MaxChecks = 1 })
	how := message.Committed
	_, err := r.Halves().OnCheck("g", func(context.Context, *message.Half) (message.Decision, error) { return how, nil }, message.CheckOptions{})
	require.NoError(t, err)
	id := r.prepare(t, "orders", "x", "g")
	broken := true
	r.log.fail = func(g *Group) error {
		if broken {
			return message.ErrDiskFull
		}
		return nil
	}
	require.NoError(t, r.advance(time.Hour))
	require.NoError(t, r.advance(time.Hour))
	require.Empty(t, r.bodies())
	require.EqualValues(t, 2, r.Stats().Failed)
	_, _, err = r.Halves().Commit(bg, id)
	require.ErrorIs(t, err, message.ErrDiskFull)
	broken = false
	require.NoError(t, r.advance(time.Hour))
	require.Equal(t, []string{"x"}, r.bodies())
	// The same for giving up.
	how = message.Undecided
	r.prepare(t, "orders", "y", "g")
	require.NoError(t, r.advance(time.Minute))
	broken = true
	require.NoError(t, r.advance(time.Hour))
	require.Zero(t, r.Halves().GivenUp())
	broken = false
	require.NoError(t, r.advance(time.Hour))
	require.EqualValues(t, 1, r.Halves().GivenUp())
}

func TestUnreadableHalf(t *testing.T) {
	r := mustRig(t, func(o *Options) { o.MaxChecks = 1 })
	_, err := r.Halves().OnCheck("g", always(message.Committed), message.CheckOptions{})
	require.NoError(t, err)
	id := r.prepare(t, "orders", "x", "g")
	r.prepare(t, "orders", "y", "g")
	r.log.recs[0].b = nil
	for range 5 {
		require.NoError(t, r.advance(time.Hour))
	}
	require.Equal(t, []string{"y"}, r.bodies())
	require.EqualValues(t, 1, r.Halves().Len())
	_, err = r.Halves().Get(id)
	require.ErrorIs(t, err, message.ErrCorrupt)
	_, _, err = r.Halves().Commit(bg, id)
	require.ErrorIs(t, err, message.ErrCorrupt)
	_, err = r.Carry(bg, r.log.end)
	require.ErrorIs(t, err, message.ErrCorrupt)
	how, err := r.Halves().Rollback(bg, id) // needs no record
	require.NoError(t, err)
	require.Equal(t, message.RolledBack, how)
}

func TestBadOptions(t *testing.T) {
	_, err := New(nil, Options{Timeout: -1, MaxChecks: -1, Remember: 1 << 30})
	for _, what := range []string{"Appender", "Read", "NewID", "Timeout", "MaxChecks", "Remember"} {
		require.ErrorContains(t, err, what)
	}
	r := mustRig(t)
	for name, o := range map[string]message.CheckOptions{"negative": {MinWorkers: -1}, "more than most": {MinWorkers: 2, MaxWorkers: 1}, "queue": {Queue: -1}} {
		_, err := r.Halves().OnCheck("g", always(message.Committed), o)
		require.ErrorIs(t, err, message.ErrInvalidMessage, name)
	}
	_, err = r.Halves().OnCheck("", always(message.Committed), message.CheckOptions{})
	require.ErrorIs(t, err, message.ErrInvalidName)
	_, err = r.Halves().OnCheck("g", nil, message.CheckOptions{})
	require.ErrorIs(t, err, message.ErrInvalidMessage)
	_, _, err = r.Halves().Recover(bg, "x", message.GivenUp)
	require.ErrorIs(t, err, message.ErrUnsupported)
}

func TestContextEnds(t *testing.T) {
	r := mustRig(t)
	id := r.prepare(t, "orders", "x", "g")
	ended, cancel := context.WithCancel(bg)
	cancel()
	_, _, err := r.Halves().Commit(ended, id)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 1, r.Halves().Len())
	r.log.entered, r.log.gate = make(chan struct{}, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(bg)
	done := make(chan error, 2)
	go func() {
		_, _, err := r.Halves().Commit(ctx, id)
		done <- err
	}()
	<-r.log.entered
	go func() { // waits for the one under way
		_, err := r.Halves().Rollback(ctx, id)
		done <- err
	}()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.ErrorIs(t, <-done, context.Canceled)
	close(r.log.gate)
	_, how, err := r.Halves().Commit(bg, id)
	require.NoError(t, err)
	require.Equal(t, message.Committed, how)
	require.Equal(t, []string{"x"}, r.bodies())
}

func TestPoison(t *testing.T) {
	r := mustRig(t)
	id := r.prepare(t, "orders", "x", "g")
	r.log.fail = func(*Group) error { return fmt.Errorf("%w: a sync failed", message.ErrPoisoned) }
	_, err := r.Halves().OnCheck("g", always(message.Committed), message.CheckOptions{})
	require.NoError(t, err)
	for range 3 {
		_, err := r.Halves().Rollback(bg, id)
		require.ErrorIs(t, err, message.ErrPoisoned)
		require.NoError(t, r.advance(time.Hour))
	}
	require.True(t, errors.Is(func() error { _, err := r.Carry(bg, r.log.end); return err }(), message.ErrPoisoned))
}
