package progress

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/message"
)

// live gives a rig its goroutine and the bubble's clock.
func live(o *Options) { o.Manual, o.Clock = false, clock.Real{} }

func (r *rig) stored(group string, q message.Queue) int64 {
	r.t.Helper()
	var v []byte
	var ok bool
	var err error
	r.db.below(func() { v, ok, err = r.db.Get(appendOffsetKey(nil, group, q.Topic, q.ID)) })
	require.NoError(r.t, err)
	if !ok {
		return -1
	}
	offset, err := decodeOffset(nil, v)
	require.NoError(r.t, err)
	return offset
}

func (r *rig) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.mu.running
}

func TestWriterWritesWithinTheInterval(t *testing.T) {
	bubble(t, func(t *testing.T, db *faultyDB) {
		r := newRigOn(t, db, live)
		require.NoError(t, r.CreateGroup(bg, Group{Name: "billing"}))
		n := r.db.count()
		require.True(t, r.idle())
		r.commit("billing", orders0, 10)
		time.Sleep(50 * time.Millisecond) // the bubble's time
		r.commit("billing", orders0, 20)
		r.commit("billing", orders1, 5)
		time.Sleep(49 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, n, r.db.count())
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.Equal(t, n+1, r.db.count())
		require.EqualValues(t, 20, r.stored("billing", orders0))
		require.EqualValues(t, 5, r.stored("billing", orders1))

		require.True(t, r.idle(), "no goroutine once everything is written")
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, n+1, r.db.count())

		// What comes while a batch is written waits its own interval, not two.
		r.db.entered, r.db.gate = make(chan struct{}), make(chan struct{})
		r.commit("billing", orders0, 30)
		<-r.db.entered
		r.commit("billing", orders0, 40)
		time.Sleep(60 * time.Millisecond)
		r.db.gate <- struct{}{}
		synctest.Wait()
		require.EqualValues(t, 30, r.stored("billing", orders0))
		start := time.Now()
		<-r.db.entered
		require.Equal(t, 40*time.Millisecond, time.Since(start))
		r.db.gate <- struct{}{}
		synctest.Wait()
		require.EqualValues(t, 40, r.stored("billing", orders0))
		require.True(t, r.idle())
		r.db.gate = nil
	})
}

func TestWriterTriesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, db *faultyDB) {
		var log strings.Builder
		r := newRigOn(t, db, live, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		require.NoError(t, r.CreateGroup(bg, Group{Name: "billing"}))
		r.log.err = errDisk
		r.commit("billing", orders0, 10)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.EqualValues(t, -1, r.stored("billing", orders0))
		require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"), "one line a series")
		require.ErrorIs(t, r.Flush(bg), errDisk)
		r.has("billing", orders0, 10)
		r.log.mu.Lock()
		r.log.err = nil
		r.log.mu.Unlock()
		time.Sleep(retryMost)
		synctest.Wait()
		require.EqualValues(t, 10, r.stored("billing", orders0))
		require.True(t, r.idle())
	})
}

func TestWriterGivesUpOnAPoisonedLog(t *testing.T) {
	bubble(t, func(t *testing.T, db *faultyDB) {
		r := newRigOn(t, db, live)
		require.NoError(t, r.CreateGroup(bg, Group{Name: "billing"}))
		r.log.err = message.ErrPoisoned
		r.commit("billing", orders0, 10)
		time.Sleep(time.Second)
		synctest.Wait()
		r.commit("billing", orders0, 11)
		r.has("billing", orders0, 11) // memory goes on
		require.ErrorIs(t, r.Flush(bg), message.ErrPoisoned)
		require.ErrorIs(t, r.Close(), message.ErrPoisoned)
		require.EqualValues(t, -1, r.stored("billing", orders0))
	})
}

func TestDurableCommitsShareABatch(t *testing.T) {
	bubble(t, func(t *testing.T, db *faultyDB) {
		r := newRigOn(t, db, live, func(o *Options) { o.DurableSettle = true })
		require.NoError(t, r.CreateGroup(bg, Group{Name: "billing"}))
		n := r.db.count()
		r.db.entered, r.db.gate = make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		commit := func(q message.Queue) {
			if err := r.Commit(bg, "billing", at(q, 7)); err != nil {
				t.Error(err)
			}
			if r.stored("billing", q) != 7 {
				t.Errorf("commit of %s returned before it was on disk", q)
			}
		}
		wg.Go(func() { commit(orders0) })
		<-r.db.entered
		for id := range int32(64) {
			r.log.append(queue("many", id), 100)
			wg.Go(func() { commit(queue("many", id)) })
		}
		synctest.Wait() // one writes, all others wait for it
		r.db.gate <- struct{}{}
		<-r.db.entered
		r.db.gate <- struct{}{}
		wg.Wait()
		synctest.Wait()
		require.Equal(t, n+2, r.db.count())
		r.db.gate = nil
	})
}

func TestDurableCommitEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, db *faultyDB) {
		r := newRigOn(t, db, live, func(o *Options) { o.DurableSettle = true })
		require.NoError(t, r.CreateGroup(bg, Group{Name: "billing"}))
		r.db.entered, r.db.gate = make(chan struct{}, 9), make(chan struct{})
		ctx, cancel := context.WithTimeout(bg, 10*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, r.Commit(ctx, "billing", at(orders0, 10)), context.DeadlineExceeded)
		r.has("billing", orders0, 10) // it counts …
		close(r.db.gate)
		time.Sleep(time.Second)
		synctest.Wait()
		require.EqualValues(t, 10, r.stored("billing", orders0)) // … and becomes durable
	})
}

// A slow disk must not stop commits, fetches and the guard.
func TestNothingWaitsForTheDisk(t *testing.T) {
	bubble(t, func(t *testing.T, db *faultyDB) {
		r := newRigOn(t, db, live)
		require.NoError(t, r.CreateGroup(bg, Group{Name: "billing"}))
		r.db.entered, r.db.gate = make(chan struct{}, 9), make(chan struct{})
		r.commit("billing", orders0, 10)
		<-r.db.entered
		r.commit("billing", orders0, 20)
		offset, _ := r.Committed("billing", orders0)
		require.EqualValues(t, 20, offset)
		lowest, _ := r.Guards(orders0, time.Now())
		require.EqualValues(t, 20, lowest)
		r.Touch("billing")
		r.DropTopic("bills")
		require.Len(t, r.Groups(), 1)
		ctx, cancel := context.WithTimeout(bg, time.Millisecond)
		defer cancel()
		require.ErrorIs(t, r.Flush(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, r.DeleteGroup(ctx, "billing"), context.DeadlineExceeded)
		close(r.db.gate)
	})
}

func TestStep(t *testing.T) {
	r := newRig(t)
	worked, err := r.Step(bg)
	require.NoError(t, err)
	require.False(t, worked)
	r.commit("billing", orders0, 10)
	require.EqualValues(t, -1, r.stored("billing", orders0))
	worked, err = r.Step(bg)
	require.NoError(t, err)
	require.True(t, worked)
	require.EqualValues(t, 10, r.stored("billing", orders0))
}

// A batch that carries no offset needs no sync of the log.
func TestGroupsDoNotSyncTheLog(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.CreateGroup(bg, Group{Name: "billing"}))
	require.NoError(t, r.UpdateGroup(bg, Group{Name: "billing", RetryMax: 3}))
	r.clock.Advance(2 * time.Hour)
	r.Touch("billing")
	require.NoError(t, r.Flush(bg))
	require.NoError(t, r.DeleteGroup(bg, "billing"))
	require.Zero(t, r.log.syncs)
}
