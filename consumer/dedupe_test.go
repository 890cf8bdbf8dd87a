package consumer_test

import (
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// twin puts a message under an id, as a sender does that tries again.
func twin(t *testing.T, e *fake, id string) {
	t.Helper()
	e.put(t, &message.Message{Topic: "orders", UniqueID: id, Body: []byte(id)})
}

func TestDedupePull(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		for _, id := range []string{"a", "b", "a", "c", "b"} {
			twin(t, e, id)
		}
		d := consumer.DedupeInMemory(consumer.DedupeOptions{})
		p := subscribed(t, e, consumer.WithDeduper(d), consumer.WithCommitInterval(0))
		require.Equal(t, []string{"a", "b", "c"}, pollAll(t, p))
		require.Equal(t, int64(5), e.committed("g", orders(0)))
		twin(t, e, "c")
		twin(t, e, "d")
		require.Equal(t, []string{"d"}, pollAll(t, p))
		time.Sleep(11 * time.Minute)
		twin(t, e, "c")
		require.Equal(t, []string{"c"}, pollAll(t, p), "the window has passed")
	})
}

func TestDedupeLease(t *testing.T) {
	onStore(t, 1, func(t *testing.T, s *store.Store) {
		put := func(id string) {
			_, err := s.Put(ctxb, &message.Message{Topic: "orders", UniqueID: id, Body: []byte(id)})
			require.NoError(t, err)
		}
		put("a")
		l := newLeaser(t, s, consumer.WithDeduper(consumer.DedupeInMemory(consumer.DedupeOptions{})))
		first := receive(t, l, 1)
		require.Len(t, first, 1)
		time.Sleep(time.Minute)
		again := receive(t, l, 1)
		require.Len(t, again, 1, "it was not acknowledged, so it is not handled")
		require.NoError(t, l.Ack(ctxb, again[0].Receipt))
		put("a")
		put("b")
		ls := receive(t, l, 0)
		require.Len(t, ls, 1)
		require.Equal(t, "b", string(ls[0].Body()))
	})
}

func TestDedupeMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFake(t, map[string]int{"orders": 1})
		t.Cleanup(func() { e.close(t) })
		for i := range 4 {
			twin(t, e, strconv.Itoa(i))
		}
		ds, err := subscribed(t, e).Poll(ctxb, 0)
		require.NoError(t, err)
		m := consumer.DedupeInMemory(consumer.DedupeOptions{Max: 2})
		begin := func(g string, i int) consumer.Known {
			known, err := m.Begin(ctxb, g, ds[i])
			require.NoError(t, err)
			return known
		}
		require.Equal(t, consumer.Fresh, begin("g", 0))
		require.Equal(t, consumer.InFlight, begin("g", 0))
		require.Equal(t, consumer.Fresh, begin("h", 0), "groups do not know each other's")
		m.Fail("g", ds[0])
		require.Equal(t, consumer.Fresh, begin("g", 0))
		for i := range 3 {
			require.NoError(t, m.Done(ctxb, "g", ds[i]))
		}
		m.Fail("g", ds[2])
		require.Equal(t, consumer.Handled, begin("g", 2), "what is handled does not fail any more")
		require.Equal(t, consumer.Handled, begin("g", 1))
		require.Equal(t, consumer.Fresh, begin("g", 0), "the oldest is forgotten")
	})
}

func TestDedupeStore(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	fillTopic := func() {
		for i := range 5 {
			_, err := s.Put(ctxb, &message.Message{Topic: "orders", UniqueID: fmt.Sprint("id-", i), Body: fmt.Append(nil, i)})
			require.NoError(t, err)
		}
	}
	round := func() (n int) {
		d, err := consumer.DedupeInStore(ctxb, s, "handled", consumer.DedupeOptions{Window: time.Hour})
		require.NoError(t, err)
		p := consumer.NewPull(s, "g", consumer.WithDeduper(d))
		require.NoError(t, p.Subscribe("orders", nil))
		_, err = s.Put(ctxb, &message.Message{Topic: "orders", Body: []byte("end")})
		require.NoError(t, err)
		for m, err := range p.All(ctxb) {
			require.NoError(t, err)
			if string(m.Body()) == "end" {
				break
			}
			n++
		}
		require.NoError(t, p.Commit(ctxb, nil))
		require.NoError(t, p.Close(ctxb))
		return n
	}
	fillTopic()
	require.Equal(t, 5, round())
	require.NoError(t, s.Close())
	s = openStore(t, dir)
	fillTopic()
	require.Equal(t, 0, round(), "remembered across the restart")
	require.NoError(t, s.Close())
}

// database is an application's: effects and offsets change together.
type database struct {
	next    map[message.Queue]int64
	effects []string
}

func (d *database) offset(_ string, q message.Queue) (int64, bool, error) {
	next, ok := d.next[q]
	return next, ok, nil
}

// TestDedupeTransaction loses the commits of a consumer that is killed: what the
// database has seen has no effect again.
func TestDedupeTransaction(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 10)
		db := &database{next: make(map[message.Queue]int64)}
		dedupe := consumer.WithDeduper(consumer.DedupeInTransaction(consumer.OffsetFunc(db.offset)))
		work := func(p *consumer.Pull, n int) {
			for d, err := range p.All(ctxb) {
				require.NoError(t, err)
				db.effects, db.next[d.Queue()] = append(db.effects, string(d.Body())), d.Offset()+1
				if n--; n == 0 {
					return
				}
			}
		}
		p := subscribed(t, e, dedupe, consumer.WithManualCommit())
		work(p, 6)
		require.NoError(t, p.Close(ctxb))
		work(subscribed(t, e, dedupe), 4)
		require.Equal(t, numbers(10), db.effects)
	})
}

func TestDedupeOptionsRefused(t *testing.T) {
	d := consumer.WithDeduper(consumer.DedupeInTransaction(consumer.OffsetFunc(nil)))
	e := newFake(t, nil)
	defer e.close(t)
	_, err := consumer.NewLeaser(e, "g", d).Receive(ctxb, 1)
	require.ErrorContains(t, err, "order of a queue")
	require.ErrorContains(t, consumer.NewPush(e, "g", d).Run(ctxb), "order of a queue")
	m := consumer.WithDeduper(consumer.DedupeInMemory(consumer.DedupeOptions{}))
	require.ErrorContains(t, consumer.NewPush(e, "g", m, consumer.WithOrder(consumer.PerQueue), consumer.WithManualCommit()).Run(ctxb), "WithManualCommit")
	_, err = consumer.NewPull(e, "g", consumer.WithDeduper(nil)).Poll(ctxb, 1)
	require.ErrorContains(t, err, "WithDeduper")
}

func TestFilterFunc(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 10)
		f := consumer.FilterFunc("even", func(r *message.Record) bool {
			n, _ := strconv.Atoi(string(r.Body()))
			if n == 4 {
				panic("four")
			}
			return n%2 == 0
		})
		p := newPull(t, e)
		require.NoError(t, p.Subscribe("orders", f))
		require.Equal(t, []string{"0", "2", "6", "8"}, pollAll(t, p))
		require.Equal(t, int64(1), f.Panics())

		q := newPull(t, e)
		require.NoError(t, q.Subscribe("orders", consumer.FilterFunc("odd", func(*message.Record) bool { return true })))
		_, err := q.Poll(ctxb, 1)
		require.ErrorIs(t, err, message.ErrSubscriptionConflict)
	})
}
