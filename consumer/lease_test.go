package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var _ consumer.Engine = (*store.Store)(nil)

func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir)
	require.NoError(t, err)
	return s
}

// onStore runs f in virtual time on a store with a topic of so many queues.
func onStore(t *testing.T, queues int, f func(t *testing.T, s *store.Store)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, dir)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		require.NoError(t, s.CreateTopic(ctxb, store.Topic{Name: "orders", WriteQueues: queues, ReadQueues: queues}))
		f(t, s)
	})
}

func fill(t *testing.T, s *store.Store, queues, n int) {
	t.Helper()
	for i := range n {
		_, err := s.Put(ctxb, &message.Message{Topic: "orders", QueueID: int32(i % queues), Body: fmt.Append(nil, i), Durability: message.InCache})
		require.NoError(t, err)
	}
	require.NoError(t, s.Sync(ctxb))
}

func newLeaser(t *testing.T, e consumer.Engine, opts ...consumer.Option) *consumer.Leaser {
	t.Helper()
	l := consumer.NewLeaser(e, "g", opts...)
	require.NoError(t, l.Subscribe("orders", nil))
	t.Cleanup(func() { require.NoError(t, l.Close(ctxb)) })
	return l
}

// receive leases what there is now, nil when there is nothing for a second.
func receive(t *testing.T, l *consumer.Leaser, limit int) []consumer.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctxb, time.Second)
	defer cancel()
	ls, err := l.Receive(ctx, limit)
	if err != nil {
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	return ls
}

func receiveAll(t *testing.T, l *consumer.Leaser) (all []consumer.Lease) {
	t.Helper()
	for {
		ls := receive(t, l, 0)
		if ls == nil {
			return all
		}
		all = append(all, ls...)
	}
}

func leased(ls []consumer.Lease) (out []string) {
	for _, l := range ls {
		out = append(out, string(l.Body()))
	}
	return sorted(out)
}

func receipts(ls []consumer.Lease) (out []string) {
	for _, l := range ls {
		out = append(out, l.Receipt)
	}
	return out
}

func TestLeaseAck(t *testing.T) {
	onStore(t, 3, func(t *testing.T, s *store.Store) {
		fill(t, s, 3, 20)
		l := newLeaser(t, s)
		ls := receiveAll(t, l)
		require.Equal(t, numbers(20), leased(ls))
		for _, d := range ls {
			require.Equal(t, 1, d.Attempt())
			require.Equal(t, "orders", d.Topic())
		}
		// Out of order and in batches, all but number 7.
		var acks []string
		for i := len(ls) - 1; i >= 0; i-- {
			if string(ls[i].Body()) != "7" {
				acks = append(acks, ls[i].Receipt)
			}
		}
		require.NoError(t, l.Ack(ctxb, acks...))
		require.Nil(t, receive(t, l, 0), "7 is invisible")
		time.Sleep(time.Minute)
		again := receive(t, l, 0)
		require.Equal(t, []string{"7"}, leased(again))
		require.Equal(t, 2, again[0].Attempt())
		for _, old := range ls {
			if string(old.Body()) == "7" {
				require.ErrorIs(t, l.Ack(ctxb, old.Receipt), message.ErrFenced, "the first lease is over")
			}
		}
		require.NoError(t, l.Ack(ctxb, again[0].Receipt))
		time.Sleep(time.Hour)
		require.Nil(t, receive(t, l, 0))
		for id := range int32(3) {
			_, end, err := s.Bounds(orders(id))
			require.NoError(t, err)
			at, ok, err := s.Committed(ctxb, "g", orders(id))
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, end, at)
		}
	})
}

// TestLeaseParallelism has more workers than queues: nobody is idle.
func TestLeaseParallelism(t *testing.T) {
	onStore(t, 1, func(t *testing.T, s *store.Store) {
		fill(t, s, 1, 30)
		var ls []*consumer.Leaser
		for range 5 {
			ls = append(ls, newLeaser(t, s))
		}
		var all []consumer.Lease
		for range 3 {
			for _, l := range ls {
				got := receive(t, l, 2)
				require.Len(t, got, 2)
				all = append(all, got...)
			}
		}
		require.Equal(t, numbers(30), leased(all))
		require.NoError(t, ls[0].Ack(ctxb, receipts(all)...), "any member acknowledges for any other")
		time.Sleep(time.Hour)
		require.Nil(t, receive(t, ls[1], 1))
	})
}

