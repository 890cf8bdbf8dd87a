package group

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

// slow is a strategy that waits until it may answer.
type slow struct {
	Strategy
	asked, answer chan bool
}

func (s slow) Allocate(group, self string, qs []message.Queue, members []string) ([]message.Queue, error) {
	s.asked <- true
	<-s.answer
	return s.Strategy.Allocate(group, self, qs, members)
}

func (s slow) once() {
	<-s.asked
	s.answer <- true
}

// A plan that read the old epoch is not put in force after a Fence, and what is
// released meanwhile is not given under it either.
func TestFenceDuringAPlan(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		s := slow{Average(), make(chan bool), make(chan bool)}
		d.epoch.Store(1)
		a, err := d.Join(t.Context(), Member{Group: "g", ID: "a", Strategy: s, Subscriptions: map[string]string{"t": ""}})
		require.NoError(t, err)
		s.once()
		first := d.next(a)
		require.Equal(t, "given 0,1,2,3", show(first))

		d.count.Store(5)
		d.Refresh()
		<-s.asked // the epoch was read before this
		d.epoch.Store(2)
		d.Fence("g")
		ch := d.next(a)
		require.Equal(t, "lost 0,1,2,3", show(ch))
		a.Release(ch.Lost...)
		require.Empty(t, show(d.next(a)), "frozen")
		s.answer <- true
		require.Empty(t, show(d.next(a)), "the plan is out of date")
		s.once()
		ch = d.next(a)
		require.Equal(t, "given 0,1,2,3,4", show(ch))
		for _, k := range ch.Given {
			require.EqualValues(t, 2, k.Epoch)
		}
	})
}

// A member that leaves while a plan is made gets nothing from it.
func TestLeaveDuringAPlan(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		s := slow{Average(), make(chan bool), make(chan bool)}
		w := Member{Group: "g", Strategy: s, Subscriptions: map[string]string{"t": ""}}
		a, err := d.Join(t.Context(), w)
		require.NoError(t, err)
		<-s.asked
		b, err := d.Join(t.Context(), w)
		require.NoError(t, err)
		a.Abandon(nil)
		s.answer <- true
		s.once()
		require.Equal(t, "given 0,1,2,3", show(d.next(b)))
		require.EqualValues(t, 1, d.Stats().Plans)
	})
}

// A revocation that Next has not told is told as a loss.
func TestFenceOverRevoke(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a := d.join("a")
		d.next(a)
		b := d.join("b")
		d.Fence("g")
		ch := d.next(a)
		require.Equal(t, "lost 0,1,2,3", show(ch))
		a.Release(ch.Lost...)
		require.Equal(t, "given 0,1", show(d.next(a)))
		require.Equal(t, "given 2,3", show(d.next(b)))
	})
}

func TestSeatEnds(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a := d.join("a")
		k := a.Claim()
		require.NoError(t, d.Valid(k))
		require.Equal(t, message.Queue{}, k.Queue)
		synctest.Wait()
		a.Abandon(nil)
		require.ErrorIs(t, d.Valid(k), message.ErrFenced)
		require.ErrorIs(t, d.Valid(a.Claim()), message.ErrFenced)
	})
}
