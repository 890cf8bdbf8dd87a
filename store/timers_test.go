package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/schedule"
	"github.com/embermq/embermq/store"
)

// lab is a manual store on a simulated disk with a clock of its own.
type lab struct {
	t     testing.TB
	sim   *crash.Sim
	clock *clock.Manual
	s     *store.Store
	opts  []store.Option
}

func newLab(t testing.TB, opts ...store.Option) *lab {
	l := &lab{t: t, sim: crash.New(1), clock: clock.NewManual(time.UnixMilli(1_700_000_000_000)), opts: opts}
	l.open()
	return l
}

func (l *lab) env() env.Env {
	return env.Env{Clock: l.clock, Manual: true, PID: 1, Open: func(path string, create bool) (fs.FS, error) {
		f := l.sim.FS().Sub(path)
		if create {
			return f, f.MkdirAll(".")
		}
		return f, nil
	}}
}

func (l *lab) open() {
	var err error
	l.s, err = store.Open("db", append([]store.Option{store.WithEnvironment(l.env()), store.WithSegmentSize(64 << 10)}, l.opts...)...)
	require.NoError(l.t, err)
}

// kill drops the process and opens the directory again.
func (l *lab) kill() {
	old := l.s
	next := l.sim.Kill()
	l.sim.Stop()
	_ = old.Abandon()
	l.sim = next
	l.open()
}

// advance moves the clock and lets everything run that is due.
func (l *lab) advance(d time.Duration) {
	l.clock.Advance(d)
	l.run()
}

func (l *lab) run() {
	require.NoError(l.t, l.s.Step(context.Background()))
}

func (l *lab) count(topic string) int {
	return len(read(l.t, l.s, message.Queue{Topic: topic}, 0, nil))
}

func TestDelayedMessage(t *testing.T) {
	l := newLab(t)
	r := put(t, l.s, &message.Message{Topic: "orders", Tag: "a", Keys: []string{"k"}, Body: []byte("x"), Properties: map[string]string{"p": "1"}, Delay: time.Hour})
	require.EqualValues(t, -1, r.Offset)
	require.Equal(t, "orders", r.Queue.Topic)
	require.NotEmpty(t, r.Timer)
	level := put(t, l.s, &message.Message{Topic: "orders", Body: []byte("level"), DelayLevel: 3})
	require.Empty(t, level.Timer)
	past := put(t, l.s, &message.Message{Topic: "orders", Body: []byte("now"), DeliverAt: l.clock.Now().Add(-time.Hour)})
	require.EqualValues(t, 0, past.Offset)
	require.EqualValues(t, 2, l.s.Timers().Len())
	l.advance(10*time.Second - time.Millisecond)
	require.Equal(t, 1, l.count("orders"))
	l.advance(time.Millisecond)
	require.Equal(t, 2, l.count("orders"))
	l.kill()
	l.advance(time.Hour)
	rs := read(t, l.s, message.Queue{Topic: "orders"}, 0, nil)
	require.Len(t, rs, 3)
	require.Equal(t, "x", string(rs[2].Body()))
	require.Equal(t, "a", rs[2].Tag())
	p, _ := rs[2].Property("p")
	require.Equal(t, "1", p)
	require.Zero(t, l.s.Timers().Len())
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

func TestFortyDays(t *testing.T) {
	l := newLab(t)
	put(t, l.s, &message.Message{Topic: "orders", Delay: 40 * 24 * time.Hour})
	for range 39 {
		l.advance(24 * time.Hour)
		l.kill()
	}
	require.Zero(t, l.count("orders"))
	l.advance(24 * time.Hour)
	require.Equal(t, 1, l.count("orders"))
	require.NoError(t, l.s.Close())
}

func TestCancelAnswersTruthfully(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	a := put(t, l.s, &message.Message{Topic: "orders", Delay: time.Minute}).Timer
	b := put(t, l.s, &message.Message{Topic: "orders", Delay: time.Minute}).Timer
	c := put(t, l.s, &message.Message{Topic: "orders", Delay: time.Minute}).Timer
	how, err := l.s.Timers().Cancel(ctx, a)
	require.NoError(t, err)
	require.Equal(t, schedule.Cancelled, how)
	_, err = l.s.Timers().Reschedule(ctx, c, l.clock.Now().Add(time.Hour))
	require.NoError(t, err)
	l.kill()
	l.advance(time.Minute)
	require.Equal(t, 1, l.count("orders"))
	how, err = l.s.Timers().Cancel(ctx, b)
	require.NoError(t, err)
	require.Equal(t, schedule.Delivered, how)
	how, err = l.s.Timers().Cancel(ctx, "0123456789ABCDEF0123456789ABCDEF")
	require.NoError(t, err)
	require.Equal(t, schedule.Unknown, how)
	l.advance(time.Hour)
	require.Equal(t, 2, l.count("orders"))
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

func TestTimersOutliveTheirSegment(t *testing.T) {
	l := newLab(t, store.WithRetention(time.Hour))
	for i := range 20 {
		put(t, l.s, &message.Message{Topic: "late", Body: fmt.Append(nil, i), Delay: 48 * time.Hour})
	}
	for range 30 {
		for range 10 {
			put(t, l.s, &message.Message{Topic: "orders", Body: make([]byte, 2000)})
		}
		l.advance(time.Hour)
		require.NoError(t, l.s.Retain())
	}
	require.Positive(t, l.s.Stats().Expired)
	require.EqualValues(t, 20, l.s.Timers().Len())
	l.kill()
	l.advance(48 * time.Hour)
	require.Equal(t, 20, l.count("late"))
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

func TestDelayedBadInput(t *testing.T) {
	l := newLab(t)
	for name, m := range map[string]*message.Message{
		"negative delay":   {Topic: "a", Delay: -1},
		"level over table": {Topic: "a", DelayLevel: 19},
		"negative level":   {Topic: "a", DelayLevel: -1},
		"two ways":         {Topic: "a", DelayLevel: 1, Delay: time.Second},
		"past int64":       {Topic: "a", DeliverAt: time.Unix(1<<62, 0)},
	} {
		_, err := l.s.Put(context.Background(), m)
		require.ErrorIs(t, err, store.ErrInvalidMessage, name)
	}
	_, err := l.s.Put(context.Background(), &message.Message{Topic: message.TopicTimer, Delay: time.Second})
	require.ErrorIs(t, err, store.ErrInvalidName)
	require.Empty(t, l.s.Topics())
	require.NoError(t, l.s.Close())
}

func TestDeletedTopicDropsItsTimers(t *testing.T) {
	ctx := context.Background()
	l := newLab(t)
	put(t, l.s, &message.Message{Topic: "orders", Delay: time.Minute})
	require.NoError(t, l.s.DeleteTopic(ctx, "orders"))
	require.Zero(t, l.s.Timers().Len())
	put(t, l.s, &message.Message{Topic: "orders", Body: []byte("new")})
	l.kill()
	l.advance(time.Hour)
	require.Equal(t, 1, l.count("orders"))
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}