// TestLeaseReceiveWaits has many goroutines of one Leaser and of others waiting,
// each of which gets one of the messages that come.
func TestLeaseReceiveWaits(t *testing.T) {
	onStore(t, 2, func(t *testing.T, s *store.Store) {
		a, b := newLeaser(t, s), newLeaser(t, s)
		var wg sync.WaitGroup
		var got seen
		for i := range 10 {
			wg.Go(func() {
				l := a
				if i%2 == 0 {
					l = b
				}
				ls, err := l.Receive(ctxb, 1)
				if err != nil || len(ls) != 1 {
					t.Error(len(ls), err)
					return
				}
				got.add(ls[0].Delivery)
			})
		}
		synctest.Wait()
		fill(t, s, 2, 10)
		wg.Wait()
		require.Equal(t, numbers(10), sorted(got.all()))
	})
}

func TestLeaseNackExtend(t *testing.T) {
	onStore(t, 1, func(t *testing.T, s *store.Store) {
		fill(t, s, 1, 1)
		a, b := newLeaser(t, s), newLeaser(t, s)
		one := func() consumer.Lease {
			t.Helper()
			ls := receive(t, a, 1)
			require.Len(t, ls, 1)
			return ls[0]
		}
		d := one()
		require.NoError(t, a.Nack(ctxb, 10*time.Second, d.Receipt))
		require.ErrorIs(t, a.Ack(ctxb, d.Receipt), message.ErrFenced)
		time.Sleep(8 * time.Second)
		require.Nil(t, receive(t, a, 1))
		time.Sleep(time.Second)
		d = one()

		// Somebody who waits for the end of the lease hears of an earlier end.
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			ls, err := b.Receive(ctxb, 1)
			if err != nil || len(ls) != 1 || time.Since(began) != 5*time.Second {
				t.Error(len(ls), err, time.Since(began))
				return
			}
			d = ls[0]
		})
		synctest.Wait()
		time.Sleep(5 * time.Second)
		require.NoError(t, a.Nack(ctxb, 0, d.Receipt))
		wg.Wait()
		require.Equal(t, 3, d.Attempt())

		require.NoError(t, b.Extend(ctxb, 10*time.Minute, d.Receipt))
		time.Sleep(9 * time.Minute)
		require.Nil(t, receive(t, a, 1))
		require.NoError(t, b.Nack(ctxb, consumer.Later, d.Receipt), "the same receipt")
		time.Sleep(time.Minute - 3*time.Second)
		require.Nil(t, receive(t, a, 1), "the third step of the table is a minute")
		time.Sleep(3 * time.Second)
		d = one()
		require.NoError(t, a.DeadLetter(ctxb, "no such order", d.Receipt))
		time.Sleep(time.Hour)
		require.Nil(t, receive(t, a, 1))
		start, end, err := s.Bounds(message.Queue{Topic: "%DLQ%g"})
		require.NoError(t, err)
		require.Equal(t, int64(1), end-start)

		require.ErrorIs(t, a.Nack(ctxb, -2), message.ErrOutOfRange)
		require.ErrorIs(t, a.Extend(ctxb, 0), message.ErrOutOfRange)
	})
}

func TestLeaseDeadLetterAfter(t *testing.T) {
	onStore(t, 1, func(t *testing.T, s *store.Store) {
		fill(t, s, 1, 2)
		l := newLeaser(t, s, consumer.WithMaxAttempts(3), consumer.WithInvisible(10*time.Second))
		for i := range 3 {
			ls := receiveAll(t, l)
			require.Equal(t, numbers(2), leased(ls))
			require.Equal(t, i+1, ls[0].Attempt())
			time.Sleep(10 * time.Second)
		}
		require.Nil(t, receive(t, l, 1))
		start, end, err := s.Bounds(message.Queue{Topic: "%DLQ%g"})
		require.NoError(t, err)
		require.Equal(t, int64(2), end-start)
	})
}

