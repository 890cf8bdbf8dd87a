package progress

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

func TestCommitAndFetch(t *testing.T) {
	r := newRig(t)
	_, ok := r.Committed("billing", orders0)
	require.False(t, ok)
	require.Nil(t, r.Offsets("billing"))

	r.commit("billing", orders0, 0) // a first commit counts whatever it is
	offset, ok := r.Committed("billing", orders0)
	require.True(t, ok)
	require.Zero(t, offset)

	many := map[message.Queue]int64{orders0: 10, orders1: 20, bills0: 100}
	require.NoError(t, r.Commit(bg, "billing", many))
	require.Equal(t, many, r.Offsets("billing"))
	_, ok = r.Committed("billing", queue("bills", 1))
	require.False(t, ok)
	_, ok = r.Committed("audit", orders0)
	require.False(t, ok)

	r.commit("billing", orders0, 9) // late, not a wish to go back
	r.has("billing", orders0, 10)

	require.NoError(t, r.Close())
	r.open()
	require.Equal(t, many, r.Offsets("billing"))
}

func TestCommitThatIsRefused(t *testing.T) {
	errBounds := errors.New("no such disk")
	r := newRig(t)
	bounds := r.o.Bounds
	r.o.Bounds = func(q message.Queue) (int64, int64, error) {
		if q.Topic == "broken" {
			return 0, 0, errBounds
		}
		return bounds(q)
	}
	r.open()
	r.commit("billing", orders0, 10)
	require.NoError(t, r.Flush(bg))
	rows := r.db.dump()
	cancelled, cancel := context.WithCancel(bg)
	cancel()
	for name, c := range map[string]struct {
		ctx    context.Context
		q      message.Queue
		offset int64
		want   error
	}{
		"negative":      {bg, orders1, -1, message.ErrOutOfRange},
		"beyond_end":    {bg, orders1, 101, message.ErrOutOfRange},
		"unknown_queue": {bg, queue("orders", 9), 0, message.ErrNotFound},
		"unknown_topic": {bg, queue("nothing", 0), 0, message.ErrNotFound},
		"bounds_fail":   {bg, queue("broken", 0), 0, errBounds},
		"cancelled":     {cancelled, orders1, 5, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			for _, call := range []func(context.Context, string, map[message.Queue]int64) error{r.Commit, r.Reset} {
				err := call(c.ctx, "billing", map[message.Queue]int64{orders0: 50, c.q: c.offset})
				require.ErrorIs(t, err, c.want)
				if c.want == message.ErrOutOfRange {
					var re *message.RangeError
					require.ErrorAs(t, err, &re)
					require.Equal(t, message.RangeError{Queue: c.q, Offset: c.offset, Start: 0, End: 100}, *re)
				}
			}
			require.Equal(t, at(orders0, 10), r.Offsets("billing"))
			require.NoError(t, r.Flush(bg))
			require.Equal(t, rows, r.db.dump())
		})
	}
}

func TestAutoCreateSwitchedOff(t *testing.T) {
	r := newRig(t, func(o *Options) { o.NoAutoCreate = true })
	require.ErrorIs(t, r.Commit(bg, "billing", at(orders0, 1)), message.ErrNotFound)
	require.ErrorIs(t, r.Reset(bg, "billing", at(orders0, 1)), message.ErrNotFound)
	require.Empty(t, r.Groups())
	require.NoError(t, r.CreateGroup(bg, Group{Name: "billing"}))
	r.commit("billing", orders0, 1)
	require.ErrorIs(t, r.Clone(bg, "billing", "copy", "orders"), message.ErrNotFound)
}

func TestReset(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Commit(bg, "billing", map[message.Queue]int64{orders0: 10, bills0: 7}))
	require.NoError(t, r.Reset(bg, "billing", map[message.Queue]int64{orders0: 3, orders1: 4}))
	want := map[message.Queue]int64{orders0: 3, orders1: 4, bills0: 7}
	require.Equal(t, want, r.Offsets("billing"))
	require.NotZero(t, r.log.syncs)

	r.crash() // the commits are lost, the reset is not
	delete(want, bills0)
	require.Equal(t, want, r.Offsets("billing"))

	require.NoError(t, r.Reset(bg, "fresh", at(orders0, 0)))
	r.crash()
	r.has("fresh", orders0, 0)
}

