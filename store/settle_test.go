package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// join makes a member of group g that reads topics.
func (l *lab) join(g string, mode group.Mode, topics ...string) *group.Membership {
	l.t.Helper()
	subs := map[string]string{}
	for _, name := range topics {
		subs[name] = "*"
	}
	m, err := l.s.Groups().Join(ctx, group.Member{Group: g, Mode: mode, Subscriptions: subs})
	require.NoError(l.t, err)
	return m
}

// claim waits until the member has a claim on q.
func claim(t testing.TB, m *group.Membership, q message.Queue) group.Claim {
	t.Helper()
	for {
		ch, err := m.Next(ctx)
		require.NoError(t, err)
		for _, c := range ch.Given {
			if c.Queue == q {
				return c
			}
		}
		for _, c := range append(ch.Revoked, ch.Lost...) {
			m.Release(c)
		}
	}
}

func (l *lab) settle(c group.Claim, vs ...message.Verdict) {
	l.t.Helper()
	require.NoError(l.t, l.s.Settle(ctx, c, vs...))
}

func (l *lab) standing(c group.Claim) message.Standing {
	l.t.Helper()
	st, err := l.s.Standing(ctx, c, c.Queue)
	require.NoError(l.t, err)
	return st
}

// fill makes a topic of one queue with n messages.
func (l *lab) fill(topic string, n int) message.Queue {
	l.t.Helper()
	require.NoError(l.t, l.s.CreateTopic(ctx, store.Topic{Name: topic, WriteQueues: 1}))
	for i := range n {
		put(l.t, l.s, &message.Message{Topic: topic, Tag: fmt.Sprintf("t%d", i%2), Keys: []string{fmt.Sprint("k", i)}, Body: []byte(fmt.Sprint(i)), Properties: map[string]string{"p": "1"}})
	}
	return message.Queue{Topic: topic}
}

func property(r *message.Record, name string) string {
	v, _ := r.Property(name)
	return v
}

func on(q message.Queue, kind message.VerdictKind, offset int64) message.Verdict {
	return message.Verdict{Queue: q, Offset: offset, Kind: kind}
}

func TestSettleInMemory(t *testing.T) {
	l := newLab(t)
	q := l.fill("orders", 10)
	c := claim(t, l.join("g", group.Clustering, "orders"), q)
	require.Equal(t, message.Standing{}, l.standing(c))
	l.settle(c, on(q, message.DoneThrough, -1))
	require.Equal(t, message.Standing{Known: true}, l.standing(c))
	l.settle(c, on(q, message.Done, 1), on(q, message.Done, 2), on(q, message.Done, 5), on(q, message.Failed, 0), on(q, message.Failed, 0))
	want := message.Standing{Known: true, Settled: []message.Range{{From: 1, To: 3}, {From: 5, To: 6}}, Attempts: map[int64]int{0: 2}}
	require.Equal(t, want, l.standing(c))
	require.NoError(t, l.s.Sync(ctx))
	l.kill()
	require.ErrorIs(t, l.s.Settle(ctx, c, on(q, message.Done, 0)), store.ErrFenced)
	c = claim(t, l.join("g", group.Clustering, "orders"), q)
	require.Equal(t, want, l.standing(c))
	l.settle(c, on(q, message.Done, 0))
	require.Equal(t, message.Standing{Known: true, Committed: 3, Settled: []message.Range{{From: 5, To: 6}}}, l.standing(c))
	l.settle(c, on(q, message.DoneThrough, 8))
	require.Equal(t, message.Standing{Known: true, Committed: 9}, l.standing(c))
	for name, v := range map[string]message.Verdict{
		"behind the end": on(q, message.Done, 10), "negative": on(q, message.Done, -1), "far below": on(q, message.DoneThrough, -2),
	} {
		require.ErrorIs(t, l.s.Settle(ctx, c, v), store.ErrOutOfRange, name)
	}
	require.ErrorIs(t, l.s.Settle(ctx, c, on(message.Queue{Topic: "orders", ID: 1}, message.Done, 0)), store.ErrPermission)
	require.ErrorIs(t, l.s.Settle(ctx, c, on(q, message.Extend, 9)), store.ErrUnsupported)
	require.NoError(t, l.s.Close())
}

// A place that is new is on disk before anybody relies on it: a group that began
// behind the last message would otherwise begin behind a later one.
func TestFirstPlaceSurvivesKill(t *testing.T) {
	l := newLab(t)
	q := l.fill("orders", 3)
	c := claim(t, l.join("g", group.Clustering, "orders"), q)
	l.settle(c, on(q, message.DoneThrough, 2))
	l.kill()
	c = claim(t, l.join("g", group.Clustering, "orders"), q)
	require.Equal(t, message.Standing{Known: true, Committed: 3}, l.standing(c))
	require.NoError(t, l.s.Close())
}