// TestLeaseRestart reopens the store at half the invisible time: the message is not
// delivered before that ends, and the old receipt still acknowledges.
func TestLeaseRestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, dir)
		require.NoError(t, s.CreateTopic(ctxb, store.Topic{Name: "orders", WriteQueues: 1, ReadQueues: 1}))
		fill(t, s, 1, 2)
		l := consumer.NewLeaser(s, "g")
		require.NoError(t, l.Subscribe("orders", nil))
		ls := receive(t, l, 0)
		require.Equal(t, numbers(2), leased(ls))
		received := ls[0].Until.Add(-time.Minute)
		require.NoError(t, l.Close(ctxb))
		time.Sleep(30 * time.Second)
		require.NoError(t, s.Close())

		s = openStore(t, dir)
		l = consumer.NewLeaser(s, "g")
		require.NoError(t, l.Ack(ctxb, ls[0].Receipt), "before anything is subscribed")
		require.NoError(t, l.Subscribe("orders", nil))
		again, err := l.Receive(ctxb, 0)
		require.NoError(t, err)
		require.Len(t, again, 1)
		require.Equal(t, ls[1].Body(), again[0].Body())
		require.Equal(t, 2, again[0].Attempt())
		require.GreaterOrEqual(t, time.Since(received), time.Minute)
		require.Less(t, time.Since(received), time.Minute+10*time.Millisecond)
		require.ErrorIs(t, l.Ack(ctxb, ls[1].Receipt), message.ErrFenced)
		require.NoError(t, l.Close(ctxb))
		require.NoError(t, s.Close())
	})
}

// TestLeaseAckElsewhere settles receipts by a Leaser that receives nothing, beside
// one that does.
func TestLeaseAckElsewhere(t *testing.T) {
	onStore(t, 2, func(t *testing.T, s *store.Store) {
		fill(t, s, 2, 4)
		other := consumer.NewLeaser(s, "g")
		l := newLeaser(t, s)
		ls := receiveAll(t, l)
		require.NoError(t, other.Ack(ctxb, ls[0].Receipt, ls[1].Receipt))
		require.NoError(t, other.DeadLetter(ctxb, "no", ls[2].Receipt))
		require.NoError(t, other.Nack(ctxb, 0, ls[3].Receipt))
		require.Len(t, receive(t, l, 0), 1)
		require.ErrorIs(t, other.Ack(ctxb, ls[3].Receipt), message.ErrFenced)
		require.Len(t, s.Groups().Members("g"), 2)

		require.NoError(t, other.Subscribe("orders", nil))
		require.Nil(t, receive(t, other, 0), "it may receive later")
		require.NoError(t, other.Close(ctxb))
		require.Len(t, s.Groups().Members("g"), 1, "Close gives both seats up")
		require.ErrorIs(t, other.Ack(ctxb, ls[3].Receipt), message.ErrClosed)
	})
}

func TestLeaseHandBack(t *testing.T) {
	onStore(t, 2, func(t *testing.T, s *store.Store) {
		fill(t, s, 2, 10)
		a := newLeaser(t, s, consumer.WithHandBack())
		ls := receiveAll(t, a)
		require.NoError(t, a.Ack(ctxb, receipts(ls[:4])...))
		require.NoError(t, a.Close(ctxb))
		b := newLeaser(t, s)
		require.Equal(t, leased(ls[4:]), leased(receiveAll(t, b)), "at once")
		require.NoError(t, b.Close(ctxb))
		require.Nil(t, receive(t, newLeaser(t, s), 1), "without the option they stay leased")
	})
}

func TestLeaseFilter(t *testing.T) {
	onStore(t, 1, func(t *testing.T, s *store.Store) {
		for i := range 30 {
			_, err := s.Put(ctxb, &message.Message{Topic: "orders", Tag: []string{"a", "b"}[i%2], Body: fmt.Append(nil, i)})
			require.NoError(t, err)
		}
		f, err := message.Tags("a")
		require.NoError(t, err)
		l := consumer.NewLeaser(s, "g")
		require.NoError(t, l.Subscribe("orders", f))
		ls := receiveAll(t, l)
		require.Len(t, ls, 15)
		require.NoError(t, l.Ack(ctxb, receipts(ls)...))
		require.NoError(t, l.Close(ctxb))
		at, _, err := s.Committed(ctxb, "g", orders(0))
		require.NoError(t, err)
		require.Equal(t, int64(30), at, "what does not match is settled")
	})
}

