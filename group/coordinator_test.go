package group

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// desk is a coordinator in a bubble, with a clock that the test moves.
type desk struct {
	*Coordinator
	t     *testing.T
	clock *clock.Manual
	count atomic.Int64 // queues of topic "t"
	epoch atomic.Uint64
}

func bubble(t *testing.T, f func(t *testing.T, d *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &desk{t: t, clock: clock.NewManual(time.Unix(1e9, 0))}
		d.count.Store(4)
		c, err := New(Options{
			Queues: func(topic string) int {
				if topic == "t" {
					return int(d.count.Load())
				}
				return 1
			},
			Epoch: func(string) uint64 { return d.epoch.Load() },
			Clock: d.clock,
		})
		require.NoError(t, err)
		d.Coordinator = c
		defer func() { require.NoError(t, d.Close()) }() // a test that fails leaves no goroutines behind either
		f(t, d)
	})
}

func (d *desk) member(id string) Member {
	return Member{Group: "g", ID: id, Subscriptions: map[string]string{"t": "*"}}
}

func (d *desk) join(id string, change ...func(*Member)) *Membership {
	d.t.Helper()
	w := d.member(id)
	for _, f := range change {
		f(&w)
	}
	m, err := d.Join(d.t.Context(), w)
	require.NoError(d.t, err)
	synctest.Wait()
	return m
}

// next returns what the member is told now; nothing is an empty change.
func (d *desk) next(m *Membership) Change {
	d.t.Helper()
	synctest.Wait()
	ctx, cancel := context.WithCancel(d.t.Context())
	cancel()
	ch, err := m.Next(ctx)
	if err != nil {
		require.ErrorIs(d.t, err, context.Canceled)
	}
	return ch
}

// show writes a change as "lost 1 revoked 2,3 given 0".
func show(ch Change) string {
	var parts []string
	for _, l := range []struct {
		name string
		ks   []Claim
	}{{"lost", ch.Lost}, {"revoked", ch.Revoked}, {"given", ch.Given}} {
		if len(l.ks) > 0 {
			var qs []string
			for _, k := range l.ks {
				qs = append(qs, strings.TrimPrefix(k.Queue.String(), "t/"))
			}
			parts = append(parts, l.name+" "+strings.Join(qs, ","))
		}
	}
	return strings.Join(parts, " ")
}

func TestRevokeDrainGive(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a := d.join("a")
		first := d.next(a)
		require.Equal(t, "given 0,1,2,3", show(first))
		b := d.join("b")
		require.Empty(t, show(d.next(b)), "the holder has not released yet")
		ch := d.next(a)
		require.Equal(t, "revoked 2,3", show(ch))
		require.NoError(t, d.Valid(ch.Revoked[0]), "a revoked claim settles while it drains")

		a.Release(ch.Revoked[0])
		require.Equal(t, "given 2", show(d.next(b)))
		require.ErrorIs(t, d.Valid(ch.Revoked[0]), message.ErrFenced)
		require.NoError(t, d.Valid(ch.Revoked[1]))
		a.Release(ch.Revoked...)
		given := d.next(b)
		require.Equal(t, "given 3", show(given))
		require.Greater(t, given.Given[0].Generation, ch.Revoked[1].Generation)
		require.EqualValues(t, 1, d.Stats().Refused)
		require.Zero(t, d.Stats().Draining)
		require.NoError(t, d.Valid(first.Given[0]))
	})
}

func TestPlanChangesBack(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a := d.join("a")
		d.next(a)
		b := d.join("b")
		ch := d.next(a)
		b.Abandon(nil)
		require.Empty(t, show(d.next(a)), "what drains goes on draining")
		a.Release(ch.Revoked...)
		require.Equal(t, "given 2,3", show(d.next(a)))
	})
}

// What Next has not named has no handlers, so nobody waits for it.
func TestUnseenIsFree(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a := d.join("a")
		b := d.join("b")
		require.Equal(t, "given 2,3", show(d.next(b)))
		require.Equal(t, "given 0,1", show(d.next(a)))
	})
}