func TestRetryOverTheTable(t *testing.T) {
	l := newLab(t)
	q := l.fill("orders", 1)
	m := l.join("g", group.Clustering, "orders")
	origin := read(t, l.s, q, 0, nil)[0]
	retry := message.Queue{Topic: "%RETRY%g"}
	waits := []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute, 6 * time.Minute,
		7 * time.Minute, 8 * time.Minute, 9 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour}
	at, offset := q, int64(0)
	for i, wait := range waits {
		l.settle(m.Claim(), on(at, message.DoneThrough, offset-1), on(at, message.Retry, offset))
		l.advance(wait - time.Millisecond)
		if i > 0 {
			require.Equal(t, i, l.count(retry.Topic))
		}
		l.advance(time.Millisecond)
		rs := read(t, l.s, retry, 0, nil)
		require.Len(t, rs, i+1)
		r := rs[i]
		require.EqualValues(t, i+1, r.ReconsumeTimes())
		require.Equal(t, "orders", property(&r, message.PropRetryTopic))
		require.Equal(t, message.OffsetID(origin.StoreHost(), origin.Position()), property(&r, message.PropOriginID))
		require.Equal(t, "0:0", property(&r, message.PropOriginQueue))
		require.Equal(t, "0", string(r.Body()))
		require.Equal(t, "t0", r.Tag())
		require.Equal(t, "1", property(&r, "p"))
		require.Equal(t, "k0", property(&r, message.PropKeys))
		require.Equal(t, origin.BornAt(), r.BornAt())
		require.Equal(t, offset+1, l.s.Progress().Offsets("g")[at])
		at, offset = retry, int64(i)
	}
	l.settle(m.Claim(), on(retry, message.Retry, 15))
	require.Equal(t, 16, l.count(retry.Topic))
	dead := read(t, l.s, message.Queue{Topic: "%DLQ%g"}, 0, nil)
	require.Len(t, dead, 1)
	require.EqualValues(t, 17, dead[0].ReconsumeTimes())
	require.Equal(t, "orders", property(&dead[0], message.PropDeadTopic))
	require.Equal(t, "0:0", property(&dead[0], message.PropOriginQueue))
	require.NotEmpty(t, property(&dead[0], message.PropDeadReason))
	require.Equal(t, int64(16), l.s.Progress().Offsets("g")[retry])
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

// What a record settles is settled although nothing was written but the record.
func TestRetrySurvivesKill(t *testing.T) {
	for name, after := range map[string]time.Duration{"level": 10 * time.Second, "time": 7 * time.Second, "now": -1} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			q := l.fill("orders", 3)
			m := l.join("g", group.Clustering, "orders")
			l.settle(m.Claim(), on(q, message.DoneThrough, -1))
			v := on(q, message.Retry, 1)
			v.After = after
			l.settle(m.Claim(), v, v, on(q, message.DeadLetter, 2))
			l.kill()
			c := claim(t, l.join("g", group.Clustering, "orders"), q)
			require.Equal(t, message.Standing{Known: true, Settled: []message.Range{{From: 1, To: 3}}}, l.standing(c))
			l.advance(max(after, 0))
			require.Equal(t, 1, l.count("%RETRY%g"))
			require.Equal(t, 1, l.count("%DLQ%g"))
			require.NoError(t, l.s.Progress().Reset(ctx, "g", map[message.Queue]int64{q: 0}))
			require.ErrorIs(t, l.s.Settle(ctx, c, on(q, message.Retry, 0)), store.ErrFenced)
			l.kill()
			c = claim(t, l.join("g", group.Clustering, "orders"), q)
			require.Equal(t, message.Standing{Known: true}, l.standing(c))
			require.NoError(t, l.s.Close())
		})
	}
}

func TestStaleClaimChangesNothing(t *testing.T) {
	l := newLab(t)
	q := l.fill("orders", 5)
	first := l.join("g", group.Clustering, "orders")
	old := claim(t, first, q)
	l.settle(old, on(q, message.DoneThrough, 0))
	first.Abandon(errors.New("gone"))
	c := claim(t, l.join("g", group.Clustering, "orders"), q)
	_, end, err := l.s.Bounds(q)
	require.NoError(t, err)
	require.EqualValues(t, 5, end)
	for _, kind := range []message.VerdictKind{message.Done, message.DoneThrough, message.Failed, message.Retry, message.DeadLetter} {
		require.ErrorIs(t, l.s.Settle(ctx, old, on(q, kind, 1)), store.ErrFenced, "%v", kind)
	}
	require.EqualValues(t, 5, l.s.Groups().Stats().Refused, "each is counted")
	_, err = l.s.Standing(ctx, old, old.Queue)
	require.ErrorIs(t, err, store.ErrFenced)
	require.Equal(t, message.Standing{Known: true, Committed: 1}, l.standing(c))
	_, err = l.s.Read(ctx, message.Queue{Topic: "%DLQ%g"}, 0, message.Limit{}, nil)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, l.s.Close())
}
