package schedule

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/kv/kvtest"
	"github.com/embermq/embermq/message"
)

// countingClock counts how often somebody slept.
type countingClock struct {
	clock.Real
	sleeps atomic.Int64
}

func (c *countingClock) After(d time.Duration) (<-chan time.Time, func()) {
	c.sleeps.Add(1)
	return c.Real.After(d)
}

func newDriverRig(t *testing.T) (*rig, *countingClock) {
	t.Helper()
	c := new(countingClock)
	r := &rig{t: t, disk: kvtest.New(), log: newFakeLog(c), ids: message.NewIDs(c.Now), o: Options{Clock: c}}
	require.NoError(t, r.open())
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r, c
}

func (r *rig) putReal(body string, d time.Duration) message.TimerID {
	r.t.Helper()
	m := &message.Message{Topic: "t", Body: []byte(body), Delay: d}
	ro, err := r.Schedule.o.Levels.Route(m, r.Schedule.o.Clock.Now(), r.ids.Next, nil)
	require.NoError(r.t, err)
	r.log.write(ro.Queue, m, ro.Reserved...)
	return ro.Timer
}

// The goroutine sleeps until the next timer is due, is woken by a nearer one, and
// does not wake at all with nothing to do.
func TestDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c := newDriverRig(t)
		defer r.Close()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		require.Zero(t, c.sleeps.Load(), "it wakes up for nothing")
		start := time.Now()
		r.putReal("far", 40*24*time.Hour)
		r.putReal("near", 1500*time.Microsecond)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"near"}, r.bodies())
		require.Equal(t, start.UnixMilli()+2, r.log.deliveries()[0].StoredAtMillis())
		time.Sleep(40 * 24 * time.Hour)
		synctest.Wait()
		require.Equal(t, []string{"near", "far"}, r.bodies())
		require.Equal(t, start.Add(40*24*time.Hour).UnixMilli(), r.log.deliveries()[1].StoredAtMillis())
		require.Less(t, c.sleeps.Load(), int64(40*24*60+10), "once a minute")
	})
}

// A disk that is full for a while: the goroutine tries again by itself.
func TestDriverRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDriverRig(t)
		defer r.Close()
		tries := 0
		r.log.fail = func(*Group) error {
			if tries++; tries < 20 {
				return message.ErrDiskFull
			}
			return nil
		}
		for i := range 5 {
			r.putReal(fmt.Sprint(i), time.Duration(i+1)*time.Millisecond)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"0", "1", "2", "3", "4"}, r.bodies())
		require.Equal(t, 20, tries)
	})
}

// After a poison nothing is tried any more.
func TestDriverPoisoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDriverRig(t)
		defer r.Close()
		tries := 0
		r.log.fail = func(*Group) error { tries++; return message.ErrPoisoned }
		r.putReal("x", time.Second)
		id := r.putReal("y", time.Hour)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 1, tries)
		_, err := r.Timers().Cancel(t.Context(), id)
		require.ErrorIs(t, err, message.ErrPoisoned)
	})
}

func TestClosed(t *testing.T) {
	r := newRig(t)
	id := r.after("t", "x", time.Second)
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	_, err := r.Timers().Cancel(bg, id)
	require.ErrorIs(t, err, message.ErrClosed)
	_, err = r.Step(bg)
	require.ErrorIs(t, err, message.ErrClosed)
	_, err = r.Carry(bg, r.log.end)
	require.ErrorIs(t, err, message.ErrClosed)
	_, err = New(nil, Options{CatchUp: -1, Sleep: -1, Levels: Levels{}})
	for _, what := range []string{"Appender", "Read", "CatchUp", "Sleep", "Levels"} {
		require.ErrorContains(t, err, what)
	}
}
