package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/progress"
	"github.com/embermq/embermq/store"
)

// bury makes n dead letters of group g out of a new topic and returns its queue.
func (l *lab) bury(topic string, n int) message.Queue {
	l.t.Helper()
	q := l.fill(topic, n)
	m := l.join("g", group.Clustering, topic)
	vs := []message.Verdict{on(q, message.DoneThrough, -1)}
	for i := range n {
		v := on(q, message.DeadLetter, int64(i))
		v.Reason = "why"
		vs = append(vs, v)
	}
	l.settle(m.Claim(), vs...)
	require.NoError(l.t, m.Leave(ctx))
	return q
}

func (l *lab) letters() (all []store.DeadLetter) {
	l.t.Helper()
	for d, err := range l.s.DeadLetters().All(ctx, "g") {
		require.NoError(l.t, err)
		all = append(all, d)
	}
	require.EqualValues(l.t, len(all), l.s.DeadLetters().Count("g"))
	return all
}

func TestDeadLetters(t *testing.T) {
	l := newLab(t)
	require.Empty(t, l.letters())
	q := l.bury("orders", 5)
	l.clock.Advance(time.Hour)
	all := l.letters()
	require.Len(t, all, 5)
	d := all[2]
	require.Equal(t, q, d.Origin)
	require.Equal(t, int64(2), d.OriginOffset)
	require.Equal(t, "why", d.Reason)
	require.Equal(t, 1, d.Attempts)
	require.Equal(t, "2", string(d.Record.Body()))
	age, err := l.s.DeadLetters().Age(ctx, "g")
	require.NoError(t, err)
	require.Equal(t, time.Hour, age)
	got, err := l.s.DeadLetters().Get(ctx, "g", d.ID)
	require.NoError(t, err)
	require.Equal(t, d.Offset, got.Offset)
	n, err := l.s.DeadLetters().Delete(ctx, "g", func(d *store.DeadLetter) bool { return d.OriginOffset < 2 })
	require.NoError(t, err)
	require.Equal(t, 2, n)
	l.kill()
	require.Len(t, l.letters(), 3)
	_, err = l.s.DeadLetters().Get(ctx, "g", all[0].ID)
	require.ErrorIs(t, err, store.ErrNotFound)

	n, err = l.s.DeadLetters().Redrive(ctx, "g", store.Redrive{Max: 1})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, err = l.s.DeadLetters().Redrive(ctx, "g", store.Redrive{To: "nowhere"})
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = l.s.DeadLetters().Redrive(ctx, "g", store.Redrive{To: message.TopicTopics})
	require.ErrorIs(t, err, store.ErrInvalidName)
	l.kill()
	n, err = l.s.DeadLetters().Redrive(ctx, "g", store.Redrive{To: "%RETRY%g"})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Empty(t, l.letters())
	rs := read(t, l.s, q, 5, nil)
	require.Len(t, rs, 1)
	require.Equal(t, d.ID, rs[0].UniqueID())
	require.Zero(t, rs[0].ReconsumeTimes())
	require.Equal(t, "t0", rs[0].Tag())
	require.Equal(t, "k2", property(&rs[0], message.PropKeys))
	require.Equal(t, "1", property(&rs[0], "p"))
	for _, name := range []string{message.PropDeadReason, message.PropRetryTopic, message.PropOriginID} {
		require.Empty(t, property(&rs[0], name), name)
	}
	require.Equal(t, 2, l.count("%RETRY%g"))
	rs = read(t, l.s, message.Queue{Topic: "%RETRY%g"}, 0, nil)
	require.Zero(t, rs[0].ReconsumeTimes())
	require.Equal(t, "orders", property(&rs[0], message.PropRetryTopic), "its handler is that of its topic")
	require.NotEmpty(t, property(&rs[0], message.PropOriginQueue))
	require.Empty(t, property(&rs[0], message.PropDeadReason))
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

// A thousand of ten thousand are sent again, with a kill in the middle.
func TestRedriveSurvivesKill(t *testing.T) {
	const all, some = 10_000, 1_000
	l := newLab(t, store.WithDurability(message.InCache), store.WithMaxUnsynced(64<<10))
	q := l.bury("orders", all)
	chosen := func(d *store.DeadLetter) bool { return d.OriginOffset%10 == 3 }
	seen := 0
	func() {
		defer func() { require.Equal(t, "killed", recover()) }()
		_, _ = l.s.DeadLetters().Redrive(ctx, "g", store.Redrive{Match: func(d *store.DeadLetter) bool {
			if seen++; seen == all/2 {
				panic("killed")
			}
			return chosen(d)
		}})
	}()
	l.kill()
	_, end, err := l.s.Bounds(q)
	require.NoError(t, err)
	require.Greater(t, end, int64(all))
	n, err := l.s.DeadLetters().Redrive(ctx, "g", store.Redrive{Match: chosen})
	require.NoError(t, err)
	require.EqualValues(t, some, end-all+int64(n))
	times := map[string]int{}
	for at := int64(all); ; {
		b, err := l.s.Read(ctx, q, at, message.Limit{Count: 1000}, nil)
		require.NoError(t, err)
		if len(b.Records) == 0 {
			break
		}
		for i := range b.Records {
			times[string(b.Records[i].Body())]++
		}
		at = b.Next
	}
	require.Len(t, times, some)
	for i := 3; i < all; i += 10 {
		require.Equal(t, 1, times[fmt.Sprint(i)], i)
	}
	require.EqualValues(t, all-some, l.s.DeadLetters().Count("g"))
	require.NoError(t, l.s.Close())
}

// Some are sent to another topic: there, once, and no dead letters any more.
func TestRedriveElsewhere(t *testing.T) {
	l := newLab(t)
	l.bury("orders", 6)
	aside := l.fill("aside", 0)
	n, err := l.s.DeadLetters().Redrive(ctx, "g", store.Redrive{To: "aside", Match: func(d *store.DeadLetter) bool { return d.OriginOffset%2 == 1 }})
	require.NoError(t, err)
	require.Equal(t, 3, n)
	l.kill()
	var got []string
	for _, r := range read(t, l.s, aside, 0, nil) {
		got = append(got, string(r.Body()))
	}
	require.Equal(t, []string{"1", "3", "5"}, got)
	require.Equal(t, 6, l.count("orders"), "the origin gets nothing")
	require.Len(t, l.letters(), 3)
	require.NoError(t, l.s.Close())
}

// Dead letters outlive their segments, but not their own time.
func TestDeadLettersAreCarried(t *testing.T) {
	l := newLab(t, store.WithSegmentSize(16<<10), store.WithMaxUnsynced(16<<10), store.WithRetention(time.Hour), store.WithDeadLetterRetention(10*time.Hour))
	l.bury("orders", 3)
	before := l.letters()
	_, err := l.s.DeadLetters().Delete(ctx, "g", func(d *store.DeadLetter) bool { return d.OriginOffset == 1 })
	require.NoError(t, err)
	roll := func() {
		for range 20 {
			put(t, l.s, &message.Message{Topic: "filler", Body: make([]byte, 2000)})
		}
		l.clock.Advance(2 * time.Hour)
		put(t, l.s, &message.Message{Topic: "filler", Body: make([]byte, 2000)})
		require.NoError(t, l.s.Commit(ctx, "g", map[message.Queue]int64{{Topic: "orders"}: 3}))
		require.NoError(t, l.s.Retain())
	}
	for range 3 {
		roll()
		start := l.s.Log().Start()
		require.Positive(t, start)
		l.kill()
		after := l.letters()
		require.Len(t, after, 2)
		for i, d := range after {
			want := before[2*i]
			require.GreaterOrEqual(t, d.Record.Position(), start)
			require.Equal(t, []any{want.ID, want.At, want.Reason, want.Attempts, want.Origin, want.OriginOffset, want.OriginID},
				[]any{d.ID, d.At, d.Reason, d.Attempts, d.Origin, d.OriginOffset, d.OriginID})
			require.Equal(t, want.Record.Body(), d.Record.Body())
		}
	}
	for range 3 {
		roll()
	}
	require.Empty(t, l.letters())
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

func TestMoveKeepsKeyOrder(t *testing.T) {
	l := newLab(t)
	require.NoError(t, l.s.CreateTopic(ctx, store.Topic{Name: "narrow", WriteQueues: 2}))
	require.NoError(t, l.s.CreateTopic(ctx, store.Topic{Name: "wide", WriteQueues: 8}))
	const keys = 11
	for i := range 1000 {
		key := i % keys
		put(t, l.s, &message.Message{Topic: "narrow", QueueID: int32(key % 2), ShardingKey: fmt.Sprint("key", key), Body: []byte(fmt.Sprint(i))})
	}
	require.NoError(t, l.s.Commit(ctx, "g", map[message.Queue]int64{{Topic: "narrow"}: 100, {Topic: "narrow", ID: 1}: 0}))
	moved := 0
	for range 20 { // it may be called again, and after a kill
		n, err := l.s.Move(ctx, "g", "narrow", "wide", 77)
		require.NoError(t, err)
		moved += n
		l.kill()
	}
	require.Equal(t, 900, moved)
	lag, err := l.s.Lag(ctx, "g")
	require.NoError(t, err)
	require.Zero(t, lag.Records)
	last, home := map[string]int{}, map[string]int32{}
	for id := range int32(8) {
		for _, r := range read(t, l.s, message.Queue{Topic: "wide", ID: id}, 0, nil) {
			var i int
			key := property(&r, message.PropShardingKey)
			must(fmt.Sscan(string(r.Body()), &i))
			if was, ok := last[key]; ok {
				require.Greater(t, i, was)
				require.Equal(t, home[key], id)
			}
			last[key], home[key] = i, id
			moved--
		}
	}
	require.Zero(t, moved)
	_, err = l.s.Move(ctx, "g", "wide", "wide", 0)
	require.ErrorIs(t, err, store.ErrUnsupported)
	_, err = l.s.Move(ctx, "nobody", "narrow", "wide", 0)
	require.ErrorIs(t, err, store.ErrNotFound)
	l.join("g", group.Clustering, "narrow")
	_, err = l.s.Move(ctx, "g", "narrow", "wide", 0)
	require.ErrorIs(t, err, store.ErrBusy)
	require.NoError(t, l.s.Close())
}

// A move that is killed anywhere goes on: in the end every message is in the other
// topic once, in its order.
func TestMoveSurvivesKill(t *testing.T) {
	const all = 600 // more than are appended at a time
	l := newLab(t, store.WithSegmentSize(1<<20))
	q := l.fill("narrow", all)
	wide := l.fill("wide", 0)
	require.NoError(t, l.s.Commit(ctx, "g", map[message.Queue]int64{q: 0}))
	var died []*crash.Sim
	l.sim.ForkAfter(1, func(s *crash.Sim) int {
		died = append(died, s)
		return 1
	})
	n, err := l.s.Move(ctx, "g", "narrow", "wide", 0)
	require.NoError(t, err)
	require.Equal(t, all, n)
	l.sim.ForkAfter(0, nil)
	require.NoError(t, l.s.Close())
	require.Greater(t, len(died), 3)
	between := 0
	for i, sim := range died {
		l := &lab{t: t, sim: sim, clock: l.clock, opts: l.opts}
		l.open()
		done := l.count("wide")
		if done > 0 && done < all {
			between++
		}
		n, err := l.s.Move(ctx, "g", "narrow", "wide", 0)
		require.NoError(t, err)
		require.Equal(t, all, done+n, "killed in operation %d", i+1)
		rs := read(t, l.s, wide, 0, nil)
		require.Len(t, rs, all)
		for at := range rs {
			require.Equal(t, fmt.Sprint(at), string(rs[at].Body()), "killed in operation %d", i+1)
		}
		require.NoError(t, l.s.Close())
	}
	require.Positive(t, between, "no kill met the middle")
}

func TestLag(t *testing.T) {
	l := newLab(t)
	q := l.fill("orders", 4)
	l.clock.Advance(time.Minute)
	put(t, l.s, &message.Message{Topic: "orders"})
	c := claim(t, l.join("g", group.Clustering, "orders"), q)
	l.settle(c, on(q, message.DoneThrough, 0), on(q, message.Done, 2))
	l.clock.Advance(time.Minute)
	lag, err := l.s.Lag(ctx, "g")
	require.NoError(t, err)
	want := store.QueueLag{Queue: q, End: 5, Committed: 1, Known: true, Records: 3, Age: 2 * time.Minute}
	require.Equal(t, store.GroupLag{Queues: []store.QueueLag{want}, Records: 3, Age: 2 * time.Minute}, lag)
	l.settle(c, on(q, message.DoneThrough, 3))
	lag, err = l.s.Lag(ctx, "g", "orders")
	require.NoError(t, err)
	require.Equal(t, time.Minute, lag.Age)
	require.NoError(t, l.s.CloneOffsets(ctx, "g", "h", "orders"))
	lag, err = l.s.Lag(ctx, "h")
	require.NoError(t, err)
	require.EqualValues(t, 1, lag.Records)
	_, err = l.s.Lag(ctx, "nobody")
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = l.s.Lag(ctx, "g", "nowhere")
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, l.s.Progress().CreateGroup(ctx, progress.Group{Name: "all", Broadcast: true}))
	l.join("loud", group.Broadcasting, "orders")
	for _, name := range []string{"all", "loud"} {
		_, err = l.s.Lag(ctx, name)
		require.ErrorIs(t, err, store.ErrUnsupported)
		require.ErrorIs(t, l.s.ResetOffsets(ctx, name, "orders", message.First()), store.ErrUnsupported)
		require.ErrorIs(t, l.s.CloneOffsets(ctx, "g", name, "orders"), store.ErrUnsupported)
		require.ErrorIs(t, l.s.CloneOffsets(ctx, name, "g", "orders"), store.ErrUnsupported)
	}
	require.NoError(t, l.s.Close())
}
