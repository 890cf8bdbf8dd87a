package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func (l *lab) prepare(topic, body string) message.HalfID {
	l.t.Helper()
	r, id, err := l.s.Halves().Prepare(ctx, &message.Message{Topic: topic, Body: []byte(body), Keys: []string{"k"}, Properties: map[string]string{"p": "1"}}, "bank", message.HalfOptions{})
	require.NoError(l.t, err)
	require.Equal(l.t, topic, r.Queue.Topic)
	require.EqualValues(l.t, -1, r.Offset)
	return id
}

func (l *lab) commit(id message.HalfID) message.Decision {
	l.t.Helper()
	_, how, err := l.s.Halves().Commit(ctx, id)
	require.NoError(l.t, err)
	return how
}

func (l *lab) rollback(id message.HalfID) message.Decision {
	l.t.Helper()
	how, err := l.s.Halves().Rollback(ctx, id)
	require.NoError(l.t, err)
	return how
}

func TestHalfMessages(t *testing.T) {
	l := newLab(t)
	a, b, c := l.prepare("orders", "a"), l.prepare("orders", "b"), l.prepare("orders", "c")
	require.Zero(t, l.count("orders"))
	r, how, err := l.s.Halves().Commit(ctx, a)
	require.NoError(t, err)
	require.Equal(t, message.Committed, how)
	require.Equal(t, message.Queue{Topic: "orders"}, r.Queue)
	require.Zero(t, r.Offset)
	require.Equal(t, message.RolledBack, l.rollback(b))
	require.Equal(t, message.RolledBack, l.commit(b))
	require.Equal(t, message.Committed, l.rollback(a))
	l.kill()
	require.Equal(t, message.Committed, l.commit(a))
	require.Equal(t, message.RolledBack, l.commit(b))
	require.EqualValues(t, 1, l.s.Halves().Len())
	require.Equal(t, message.Committed, l.commit(c))
	rs := read(t, l.s, message.Queue{Topic: "orders"}, 0, nil)
	require.Len(t, rs, 2)
	require.Equal(t, "a", string(rs[0].Body()))
	require.Equal(t, "c", string(rs[1].Body()))
	p, _ := rs[0].Property("p")
	require.Equal(t, "1", p)
	require.Equal(t, string(a), rs[0].UniqueID())
	require.Equal(t, message.FlagCommit, rs[0].SysFlag())
	_, _, err = l.s.Halves().Commit(ctx, "nobody")
	require.ErrorIs(t, err, store.ErrNotFound)
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
	l.open()
	require.Equal(t, message.RolledBack, l.commit(b))
	require.NoError(t, l.s.Close())
}

// TestHalfRecords looks at the bytes that RocketMQ would read.
func TestHalfRecords(t *testing.T) {
	l := newLab(t)
	_, id, err := l.s.Halves().Prepare(ctx, &message.Message{Topic: "orders", QueueID: 2, Tag: "t", Body: []byte("x")}, "bank", message.HalfOptions{Immunity: 1500 * time.Millisecond})
	require.NoError(t, err)
	l.commit(id)
	prop := func(r *message.Record, name string) string {
		v, _ := r.Property(name)
		return v
	}
	half := read(t, l.s, message.Queue{Topic: message.TopicHalf}, 0, nil)[0]
	for name, want := range map[string]string{
		message.PropRealTopic: "orders", message.PropRealQueue: "2", message.PropTranMsg: "true", message.PropProducerGroup: "bank",
		message.PropUniqKey: string(id), message.PropTransactionID: string(id), message.PropCheckImmunity: "2", message.PropTags: "t",
	} {
		require.Equal(t, want, prop(&half, name), name)
	}
	require.Zero(t, half.SysFlag())
	op := read(t, l.s, message.Queue{Topic: message.TopicOpHalf}, 0, nil)[0]
	require.Equal(t, "0,", string(op.Body()))
	require.Equal(t, "d", op.Tag())
	v, own := op.OwnValue(message.PropVerdict)
	require.True(t, own)
	require.Equal(t, fmt.Sprintf("C%016x", half.Position()), v)
	r := read(t, l.s, message.Queue{Topic: "orders", ID: 2}, 0, nil)[0]
	require.Equal(t, half.Position(), r.PreparedOffset())
	require.Equal(t, half.BornAt(), r.BornAt())
	require.Equal(t, "orders", prop(&r, message.PropRealTopic))
	n, ok := r.Group()
	require.True(t, ok)
	require.Equal(t, 2, n)
	require.NoError(t, l.s.Close())
}