func TestLeaseStart(t *testing.T) {
	onStore(t, 1, func(t *testing.T, s *store.Store) {
		fill(t, s, 1, 5)
		l := newLeaser(t, s, consumer.WithStart(message.Last()))
		require.Nil(t, receive(t, l, 1))
		require.NoError(t, l.Close(ctxb))
		fill(t, s, 1, 1)
		require.Equal(t, []string{"0"}, leased(receiveAll(t, newLeaser(t, s, consumer.WithStart(message.Last())))))
	})
}

func TestLeaseReset(t *testing.T) {
	onStore(t, 1, func(t *testing.T, s *store.Store) {
		fill(t, s, 1, 3)
		l := newLeaser(t, s)
		ls := receiveAll(t, l)
		require.NoError(t, s.ResetOffsets(ctxb, "g", "orders", message.First()))
		synctest.Wait()
		require.ErrorIs(t, l.Ack(ctxb, receipts(ls)...), message.ErrFenced, "the reset made receipts void")
		require.Equal(t, numbers(3), leased(receiveAll(t, l)))
	})
}

func TestLeaseReceipts(t *testing.T) {
	onStore(t, 1, func(t *testing.T, s *store.Store) {
		fill(t, s, 1, 2)
		l := newLeaser(t, s)
		ls := receiveAll(t, l)
		good := ls[0].Receipt
		bad := []string{"", "x", good + ":1", strings.Replace(good, "1:", "2:", 1), strings.Replace(good, ":g:", ":h:", 1),
			strings.Replace(good, "orders", "or/ders", 1), strings.Replace(good, ":0:", ":-1:", 1), strings.Replace(good, ":0:", ":99999999999:", 1)}
		for _, text := range bad {
			require.ErrorIs(t, l.Ack(ctxb, text), message.ErrInvalidMessage, text)
		}
		err := l.Ack(ctxb, good, "x", ls[1].Receipt)
		var one *consumer.ReceiptError
		require.ErrorAs(t, err, &one)
		require.Equal(t, "x", one.Receipt)
		require.ErrorIs(t, l.Ack(ctxb, good), message.ErrFenced, "the others were settled")
	})
}

func TestLeaserClosed(t *testing.T) {
	onStore(t, 1, func(t *testing.T, s *store.Store) {
		l := newLeaser(t, s)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := l.Receive(ctxb, 1); !errors.Is(err, message.ErrClosed) {
				t.Error(err)
			}
		})
		synctest.Wait()
		require.NoError(t, l.Close(ctxb))
		wg.Wait()
		require.ErrorIs(t, l.Ack(ctxb, "x"), message.ErrClosed)
		_, err := consumer.NewLeaser(s, "g").Receive(ctxb, 1)
		require.ErrorIs(t, err, message.ErrNotFound, "nothing is subscribed")
		_, err = consumer.NewLeaser(s, "g", consumer.WithStrategy(nil), consumer.WithInvisible(0)).Receive(ctxb, 1)
		require.ErrorContains(t, err, "WithStrategy")
		require.ErrorContains(t, err, "WithInvisible")

		// Push and lease do not mix.
		x := newLeaser(t, s)
		require.Nil(t, receive(t, x, 1))
		p := consumer.NewPull(s, "g")
		require.NoError(t, p.Subscribe("orders", nil))
		_, err = p.Poll(ctxb, 1)
		require.ErrorIs(t, err, message.ErrSubscriptionConflict)
	})
}

func TestLeaserLoops(t *testing.T) {
	e := newFake(t, map[string]int{"orders": 2})
	defer e.close(t)
	for i := range 1000 {
		l := consumer.NewLeaser(e, "g"+fmt.Sprint(i%3))
		require.NoError(t, l.Subscribe("orders", nil))
		ctx, cancel := context.WithCancel(ctxb)
		cancel()
		_, _ = l.Receive(ctx, 1)
		require.NoError(t, l.Close(ctxb))
	}
	require.Empty(t, e.groups.Groups())
	require.Empty(t, e.watches)
}
