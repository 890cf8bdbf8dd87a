package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func (l *lab) lease(c group.Claim, n int, invisible time.Duration) []message.Leased {
	l.t.Helper()
	b, err := l.s.Lease(ctx, c, nil, message.Limit{Count: n}, invisible, 0)
	require.NoError(l.t, err)
	return b.Records
}

func delivered(ls []message.Leased) (texts []string) {
	for i := range ls {
		texts = append(texts, fmt.Sprintf("%s#%d", ls[i].Record.Body(), ls[i].Attempt))
	}
	return texts
}

func ofLease(q message.Queue, kind message.VerdictKind, l *message.Leased) message.Verdict {
	return message.Verdict{Queue: q, Offset: l.Record.Offset(), Kind: kind, Lease: l.Lease}
}

func TestLease(t *testing.T) {
	l := newLab(t)
	q := l.fill("orders", 6)
	one := claim(t, l.join("g", group.Shared, "orders"), q)
	two := claim(t, l.join("g", group.Shared, "orders"), q)
	a := l.lease(one, 2, time.Minute)
	require.Equal(t, []string{"0#1", "1#1"}, delivered(a))
	b := l.lease(two, 2, time.Hour)
	require.Equal(t, []string{"2#1", "3#1"}, delivered(b))
	l.settle(one, ofLease(q, message.Done, &a[1]))
	l.settle(two, ofLease(q, message.Done, &b[0]))
	require.Equal(t, message.Standing{Known: true, Settled: []message.Range{{From: 1, To: 3}}}, l.standing(one))
	// Nobody answers for the first: it comes again when its time is over.
	l.advance(time.Minute - time.Millisecond)
	require.Equal(t, []string{"4#1"}, delivered(l.lease(two, 1, time.Hour)))
	l.advance(time.Millisecond)
	again := l.lease(two, 1, time.Hour)
	require.Equal(t, []string{"0#2"}, delivered(again))
	require.ErrorIs(t, l.s.Settle(ctx, one, ofLease(q, message.Done, &a[0])), store.ErrFenced)
	require.ErrorIs(t, l.s.Settle(ctx, one, on(q, message.Done, 0)), store.ErrFenced)
	l.settle(two, ofLease(q, message.Done, &again[0]))
	require.ErrorIs(t, l.s.Settle(ctx, two, ofLease(q, message.Done, &again[0])), store.ErrFenced)
	require.EqualValues(t, 3, l.standing(one).Committed)
	require.NoError(t, l.s.Close())
}

func TestLeaseVerdicts(t *testing.T) {
	l := newLab(t)
	q := l.fill("orders", 4)
	c := claim(t, l.join("g", group.Shared, "orders"), q)
	ls := l.lease(c, 4, time.Minute)
	extend, nack, table, dead := ofLease(q, message.Extend, &ls[0]), ofLease(q, message.Retry, &ls[1]), ofLease(q, message.Retry, &ls[2]), ofLease(q, message.DeadLetter, &ls[3])
	extend.After, nack.After, dead.Reason = time.Hour, -1, "no\x01use"
	l.settle(c, extend, nack, table, dead)
	require.Equal(t, []string{"1#2"}, delivered(l.lease(c, 4, 2*time.Hour)))
	require.ErrorIs(t, l.s.Settle(ctx, c, nack), store.ErrFenced)
	l.advance(10*time.Second - time.Millisecond)
	require.Empty(t, l.lease(c, 4, time.Minute))
	l.advance(time.Millisecond)
	require.Equal(t, []string{"2#2"}, delivered(l.lease(c, 4, 2*time.Hour)))
	b, err := l.s.Lease(ctx, c, nil, message.Limit{}, time.Minute, 0)
	require.NoError(t, err)
	require.Equal(t, l.clock.Now().Add(time.Hour-10*time.Second), b.Wait)
	r := read(t, l.s, message.Queue{Topic: "%DLQ%g"}, 0, nil)[0]
	require.Equal(t, "3", string(r.Body()))
	require.Equal(t, "no use", property(&r, message.PropDeadReason))
	require.EqualValues(t, 1, r.ReconsumeTimes())
	require.NoError(t, l.s.Close())
}

// A store that is opened again keeps to what was leased before.
func TestLeaseSurvivesRestart(t *testing.T) {
	l := newLab(t)
	q := l.fill("orders", 3)
	c := claim(t, l.join("g", group.Shared, "orders"), q)
	ls := l.lease(c, 2, time.Minute)
	l.advance(30 * time.Second)
	require.NoError(t, l.s.Close())
	l.open()
	c = claim(t, l.join("g", group.Shared, "orders"), q)
	require.Equal(t, []string{"2#1"}, delivered(l.lease(c, 5, time.Hour)))
	l.settle(c, ofLease(q, message.Done, &ls[1]))
	l.advance(30*time.Second - time.Millisecond)
	require.Empty(t, l.lease(c, 5, time.Minute))
	l.advance(time.Millisecond)
	require.Equal(t, []string{"0#2"}, delivered(l.lease(c, 5, time.Minute)))
	require.NoError(t, l.s.Close())
}

func TestLeaseSpentAndExpired(t *testing.T) {
	l := newLab(t)
	q := l.fill("orders", 1)
	put(t, l.s, &message.Message{Topic: "orders", Body: []byte("late"), ExpireAt: l.clock.Now().Add(-time.Second)})
	c := claim(t, l.join("g", group.Shared, "orders"), q)
	dlq := message.Queue{Topic: "%DLQ%g"}
	for i := range 3 {
		b, err := l.s.Lease(ctx, c, nil, message.Limit{}, time.Minute, 3)
		require.NoError(t, err)
		require.Equal(t, []string{fmt.Sprint("0#", i+1)}, delivered(b.Records))
		l.advance(time.Minute)
	}
	b, err := l.s.Lease(ctx, c, nil, message.Limit{}, time.Minute, 3)
	require.NoError(t, err)
	require.Empty(t, b.Records)
	rs := read(t, l.s, dlq, 0, nil)
	require.Len(t, rs, 2)
	require.Equal(t, "expired", property(&rs[0], message.PropDeadReason))
	require.EqualValues(t, 3, rs[1].ReconsumeTimes())
	require.Equal(t, message.Standing{Known: true, Committed: 2}, l.standing(c))
	require.NoError(t, l.s.Close())
}

func TestLeaseFilterSettlesTheRest(t *testing.T) {
	l := newLab(t)
	q := l.fill("orders", 9)
	c := claim(t, l.join("g", group.Shared, "orders"), q)
	f := must(message.Tags("t1"))
	b, err := l.s.Lease(ctx, c, f, message.Limit{Count: 2}, time.Minute, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"1#1", "3#1"}, delivered(b.Records))
	require.Equal(t, message.Standing{Known: true, Committed: 1, Settled: []message.Range{{From: 2, To: 3}}}, l.standing(c))
	for i := range b.Records {
		l.settle(c, ofLease(q, message.Done, &b.Records[i]))
	}
	b, err = l.s.Lease(ctx, c, f, message.Limit{}, time.Minute, 0)
	require.NoError(t, err)
	require.Equal(t, []string{"5#1", "7#1"}, delivered(b.Records))
	require.NoError(t, l.s.Sync(ctx))
	l.kill()
	c = claim(t, l.join("g", group.Shared, "orders"), q)
	require.Equal(t, message.Standing{Known: true, Committed: 5, Settled: []message.Range{{From: 6, To: 7}, {From: 8, To: 9}}}, l.standing(c))
	require.NoError(t, l.s.Close())
}