func TestDrainLimit(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a := d.join("a")
		first := d.next(a)
		b := d.join("b")
		require.Equal(t, "revoked 2,3", show(d.next(a)))
		d.clock.Advance(DefaultDrainLimit - 1)
		require.Empty(t, show(d.next(b)))
		d.clock.Advance(1)
		require.Equal(t, "given 2,3", show(d.next(b)))
		require.Equal(t, "lost 2,3", show(d.next(a)))
		var fenced *FencedError
		require.ErrorAs(t, d.Valid(first.Given[2]), &fenced)
		require.Equal(t, int32(2), fenced.Claim.Queue.ID)
		require.NoError(t, d.Valid(first.Given[0]), "the rest stays")
		a.Release(first.Given[2:]...) // late, and without effect
		require.Empty(t, show(d.next(a))+show(d.next(b)))
		require.EqualValues(t, 2, d.Stats().Lost)
	})
}

func TestMemberDrainLimit(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a := d.join("a", func(w *Member) { w.DrainLimit = time.Second })
		d.next(a)
		b := d.join("b")
		d.next(a)
		d.clock.Advance(time.Second)
		require.Equal(t, "given 2,3", show(d.next(b)))
	})
}

func TestContextEnds(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		cause := errors.New("pulled the plug")
		ctx, cancel := context.WithCancelCause(t.Context())
		a, err := d.Join(ctx, d.member("a"))
		require.NoError(t, err)
		held := d.next(a)
		b := d.join("b")
		d.next(a)
		waiting := make(chan error)
		go func() {
			_, err := a.Next(context.Background())
			waiting <- err
		}()
		synctest.Wait()
		cancel(cause)
		require.ErrorIs(t, <-waiting, cause)
		require.Equal(t, "given 0,1,2,3", show(d.next(b)))
		<-a.Done()
		require.ErrorIs(t, a.Err(), cause)
		for _, k := range held.Given {
			require.ErrorIs(t, d.Valid(k), message.ErrFenced)
		}
		require.NoError(t, a.Leave(t.Context()))
		_, err = d.Join(ctx, d.member("late"))
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestLeave(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a, b := d.join("a"), d.join("b")
		held := d.next(a)
		d.next(b)
		left := make(chan error)
		go func() { left <- a.Leave(t.Context()) }()
		ch := d.next(a)
		require.Equal(t, "revoked 0,1", show(ch))
		require.Empty(t, show(d.next(b)))
		require.True(t, d.Members("g")[0].Leaving)
		require.NoError(t, d.Valid(held.Given[0]))
		a.Release(ch.Revoked...)
		require.NoError(t, <-left)
		require.Equal(t, "given 0,1", show(d.next(b)))
		_, err := a.Next(t.Context())
		require.ErrorIs(t, err, message.ErrClosed)
		require.NoError(t, a.Leave(t.Context()))
		require.NoError(t, d.join("c").Leave(context.Background()), "nothing to drain")
	})
}

func TestLeaveEnds(t *testing.T) {
	t.Run("by_its_context", func(t *testing.T) {
		bubble(t, func(t *testing.T, d *desk) {
			a, b := d.join("a"), d.join("b")
			d.next(a)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, a.Leave(ctx), context.Canceled)
			require.Equal(t, "given 0,1,2,3", show(d.next(b)))
		})
	})
	t.Run("by_the_drain_limit", func(t *testing.T) {
		bubble(t, func(t *testing.T, d *desk) {
			a, b := d.join("a"), d.join("b")
			d.next(a)
			left := make(chan error)
			go func() { left <- a.Leave(t.Context()) }()
			synctest.Wait()
			d.clock.Advance(DefaultDrainLimit)
			require.ErrorIs(t, <-left, message.ErrFenced)
			require.Equal(t, "given 0,1,2,3", show(d.next(b)))
		})
	})
}