func TestHalfBadInput(t *testing.T) {
	l := newLab(t)
	require.NoError(t, l.s.CreateTopic(ctx, store.Topic{Name: "tx", Kind: store.KindTransactional}))
	require.NoError(t, l.s.CreateTopic(ctx, store.Topic{Name: "plain", Kind: store.KindNormal}))
	h := l.s.Halves()
	for name, c := range map[string]struct {
		m     *message.Message
		group string
		want  error
	}{
		"nil":           {nil, "g", store.ErrInvalidMessage},
		"level":         {&message.Message{Topic: "new", DelayLevel: 1}, "g", store.ErrInvalidMessage},
		"delay":         {&message.Message{Topic: "new", Delay: time.Second}, "g", store.ErrInvalidMessage},
		"time":          {&message.Message{Topic: "new", DeliverAt: l.clock.Now()}, "g", store.ErrInvalidMessage},
		"group":         {&message.Message{Topic: "new"}, "", store.ErrInvalidName},
		"kind":          {&message.Message{Topic: "plain"}, "g", store.ErrKind},
		"system topic":  {&message.Message{Topic: message.TopicHalf}, "g", store.ErrInvalidName},
		"queue":         {&message.Message{Topic: "tx", QueueID: 99}, "g", store.ErrNotFound},
		"large":         {&message.Message{Topic: "new", Body: make([]byte, 65_000)}, "g", store.ErrTooLarge},
		"bad property":  {&message.Message{Topic: "new", Properties: map[string]string{"TRAN_MSG": "true"}}, "g", store.ErrInvalidMessage},
		"negative wait": {&message.Message{Topic: "new"}, "g", nil},
	} {
		o := message.HalfOptions{}
		if c.want == nil {
			o.Immunity, c.want = -1, store.ErrInvalidMessage
		}
		_, _, err := h.Prepare(ctx, c.m, c.group, o)
		require.ErrorIs(t, err, c.want, name)
	}
	_, err := l.s.Put(ctx, &message.Message{Topic: "tx"})
	require.ErrorIs(t, err, store.ErrKind)
	l.commit(l.prepare("tx", "x"))
	require.Equal(t, 1, l.count("tx"))
	require.Len(t, l.s.Topics(), 2, "what is refused leaves no topic behind")
	m := &message.Message{Topic: "tx", UniqueID: "mine"}
	_, id, err := h.Prepare(ctx, m, "g", message.HalfOptions{})
	require.NoError(t, err)
	require.EqualValues(t, "mine", id)
	_, _, err = h.Prepare(ctx, m, "g", message.HalfOptions{})
	require.ErrorIs(t, err, store.ErrExists)
	require.Equal(t, message.Committed, l.commit("mine"))
	_, _, err = h.Prepare(ctx, m, "g", message.HalfOptions{})
	require.ErrorIs(t, err, store.ErrExists)
	require.NoError(t, l.s.Close())
}

// TestLargestHalf commits the largest message that can be prepared.
func TestLargestHalf(t *testing.T) {
	l := newLab(t)
	low, high := 0, 65_536
	for low+1 < high {
		mid := (low + high) / 2
		_, id, err := l.s.Halves().Prepare(ctx, &message.Message{Topic: "big", Body: make([]byte, mid)}, "g", message.HalfOptions{})
		if errors.Is(err, store.ErrTooLarge) {
			high = mid
			continue
		}
		require.NoError(t, err)
		require.Equal(t, message.Committed, l.commit(id))
		low = mid
	}
	require.Greater(t, low, 60_000)
	require.NoError(t, l.s.Close())
}

func TestCheckBack(t *testing.T) {
	l := newLab(t)
	id := l.prepare("orders", "a")
	other := l.prepare("orders", "b")
	asked := 0
	stop, err := l.s.Halves().OnCheck("bank", func(ctx context.Context, h *message.Half) (message.Decision, error) {
		asked++
		require.Equal(t, []string{"k"}, h.Message.Keys)
		require.Equal(t, "orders", h.Message.Topic)
		switch {
		case h.ID != id:
			return message.RolledBack, nil
		case h.Checks == 0:
			return message.Undecided, nil
		case h.Checks == 1:
			panic("no")
		case h.Checks == 2:
			return message.Committed, errors.New("an error counts as unknown")
		}
		return message.Committed, nil
	}, message.CheckOptions{})
	require.NoError(t, err)
	l.advance(5 * time.Second)
	require.Zero(t, asked)
	l.advance(time.Second)
	require.Equal(t, 2, asked)
	require.Equal(t, message.RolledBack, l.commit(other))
	for _, wait := range []time.Duration{30, 60, 120} {
		l.advance((wait - 1) * time.Second)
		require.Zero(t, l.count("orders"))
		l.advance(time.Second)
	}
	require.Equal(t, 1, l.count("orders"))
	require.Equal(t, 5, asked)
	require.EqualValues(t, 2, func() int64 { _, end, _ := l.s.Bounds(message.Queue{Topic: message.TopicHalf}); return end }(), "checks append no halves")
	stop()
	l.prepare("orders", "c")
	l.advance(time.Hour)
	require.Equal(t, 5, asked)
	for h := range l.s.Halves().All() {
		require.Equal(t, time.Hour, h.Age)
		require.Zero(t, h.Checks)
	}
	require.NoError(t, l.s.Close())
}

