package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/schedule"
	"github.com/embermq/embermq/store"
)

// A retry waits under the id of its message: whoever still holds the handle of
// that message must not take the retry away.
func TestCancelSparesRetries(t *testing.T) {
	for _, reopened := range []bool{false, true} {
		l := newLab(t)
		require.NoError(t, l.s.CreateTopic(ctx, store.Topic{Name: "orders", WriteQueues: 1}))
		q := message.Queue{Topic: "orders"}
		r := put(t, l.s, &message.Message{Topic: "orders", Delay: time.Second})
		l.advance(time.Second)
		require.Equal(t, 1, l.count("orders"))
		v := on(q, message.Retry, 0)
		v.After = 7 * time.Second // no level
		l.settle(claim(t, l.join("g", group.Clustering, "orders"), q), on(q, message.DoneThrough, -1), v)
		if reopened {
			require.NoError(t, l.s.Close())
			l.open()
		}
		how, err := l.s.Timers().Cancel(ctx, r.Timer)
		require.NoError(t, err)
		require.NotEqual(t, schedule.Cancelled, how)
		how, err = l.s.Timers().Reschedule(ctx, r.Timer, l.clock.Now().Add(time.Hour))
		require.NoError(t, err)
		require.NotEqual(t, schedule.Rescheduled, how)
		l.advance(7 * time.Second)
		require.Equal(t, 1, l.count("%RETRY%g"))
		require.NoError(t, l.s.Close())
	}
}