func TestAbandon(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a, b := d.join("a"), d.join("b")
		held := d.next(a)
		cause := errors.New("handler hangs")
		a.Abandon(cause)
		_, err := a.Next(t.Context())
		require.ErrorIs(t, err, cause)
		require.ErrorIs(t, err, message.ErrFenced)
		require.ErrorIs(t, d.Valid(held.Given[0]), message.ErrFenced)
		require.Equal(t, "given 0,1,2,3", show(d.next(b)))
		a = d.join("a") // the name is free again
		require.ErrorIs(t, d.Valid(held.Given[0]), message.ErrFenced)
		require.NotNil(t, a)
	})
}

func TestConflicts(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		d.join("a", func(w *Member) { w.Subscriptions = map[string]string{"t": "x || y", "u": ""} })
		same := map[string]string{"t": " x || y ", "u": "*"}
		cases := []struct {
			name             string
			change           func(*Member)
			what, want, have string
		}{
			{"mode", func(w *Member) { w.Mode = Broadcasting }, "mode", "Broadcasting", "Clustering"},
			{"strategy", func(w *Member) { w.Strategy = Circle() }, "strategy", "AVG_BY_CIRCLE", "AVG"},
			{"filter", func(w *Member) { w.Subscriptions = map[string]string{"t": "x", "u": "*"} },
				"subscription to t", "x", "x || y"},
			{"missing", func(w *Member) { w.Subscriptions = map[string]string{"t": "x || y"} },
				"subscription to u", "", "*"},
			{"more", func(w *Member) { w.Subscriptions = map[string]string{"t": "x || y", "u": "*", "v": "*"} },
				"subscription to v", "*", ""},
		}
		for _, c := range cases {
			w := d.member("b")
			w.Subscriptions = same
			c.change(&w)
			_, err := d.Join(t.Context(), w)
			require.ErrorIs(t, err, message.ErrSubscriptionConflict, c.name)
			var conflict *ConflictError
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, ConflictError{"g", "b", "a", c.what, c.want, c.have}, *conflict)
			require.ErrorContains(t, err, "member b")
			require.ErrorContains(t, err, "member a")
		}
		w := d.member("a")
		w.Subscriptions = same
		_, err := d.Join(t.Context(), w)
		require.ErrorIs(t, err, message.ErrExists)
		w.ID = ""
		m, err := d.Join(t.Context(), w)
		require.NoError(t, err)
		require.Equal(t, "member-1", m.ID())
		w.Group = "other"
		w.Mode = Broadcasting
		_, err = d.Join(t.Context(), w)
		require.NoError(t, err, "groups do not know each other")
		require.Equal(t, []string{"g", "other"}, d.Groups())
	})
}

type nameless struct{ Strategy }

func (nameless) Name() string { panic("no name") }

func TestBadMembers(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		_, err := d.Join(t.Context(), Member{
			Group: "no good", Mode: 9, DrainLimit: -1, Subscriptions: map[string]string{"..": "*"},
		})
		require.ErrorIs(t, err, message.ErrInvalidName)
		require.ErrorIs(t, err, message.ErrUnsupported)
		require.ErrorIs(t, err, message.ErrOutOfRange)
		w := d.member("a")
		w.Strategy = nameless{}
		_, err = d.Join(t.Context(), w)
		require.ErrorContains(t, err, "panicked")
		require.Empty(t, d.Groups())
	})
	_, err := New(Options{DrainLimit: -1})
	require.ErrorContains(t, err, "Queues")
	require.ErrorContains(t, err, "Clock")
	require.ErrorContains(t, err, "DrainLimit")
}

func TestBroadcastingAndShared(t *testing.T) {
	for _, mode := range []Mode{Broadcasting, Shared} {
		t.Run(mode.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, d *desk) {
				set := func(w *Member) { w.Mode = mode }
				a, b := d.join("a", set), d.join("b", set)
				ka, kb := d.next(a), d.next(b)
				require.Equal(t, "given 0,1,2,3", show(ka))
				require.Equal(t, "given 0,1,2,3", show(kb))
				d.count.Store(5)
				d.Refresh("t")
				require.Equal(t, "given 4", show(d.next(a)))
				a.Abandon(nil)
				require.Equal(t, "given 4", show(d.next(b)))
				require.NoError(t, d.Valid(kb.Given[0]))
				require.ErrorIs(t, d.Valid(ka.Given[0]), message.ErrFenced)
			})
		})
	}
}