func TestGivenUp(t *testing.T) {
	l := newLab(t, store.WithTransactions(store.Transactions{MaxChecks: 3, MaxInterval: time.Minute}), store.WithRetention(time.Hour))
	id, drop := l.prepare("orders", "a"), l.prepare("orders", "b")
	unknown := func(context.Context, *message.Half) (message.Decision, error) { return message.Undecided, nil }
	_, err := l.s.Halves().OnCheck("bank", unknown, message.CheckOptions{})
	require.NoError(t, err)
	for range 20 {
		l.advance(time.Minute)
	}
	require.EqualValues(t, 2, l.s.Halves().GivenUp())
	require.Zero(t, l.s.Halves().Len())
	require.Equal(t, message.GivenUp, l.commit(id))
	for range 30 { // its segment goes
		for range 10 {
			put(t, l.s, &message.Message{Topic: "filler", Body: make([]byte, 2000)})
		}
		l.advance(time.Hour)
		require.NoError(t, l.s.Retain())
	}
	require.Positive(t, l.s.Stats().Expired)
	l.kill()
	require.EqualValues(t, 2, l.s.Halves().GivenUp())
	_, how, err := l.s.Halves().Recover(ctx, id, message.Committed)
	require.NoError(t, err)
	require.Equal(t, message.Committed, how)
	_, how, err = l.s.Halves().Recover(ctx, drop, message.RolledBack)
	require.NoError(t, err)
	require.Equal(t, message.RolledBack, how)
	l.kill()
	_, how, err = l.s.Halves().Recover(ctx, id, message.Committed)
	require.NoError(t, err)
	require.Equal(t, message.Committed, how)
	require.Equal(t, 1, l.count("orders"))
	_, _, err = l.s.Halves().Recover(ctx, l.prepare("orders", "c"), message.Committed)
	require.ErrorIs(t, err, store.ErrBusy)
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

func TestHalvesOutliveTheirSegment(t *testing.T) {
	l := newLab(t, store.WithRetention(time.Hour))
	var ids []message.HalfID
	for i := range 20 {
		ids = append(ids, l.prepare("late", fmt.Sprint(i)))
	}
	for range 30 {
		for range 10 {
			put(t, l.s, &message.Message{Topic: "orders", Body: make([]byte, 2000)})
		}
		l.advance(time.Hour)
		require.NoError(t, l.s.Retain())
	}
	require.Positive(t, l.s.Stats().Halves.Carried)
	l.kill()
	for h := range l.s.Halves().All() {
		require.Equal(t, 30*time.Hour, h.Age)
	}
	for _, id := range ids {
		require.Equal(t, message.Committed, l.commit(id))
	}
	require.Equal(t, 20, l.count("late"))
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

func TestDeletedTopicDropsItsHalves(t *testing.T) {
	l := newLab(t)
	id := l.prepare("orders", "a")
	require.NoError(t, l.s.DeleteTopic(ctx, "orders"))
	require.Zero(t, l.s.Halves().Len())
	put(t, l.s, &message.Message{Topic: "orders", Body: []byte("new")})
	for range 2 {
		_, _, err := l.s.Halves().Commit(ctx, id)
		require.ErrorIs(t, err, store.ErrNotFound)
		l.kill()
	}
	require.Equal(t, 1, l.count("orders"))
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

func TestHungChecker(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.WithTransactions(store.Transactions{Timeout: time.Millisecond}))
	require.NoError(t, err)
	hang, in := make(chan struct{}), make(chan struct{}, 1)
	defer close(hang)
	_, err = s.Halves().OnCheck("bank", func(context.Context, *message.Half) (message.Decision, error) {
		in <- struct{}{}
		<-hang
		return message.Committed, nil
	}, message.CheckOptions{})
	require.NoError(t, err)
	_, _, err = s.Halves().Prepare(ctx, &message.Message{Topic: "orders"}, "bank", message.HalfOptions{})
	require.NoError(t, err)
	<-in
	require.NoError(t, s.Close())
}
