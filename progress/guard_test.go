package progress

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

func TestGuards(t *testing.T) {
	type want struct {
		lowest  int64
		guarded bool
	}
	for name, c := range map[string]struct {
		set  func(r *rig)
		want map[message.Queue]want
	}{
		"nobody": {func(*rig) {}, map[message.Queue]want{orders0: {}}},
		"group_without_offsets": {func(r *rig) {
			require.NoError(r.t, r.CreateGroup(bg, Group{Name: "a"}))
		}, map[message.Queue]want{orders0: {}}},
		"lowest_of_two": {func(r *rig) {
			r.commit("a", orders0, 40)
			r.commit("b", orders0, 30)
		}, map[message.Queue]want{orders0: {30, true}, orders1: {0, true}, bills0: {}}},
		"queue_not_read_yet": {func(r *rig) {
			r.commit("a", orders0, 40)
			r.commit("b", orders0, 30)
			r.commit("b", orders1, 30)
		}, map[message.Queue]want{orders0: {30, true}, orders1: {0, true}}},
		"broadcasting": {func(r *rig) {
			require.NoError(r.t, r.CreateGroup(bg, Group{Name: "all", Broadcast: true}))
			r.commit("all", orders0, 1)
		}, map[message.Queue]want{orders0: {}, orders1: {}}},
		"disabled_still_guards": {func(r *rig) {
			require.NoError(r.t, r.CreateGroup(bg, Group{Name: "off", Disabled: true}))
			r.commit("off", orders0, 1)
		}, map[message.Queue]want{orders0: {1, true}}},
		"deleted": {func(r *rig) {
			r.commit("a", orders0, 40)
			require.NoError(r.t, r.DeleteGroup(bg, "a"))
		}, map[message.Queue]want{orders0: {}}},
		"dropped": {func(r *rig) {
			r.commit("a", orders0, 40)
			r.DropTopic("orders")
		}, map[message.Queue]want{orders0: {}}},
		"forgotten": {func(r *rig) {
			r.commit("a", orders0, 10)
			r.clock.Advance(20 * 24 * time.Hour)
			r.commit("b", orders0, 40)
			r.clock.Advance(11 * 24 * time.Hour)
		}, map[message.Queue]want{orders0: {40, true}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c.set(r)
			for range 2 { // once more from disk
				for q, w := range c.want {
					lowest, guarded := r.Guards(q, r.clock.Now())
					require.Equal(t, w, want{lowest, guarded}, q.String())
				}
				opened := r.opened
				require.NoError(t, r.Close())
				r.open()
				r.opened = opened
			}
		})
	}
}

func TestSignsOfLife(t *testing.T) {
	month := DefaultForgetAfter + time.Minute
	for name, c := range map[string]struct {
		sign  func(r *rig)
		alive bool
	}{
		"none":         {func(*rig) {}, false},
		"listing":      {func(r *rig) { r.Offsets("a"); r.Group("a"); r.Guards(orders0, r.clock.Now()) }, false},
		"commit":       {func(r *rig) { r.commit("a", orders0, 11) }, true},
		"late_commit":  {func(r *rig) { r.commit("a", orders0, 2) }, true},
		"empty_commit": {func(r *rig) { require.NoError(r.t, r.Commit(bg, "a", nil)) }, true},
		"fetch":        {func(r *rig) { r.Committed("a", bills0) }, true},
		"touch":        {func(r *rig) { r.Touch("a"); r.Touch("unknown") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.commit("a", orders0, 10)
			require.NoError(t, r.Flush(bg))
			r.clock.Advance(2 * time.Hour)
			c.sign(r)
			require.NoError(t, r.Flush(bg))
			r.crash() // the last-seen time is on disk
			r.clock.Advance(month - 2*time.Hour)
			_, guarded := r.Guards(orders0, r.clock.Now())
			require.Equal(t, c.alive, guarded)
			require.Equal(t, c.alive, len(r.Stale()) == 0)
			seen, ok := r.LastSeen("a")
			require.True(t, ok)
			require.Equal(t, c.alive, seen.Equal(day.Add(2*time.Hour)))
			r.commit("a", orders0, 50)
			require.Empty(t, r.Stale())
		})
	}
}

func TestLastSeenIsStoredSparingly(t *testing.T) {
	r := newRig(t)
	r.commit("a", orders0, 10)
	require.NoError(t, r.Flush(bg))
	n := r.db.count()
	for range 59 {
		r.clock.Advance(time.Minute)
		r.Touch("a")
	}
	require.NoError(t, r.Flush(bg))
	require.Equal(t, n, r.db.count())
	r.clock.Advance(time.Minute)
	r.Touch("a")
	require.NoError(t, r.Flush(bg))
	require.Equal(t, n+1, r.db.count())

	r.clock.Advance(time.Minute)
	r.Touch("a")
	require.NoError(t, r.Flush(bg))
	require.Equal(t, n+1, r.db.count())
	require.NoError(t, r.Close()) // a clean end keeps it exactly
	r.open()
	seen, _ := r.LastSeen("a")
	require.True(t, seen.Equal(r.clock.Now()))
}

// After a clock that ran ahead was put right, groups must age again.
func TestClockGoesBack(t *testing.T) {
	r := newRig(t)
	r.clock.Advance(365 * 24 * time.Hour)
	r.commit("a", orders0, 10)
	require.NoError(t, r.Flush(bg))
	r.clock.Set(day)
	r.Touch("a")
	require.NoError(t, r.Flush(bg))
	r.crash()
	r.clock.Advance(DefaultForgetAfter + time.Minute)
	require.Equal(t, []string{"a"}, r.Stale())
}

func TestNoGroupIsForgottenRightAfterOpen(t *testing.T) {
	r := newRig(t)
	r.commit("a", orders0, 10)
	require.NoError(t, r.Close())
	r.clock.Advance(90 * 24 * time.Hour)
	r.open()
	_, guarded := r.Guards(orders0, r.clock.Now())
	require.True(t, guarded)
	require.Empty(t, r.Stale())
	r.clock.Advance(openGrace)
	_, guarded = r.Guards(orders0, r.clock.Now())
	require.False(t, guarded)
	require.Equal(t, []string{"a"}, r.Stale())
}
