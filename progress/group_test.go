package progress

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

func TestGroupLifecycle(t *testing.T) {
	r := newRig(t)
	require.Empty(t, r.Groups())
	require.NoError(t, r.CreateGroup(bg, Group{Name: "billing"}))
	require.ErrorIs(t, r.CreateGroup(bg, Group{Name: "billing"}), message.ErrExists)
	require.NoError(t, r.CreateGroup(bg, Group{Name: "audit", Broadcast: true, RetryMax: -1}))
	r.crash()
	require.Equal(t, []Group{
		{Name: "audit", Broadcast: true, RetryMax: -1, RetryQueues: 1},
		{Name: "billing", RetryMax: 16, RetryQueues: 1},
	}, r.Groups())

	want := Group{Name: "billing", Disabled: true, RetryMax: 3, RetryQueues: 2}
	require.NoError(t, r.UpdateGroup(bg, want))
	r.crash()
	got, ok := r.Group("billing")
	require.True(t, ok)
	require.Equal(t, want, got)

	require.NoError(t, r.DeleteGroup(bg, "billing"))
	r.crash()
	_, ok = r.Group("billing")
	require.False(t, ok)
	require.ErrorIs(t, r.UpdateGroup(bg, want), message.ErrNotFound)
	require.ErrorIs(t, r.DeleteGroup(bg, "billing"), message.ErrNotFound)
}

func TestGroupThatIsRefused(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.CreateGroup(bg, Group{Name: "billing"}))
	before := r.db.dump()
	for name, c := range map[string]struct {
		group Group
		want  error
	}{
		"empty":            {Group{}, message.ErrInvalidName},
		"long":             {Group{Name: strings.Repeat("x", 121)}, message.ErrInvalidName},
		"path":             {Group{Name: "../billing"}, message.ErrInvalidName},
		"dots":             {Group{Name: ".."}, message.ErrInvalidName},
		"zero_byte":        {Group{Name: "a\x00b"}, message.ErrInvalidName},
		"case_twin":        {Group{Name: "Billing"}, message.ErrInvalidName},
		"retry_max":        {Group{Name: "a", RetryMax: -2}, message.ErrOutOfRange},
		"retry_max_huge":   {Group{Name: "a", RetryMax: 1 << 30}, message.ErrOutOfRange},
		"retry_queues":     {Group{Name: "a", RetryQueues: -1}, message.ErrOutOfRange},
		"retry_queues_big": {Group{Name: "a", RetryQueues: 1025}, message.ErrOutOfRange},
	} {
		t.Run(name, func(t *testing.T) {
			err := r.CreateGroup(bg, c.group)
			require.ErrorIs(t, err, c.want)
			if c.want == message.ErrInvalidName {
				var ne *message.NameError
				require.ErrorAs(t, err, &ne)
				require.Equal(t, "group", ne.Kind)
				require.ErrorIs(t, r.Commit(bg, c.group.Name, at(orders0, 1)), message.ErrInvalidName)
				require.ErrorIs(t, r.Reset(bg, c.group.Name, at(orders0, 1)), message.ErrInvalidName)
			}
			require.Len(t, r.Groups(), 1)
			require.Equal(t, before, r.db.dump())
		})
	}
	require.ErrorIs(t, r.UpdateGroup(bg, Group{Name: "billing", RetryMax: -2}), message.ErrOutOfRange)
}

func TestEpochOnlyRises(t *testing.T) {
	r := newRig(t)
	last := r.Epoch("billing")
	rises := func(err error) {
		t.Helper()
		require.NoError(t, err)
		require.Greater(t, r.Epoch("billing"), last)
		last = r.Epoch("billing")
		r.crash() // it is on disk already
		require.Equal(t, last, r.Epoch("billing"))
	}
	rises(r.CreateGroup(bg, Group{Name: "billing"}))
	rises(r.Reset(bg, "billing", at(orders0, 5)))
	rises(r.Reset(bg, "billing", nil))
	rises(r.DeleteGroup(bg, "billing"))
	rises(r.CreateGroup(bg, Group{Name: "billing"}))
	r.commit("other", orders0, 9)
	require.NoError(t, r.Flush(bg))
	rises(r.Clone(bg, "other", "billing", "orders"))
	rises(r.DeleteGroup(bg, "billing"))
	rises(r.Commit(bg, "billing", at(orders0, 1))) // creates it again

	other := r.Epoch("other")
	require.NoError(t, r.UpdateGroup(bg, Group{Name: "billing", RetryMax: 2}))
	r.commit("billing", orders0, 50)
	require.Equal(t, last, r.Epoch("billing"))
	require.Equal(t, other, r.Epoch("other"))
}

// An epoch whose batch failed may be on disk, so it is never given to anybody.
func TestEpochAfterFailedBatch(t *testing.T) {
	for name, f := range map[string]failure{"before": failsBefore, "after": failsAfter} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.commit("billing", orders0, 9)
			require.NoError(t, r.Flush(bg))
			old := r.Epoch("billing")
			r.db.fail(f)
			require.ErrorIs(t, r.Reset(bg, "billing", at(orders0, 2)), errDisk)
			require.Equal(t, old, r.Epoch("billing"))
			r.has("billing", orders0, 9)
			require.NoError(t, r.Reset(bg, "billing", at(orders0, 3)))
			require.Equal(t, old+2, r.Epoch("billing"))
		})
	}
}

func TestFailedEditsLeaveMemoryAndDiskAlike(t *testing.T) {
	edits := map[string]func(r *rig) error{
		"create": func(r *rig) error { return r.CreateGroup(bg, Group{Name: "new"}) },
		"update": func(r *rig) error { return r.UpdateGroup(bg, Group{Name: "billing", RetryMax: 2}) },
		"delete": func(r *rig) error { return r.DeleteGroup(bg, "billing") },
		"reset": func(r *rig) error {
			return r.Reset(bg, "billing", map[message.Queue]int64{orders0: 1, orders1: 1, bills0: 3})
		},
		"clone": func(r *rig) error { return r.Clone(bg, "source", "billing", "orders") },
	}
	for name, edit := range edits {
		for mode, f := range map[string]failure{"before": failsBefore, "after": failsAfter} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				r := newRig(t)
				r.commit("billing", orders0, 9)
				r.commit("billing", bills0, 2)
				r.commit("source", orders1, 7)
				require.NoError(t, r.Flush(bg))
				groups, offsets, epoch := r.Groups(), r.Offsets("billing"), r.Epoch("billing")
				r.db.fail(f)
				require.ErrorIs(t, edit(r), errDisk)
				same := func() {
					t.Helper()
					require.Equal(t, groups, r.Groups())
					require.Equal(t, offsets, r.Offsets("billing"))
					require.Equal(t, epoch, r.Epoch("billing"))
				}
				same()
				require.NoError(t, r.Flush(bg))
				r.crash()
				same()
			})
		}
	}
}