func TestResetNeedsTheLog(t *testing.T) {
	r := newRig(t)
	r.commit("billing", orders0, 10)
	r.log.err = message.ErrPoisoned
	n := r.db.count()
	require.ErrorIs(t, r.Reset(bg, "billing", at(orders0, 3)), message.ErrPoisoned)
	require.ErrorIs(t, r.Flush(bg), message.ErrPoisoned)
	require.Equal(t, n, r.db.count())
	r.has("billing", orders0, 10)
	r.log.err = nil
}

func TestBroadcastingGroupIsNotReset(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.CreateGroup(bg, Group{Name: "all", Broadcast: true}))
	r.commit("billing", orders0, 1)
	require.ErrorIs(t, r.Reset(bg, "all", at(orders0, 1)), message.ErrUnsupported)
	require.ErrorIs(t, r.Clone(bg, "billing", "all", "orders"), message.ErrUnsupported)
}

func TestClone(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Commit(bg, "old", map[message.Queue]int64{orders0: 10, orders1: 11, bills0: 12}))
	require.NoError(t, r.Commit(bg, "new", map[message.Queue]int64{orders0: 90, queue("orders", 2): 91, bills0: 92}))
	require.NoError(t, r.Flush(bg))
	require.NoError(t, r.Clone(bg, "old", "new", "orders"))
	want := map[message.Queue]int64{orders0: 10, orders1: 11, bills0: 92}
	require.Equal(t, want, r.Offsets("new"))
	r.crash()
	require.Equal(t, want, r.Offsets("new"))

	require.NoError(t, r.Clone(bg, "old", "third", "bills"))
	require.Equal(t, at(bills0, 12), r.Offsets("third"))
	require.ErrorIs(t, r.Clone(bg, "nobody", "fourth", "bills"), message.ErrNotFound)
	require.ErrorIs(t, r.Clone(bg, "third", "fourth", "orders"), message.ErrNotFound)
	_, made := r.Group("fourth")
	require.False(t, made)
	require.NoError(t, r.Clone(bg, "old", "old", "orders"))
}

func TestDropTopic(t *testing.T) {
	r := newRig(t)
	for _, g := range []string{"a", "b"} {
		require.NoError(t, r.Commit(bg, g, map[message.Queue]int64{orders0: 10, orders1: 11, bills0: 12}))
	}
	require.NoError(t, r.Flush(bg))
	r.commit("a", orders0, 20) // pending when the topic goes
	r.DropTopic("orders")
	r.DropTopic("never seen")
	r.has("a", orders0, -1)
	r.commit("b", orders1, 1) // created again before the batch
	require.NoError(t, r.Flush(bg))
	r.crash()
	require.Equal(t, at(bills0, 12), r.Offsets("a"))
	require.Equal(t, map[message.Queue]int64{orders1: 1, bills0: 12}, r.Offsets("b"))
	_, guarded := r.Guards(orders0, r.clock.Now())
	require.True(t, guarded, "b still reads the topic")
}

// A topic that goes while its offsets are reset must not stay on one side only.
func TestDropTopicDuringReset(t *testing.T) {
	r := newRig(t)
	r.commit("billing", orders0, 10)
	require.NoError(t, r.Flush(bg))
	r.db.entered, r.db.gate = make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() { done <- r.Reset(bg, "billing", at(orders0, 3)) }()
	<-r.db.entered
	r.DropTopic("orders")
	close(r.db.gate)
	require.NoError(t, <-done)
	r.db.gate = nil
	inMemory := r.Offsets("billing")
	require.NoError(t, r.Flush(bg))
	r.crash()
	require.Equal(t, inMemory, r.Offsets("billing"))
}