func TestTopicGrowsAndShrinks(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		d.count.Store(0)
		a := d.join("a")
		require.Empty(t, show(d.next(a)))
		d.count.Store(3)
		d.Refresh("elsewhere")
		require.Empty(t, show(d.next(a)))
		d.Refresh("t")
		require.Equal(t, "given 0,1,2", show(d.next(a)))
		d.count.Store(1)
		d.Refresh()
		ch := d.next(a)
		require.Equal(t, "revoked 1,2", show(ch))
		a.Release(ch.Revoked...)
		require.Empty(t, show(d.next(a)))
		require.Equal(t, 1, d.Stats().Held)
	})
}

func TestResubscribe(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a := d.join("a")
		d.next(a)
		more := map[string]string{"t": "*", "u": "x"}
		require.NoError(t, a.Resubscribe(more))
		require.Equal(t, "given u/0", show(d.next(a)), "alone, at once")

		b := d.join("b", func(w *Member) { w.Subscriptions = more })
		d.next(a)
		d.next(b)
		less := map[string]string{"t": "*"}
		require.NoError(t, a.Resubscribe(less))
		require.Equal(t, more, d.Members("g")[0].Subscriptions, "b has not asked yet")
		var conflict *ConflictError
		require.ErrorAs(t, b.Resubscribe(map[string]string{"u": "*"}), &conflict)
		require.Equal(t, "a", conflict.Other)
		require.NoError(t, b.Resubscribe(more), "what is in force is always allowed")
		require.NoError(t, b.Resubscribe(less))
		require.Equal(t, less, d.Members("g")[1].Subscriptions)

		require.NoError(t, a.Resubscribe(more))
		b.Abandon(nil)
		require.Equal(t, more, d.Members("g")[0].Subscriptions, "who leaves has no say")
		require.ErrorIs(t, b.Resubscribe(less), message.ErrFenced)
		require.ErrorIs(t, a.Resubscribe(map[string]string{"no good": ""}), message.ErrInvalidName)
	})
}

// fickle is a strategy that can be told to fail.
type fickle struct {
	Strategy
	fault *atomic.Pointer[string]
}

func (s fickle) Allocate(group, self string, qs []message.Queue, members []string) ([]message.Queue, error) {
	mine, err := s.Strategy.Allocate(group, self, slices.Clone(qs), members)
	fault := s.fault.Load()
	// It may also write to what it was lent.
	clear(qs)
	clear(members)
	if fault == nil || err != nil {
		return mine, err
	}
	switch *fault {
	case "error":
		return nil, errors.New("no idea")
	case "panic":
		panic("lost my mind")
	case "foreign queue":
		return append(mine, message.Queue{Topic: mine[0].Topic, ID: 99}), nil
	case "foreign topic":
		return append(mine, message.Queue{Topic: "elsewhere"}), nil
	case "negative":
		return append(mine, message.Queue{Topic: mine[0].Topic, ID: -1}), nil
	case "twice":
		return append(mine, mine...), nil
	case "everything to everybody":
		return queues(4), nil
	}
	panic("unknown fault")
}

func TestStrategyFaults(t *testing.T) {
	for _, name := range []string{"error", "panic", "foreign queue", "foreign topic", "negative", "twice", "everything to everybody"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, d *desk) {
				var heard []Event
				d.Listen(func(e Event) {
					if e.Kind == Failed {
						heard = append(heard, e)
					}
				})
				var fault atomic.Pointer[string]
				set := func(w *Member) { w.Strategy = fickle{Average(), &fault} }
				a, b := d.join("a", set), d.join("b", set)
				require.Equal(t, "given 0,1", show(d.next(a)))
				require.Equal(t, "given 2,3", show(d.next(b)))
				fault.Store(&name)
				x := d.join("x", set)
				require.Empty(t, show(d.next(a))+show(d.next(b))+show(d.next(x)), "the old assignment stays")
				require.Len(t, heard, 1)
				require.Equal(t, "t", heard[0].Topic)
				require.Error(t, heard[0].Err)
				require.EqualValues(t, 1, d.Stats().Failures)
				require.ErrorContains(t, d.Stats().LastFailure, "group: strategy of member ")

				a.Abandon(nil)
				require.Empty(t, show(d.next(b))+show(d.next(x)))
				require.Equal(t, 2, d.Stats().Unassigned)
				fault.Store(nil)
				d.clock.Advance(time.Minute) // tried again without a change
				ch := d.next(b)
				b.Release(ch.Revoked...)
				require.Equal(t, 4, d.Stats().Held)
				require.Zero(t, d.Stats().Unassigned)
			})
		})
	}
}

