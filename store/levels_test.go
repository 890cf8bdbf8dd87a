package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// The table of delay levels is kept in FORMAT until another one is given, and
// what waits keeps its time.
func TestDelayLevelsAreKept(t *testing.T) {
	l := newLab(t, store.WithDelayLevels("1m 1h"))
	again := func(table string, opts ...store.Option) {
		t.Helper()
		require.NoError(t, l.s.Close())
		l.opts = opts
		l.open()
		b, err := fs.Read(l.sim.FS().Sub("db"), "ember/FORMAT")
		require.NoError(t, err)
		require.Contains(t, string(b), "\nlevels "+table+"\n")
	}
	wait := func(level int) time.Duration {
		t.Helper()
		topic := "level-" + time.Duration(l.s.Timers().Len()).String()
		put(t, l.s, &message.Message{Topic: topic, DelayLevel: level})
		for w, err := range l.s.Timers().Pending(topic, time.Time{}, time.Time{}) {
			require.NoError(t, err)
			return w.Due.Sub(l.clock.Now())
		}
		t.Fatal("nothing waits")
		return 0
	}
	put(t, l.s, &message.Message{Topic: "orders", DelayLevel: 2})
	again("1m 1h")
	require.Equal(t, time.Hour, wait(2), "as recorded")
	_, err := l.s.Put(ctx, &message.Message{Topic: "orders", DelayLevel: 3})
	require.ErrorIs(t, err, store.ErrInvalidMessage)

	again("1s 5s 10s", store.WithDelayLevels("1s 5s 10s"))
	require.Equal(t, 5*time.Second, wait(2), "as given now")
	l.kill()
	again("1s 5s 10s")
	require.Equal(t, 10*time.Second, wait(3))
	l.advance(time.Hour - time.Millisecond)
	_, err = l.s.Read(ctx, message.Queue{Topic: "orders"}, 0, message.Limit{}, nil)
	if err == nil {
		require.Zero(t, l.count("orders"), "it waits as long as the old table said")
	}
	l.advance(time.Millisecond)
	require.Equal(t, 1, l.count("orders"))
	require.NoError(t, l.s.Close())
}