func TestClamp(t *testing.T) {
	r := newRig(t)
	gone := queue("gone", 3)
	r.log.visible[gone] = 70
	require.NoError(t, r.Commit(bg, "a", map[message.Queue]int64{orders0: 100, orders1: 60, bills0: 5, gone: 70}))
	require.NoError(t, r.Commit(bg, "b", at(orders0, 80)))
	require.NoError(t, r.Flush(bg))
	r.log.visible = map[message.Queue]int64{orders0: 80, orders1: 61, bills0: -1}
	r.crash()
	n, err := r.Clamp(bg, r.log.known)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	want := map[message.Queue]int64{orders0: 80, orders1: 60, bills0: 0, gone: 70}
	require.Equal(t, want, r.Offsets("a"))
	r.has("b", orders0, 80)
	r.crash() // it is on disk: the log may grow past the old offsets now
	require.Equal(t, want, r.Offsets("a"))
	n, err = r.Clamp(bg, r.log.known)
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestClosed(t *testing.T) {
	r := newRig(t)
	r.commit("billing", orders0, 10)
	require.NoError(t, r.Close())
	n := r.db.count()
	require.NoError(t, r.Close())
	_, clampErr := r.Clamp(bg, r.log.known)
	_, stepErr := r.Step(bg)
	for _, err := range []error{
		r.Commit(bg, "billing", at(orders0, 11)), r.Commit(bg, "other", at(orders0, 11)),
		r.Reset(bg, "billing", at(orders0, 11)), r.Clone(bg, "billing", "b", "orders"),
		r.CreateGroup(bg, Group{Name: "x"}), r.UpdateGroup(bg, Group{Name: "billing"}),
		r.DeleteGroup(bg, "billing"), r.Flush(bg), stepErr, clampErr,
	} {
		require.ErrorIs(t, err, message.ErrClosed)
	}
	r.DropTopic("orders")
	r.Touch("billing")
	require.Equal(t, n, r.db.count())
	r.open()
	r.has("billing", orders0, 10)
}

// Close must not return while an edit still writes, and if that edit fails with
// its batch on disk, Close puts the disk right.
func TestCloseWaitsForAnEdit(t *testing.T) {
	bubble(t, func(t *testing.T, db *faultyDB) {
		r := newRigOn(t, db, live)
		require.NoError(t, r.CreateGroup(bg, Group{Name: "billing"}))
		r.commit("billing", orders0, 10)
		require.NoError(t, r.Flush(bg))
		db.entered, db.gate = make(chan struct{}, 9), make(chan struct{})
		db.fail(failsAfter)
		edited, closed := make(chan error), make(chan error, 1)
		go func() { edited <- r.Reset(bg, "billing", at(orders0, 3)) }()
		<-db.entered
		go func() { closed <- r.Close() }()
		synctest.Wait()
		require.Empty(t, closed)
		close(db.gate)
		require.ErrorIs(t, <-edited, errDisk)
		require.NoError(t, <-closed)
		require.EqualValues(t, 10, r.stored("billing", orders0))
	})
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := Open(bg, newDB(t), Options{FlushEvery: -1, ForgetAfter: -1})
	for _, s := range []string{"Bounds", "SyncLog", "FlushEvery", "ForgetAfter"} {
		require.ErrorContains(t, err, s)
	}
}

// The caller's topic may alias a record that was only lent.
func TestNamesAreCopied(t *testing.T) {
	r := newRig(t)
	lent := []byte("orders")
	r.log.visible[queue("xxxxxx", 0)] = 100
	require.NoError(t, r.Commit(bg, "billing", at(queue(alias(lent), 0), 5)))
	copy(lent, "xxxxxx")
	require.Equal(t, at(orders0, 5), r.Offsets("billing"))
	require.NoError(t, r.Flush(bg))
	r.crash()
	require.Equal(t, at(orders0, 5), r.Offsets("billing"))
}

func alias(b []byte) string { return unsafe.String(&b[0], len(b)) }