// A strategy that fails for one topic leaves the others alone, and is asked
// less and less often.
func TestFailureIsByTopic(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		set := func(w *Member) {
			w.Strategy = Config(message.Queue{Topic: "t", ID: 7}, message.Queue{Topic: "u", ID: 0})
			w.Subscriptions = map[string]string{"t": "", "u": ""}
		}
		a := d.join("a", set)
		require.Equal(t, "given u/0", show(d.next(a)))
		for range 3600 {
			d.clock.Advance(time.Second)
			synctest.Wait()
		}
		require.InDelta(t, 65, d.Stats().Failures, 3)
		d.count.Store(8)
		d.Refresh("t")
		require.Equal(t, "given 7", show(d.next(a)))
	})
}

func TestFence(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a, b := d.join("a"), d.join("b")
		first, seat := d.next(a), a.Claim()
		require.NoError(t, d.Valid(seat))
		d.epoch.Store(7)
		d.Fence("g")
		d.Fence("unknown")
		require.ErrorIs(t, d.Valid(first.Given[0]), message.ErrFenced)
		require.ErrorIs(t, d.Valid(seat), message.ErrFenced)
		require.Equal(t, "given 2,3", show(d.next(b)), "b had seen nothing")
		ch := d.next(a)
		require.Equal(t, "lost 0,1", show(ch), "not given before the old handlers are done")
		a.Release(ch.Lost[0])
		ch = d.next(a)
		require.Equal(t, "given 0", show(ch))
		require.EqualValues(t, 7, ch.Given[0].Epoch)
		d.clock.Advance(DefaultDrainLimit)
		require.Equal(t, "given 1", show(d.next(a)))
		require.NoError(t, d.Valid(a.Claim()))
		require.EqualValues(t, 7, a.Claim().Epoch)
		require.EqualValues(t, 2, d.Stats().Lost)
	})
}

func TestClaims(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a := d.join("a")
		k := d.next(a).Given[1]
		require.NoError(t, d.Valid(k))
		rebuilt := Claim{Group: k.Group, Member: k.Member, Queue: k.Queue, Generation: k.Generation, Epoch: k.Epoch}
		require.NoError(t, d.Valid(rebuilt))
		seat := a.Claim()
		seat.h = nil
		require.NoError(t, d.Valid(seat))
		for name, change := range map[string]func(*Claim){
			"group":      func(k *Claim) { k.Group = "h" },
			"member":     func(k *Claim) { k.Member = "b" },
			"queue":      func(k *Claim) { k.Queue.ID = 2 },
			"topic":      func(k *Claim) { k.Queue.Topic = "u" },
			"generation": func(k *Claim) { k.Generation++ },
			"epoch":      func(k *Claim) { k.Epoch++ },
			"all":        func(k *Claim) { *k = Claim{} },
		} {
			for _, forged := range []Claim{k, rebuilt} {
				change(&forged)
				require.ErrorIs(t, d.Valid(forged), message.ErrFenced, name)
				require.ErrorIs(t, d.Do(forged, func() error { panic("runs") }), message.ErrFenced, name)
			}
		}
		require.EqualValues(t, 28, d.Stats().Refused)
		stop := errors.New("stop")
		require.ErrorIs(t, d.Do(k, func() error { return stop }), stop)
		require.NoError(t, d.Do(rebuilt, func() error { return nil }))
		bubbleless, err := New(Options{Queues: func(string) int { return 1 }, Clock: d.clock})
		require.NoError(t, err)
		require.ErrorIs(t, bubbleless.Valid(k), message.ErrFenced, "another coordinator's")
		require.Equal(t, "g/a #3 on t/1", Claim{Group: "g", Member: "a", Queue: k.Queue, Generation: 3}.String())
	})
}

