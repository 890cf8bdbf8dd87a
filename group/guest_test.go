package group

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

// TestGuest has guests before, beside and behind members that differ from each
// other: they are no member's conflict, get no queue, and their claims are fenced
// like any.
func TestGuest(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		guest := d.join("guest", func(w *Member) { w.Guest, w.Mode = true, Shared })
		require.NoError(t, d.Valid(guest.Claim()))

		a := d.join("a")
		require.Len(t, d.next(a).Given, 4, "all queues are the member's")
		require.Empty(t, d.next(guest))
		late := d.join("late", func(w *Member) { w.Guest = true })
		require.NoError(t, late.Leave(t.Context()))
		require.ErrorIs(t, guest.Resubscribe(map[string]string{"t": "x"}), message.ErrUnsupported)
		require.NoError(t, a.Resubscribe(map[string]string{"t": "x"}), "a guest need not agree")
		require.Equal(t, "x", d.Members("g")[0].Subscriptions["t"])

		w := d.member("b")
		w.Mode = Shared
		_, err := d.Join(t.Context(), w)
		require.ErrorIs(t, err, message.ErrSubscriptionConflict)
		a.Abandon(nil)
		b := d.join("b", func(w *Member) { w.Mode = Shared })
		require.Len(t, d.next(b).Given, 4, "only guests are left, so b decides")

		old := guest.Claim()
		d.epoch.Store(7)
		d.Fence("g")
		d.next(b)
		require.ErrorIs(t, d.Valid(old), message.ErrFenced)
		require.NoError(t, d.Valid(guest.Claim()))
		require.Equal(t, uint64(7), guest.Claim().Epoch)
		require.True(t, d.Members("g")[1].Guest)
	})
}