// Do and the next holder never overlap.
func TestDoHoldsTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a, b := d.join("a"), d.join("b")
		k := d.next(a).Given[0]
		inside, proceed, done := make(chan bool), make(chan bool), make(chan error)
		go func() {
			done <- d.Do(k, func() error {
				inside <- true
				<-proceed
				return nil
			})
		}()
		<-inside
		var ended atomic.Bool
		go func() {
			a.Abandon(nil)
			ended.Store(true)
		}()
		for range 100 {
			runtime.Gosched()
			require.False(t, ended.Load())
			require.True(t, k.h.live.Load())
		}
		close(proceed)
		require.NoError(t, <-done)
		<-a.Done()
		require.ErrorIs(t, d.Valid(k), message.ErrFenced)
		require.Equal(t, "given 0,1,2,3", show(d.next(b)))
	})
}

func TestListeners(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		var heard []string
		d.Listen(func(Event) { panic("deaf") })
		stop := d.Listen(func(e Event) {
			ids := ""
			for _, q := range e.Queues {
				ids += fmt.Sprint(q.ID)
			}
			heard = append(heard, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Kind, e.Member, ids)))
		})
		a := d.join("a")
		d.next(a)
		b := d.join("b")
		a.Release(d.next(a).Revoked...)
		d.next(b)
		a.Abandon(nil)
		synctest.Wait()
		require.Equal(t, []string{
			"Joined a", "Given a 0123", "Joined b", "Revoked a 23", "Released a 23", "Given b 23",
			"Lost a 01", "Left a", "Given b 01",
		}, heard)
		require.EqualValues(t, 9, d.Stats().ListenerPanics)
		stop()
		b.Abandon(nil)
		synctest.Wait()
		require.Len(t, heard, 9)
	})
	require.Equal(t, "EventKind(0)", EventKind(0).String())
	require.Equal(t, "Mode(7)", Mode(7).String())
}

// A listener that stands still costs a bounded amount of memory.
func TestSlowListener(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		block := make(chan bool)
		d.Listen(func(Event) { <-block })
		for range newsMost {
			d.join("a").Abandon(nil)
		}
		require.Positive(t, d.Stats().Unheard)
		close(block)
		synctest.Wait()
	})
}

func TestClose(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a := d.join("a")
		k := d.next(a).Given[0]
		b := d.join("b")
		waiting := make(chan error)
		go func() {
			_, err := b.Next(context.Background())
			waiting <- err
		}()
		synctest.Wait()
		require.NoError(t, d.Close())
		require.ErrorIs(t, <-waiting, message.ErrClosed)
		require.ErrorIs(t, d.Valid(k), message.ErrFenced)
		_, err := d.Join(t.Context(), d.member("c"))
		require.ErrorIs(t, err, message.ErrClosed)
		_, err = a.Next(t.Context())
		require.ErrorIs(t, err, message.ErrClosed)
		d.Refresh()
		d.Fence("g")
		require.Empty(t, d.Groups())
		require.Nil(t, d.Members("g"))
		require.NoError(t, d.Close())
	})
}

func TestMembers(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		a := d.join("a")
		ks := d.next(a).Given
		d.clock.Advance(time.Hour)
		d.join("b")
		got := d.Members("g")
		require.Len(t, got, 2)
		require.Equal(t, MemberInfo{
			ID: "a", Strategy: "AVG", Subscriptions: map[string]string{"t": "*"}, Joined: time.Unix(1e9, 0),
			Claims: ks, Draining: 2,
		}, got[0])
		require.Empty(t, got[1].Claims)
		require.Equal(t, "g", a.Group())
		s := d.Stats()
		require.Equal(t, []int{1, 2, 4, 2, 0}, []int{s.Groups, s.Members, s.Held, s.Draining, s.Unassigned})
	})
}
