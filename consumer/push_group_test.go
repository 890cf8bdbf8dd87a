package consumer_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

func TestTwoGroupsGetEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 4})
		defer f.close(t)
		f.putN(t, "orders", 100)
		var a, b seen
		for _, g := range []struct {
			name string
			s    *seen
		}{{"billing", &a}, {"shipping", &b}} {
			p := consumer.NewPush(f, g.name)
			require.NoError(t, p.Subscribe("orders", nil, consumer.One(g.s.handle)))
			defer run(p).stop(t)
		}
		synctest.Wait()
		require.Equal(t, numbers(100), sorted(a.all()))
		require.Equal(t, numbers(100), sorted(b.all()))
	})
}

func TestNineMessagesThreeQueuesThreeMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 3})
		defer f.close(t)
		var got [3]seen
		for i := range got {
			p := consumer.NewPush(f, "billing", consumer.WithMember(fmt.Sprint("m", i)))
			require.NoError(t, p.Subscribe("orders", nil, consumer.One(got[i].handle)))
			defer run(p).stop(t)
			synctest.Wait()
		}
		f.putN(t, "orders", 9)
		synctest.Wait()
		for i := range got {
			require.Len(t, got[i].all(), 3)
		}
	})
}

// C1 has 12 of 20 messages in hand and dies; C2 has handled its 8 and gets the 12.
func TestKilledMembersMessagesGoToTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 2})
		defer f.close(t)
		for i := range 20 {
			q := int32(0)
			if i >= 12 {
				q = 1
			}
			f.put(t, &message.Message{Topic: "orders", QueueID: q, Body: []byte(fmt.Sprint(i))})
		}
		var first, second seen
		hang := make(chan struct{})
		start := func(name string, handle func(context.Context, *consumer.Delivery) error) *running {
			p := consumer.NewPush(f, "billing", consumer.WithMember(name))
			p.Pause()
			require.NoError(t, p.Subscribe("orders", nil, consumer.One(handle)))
			return run(p)
		}
		c1 := start("c1", func(_ context.Context, d *consumer.Delivery) error {
			first.add(d)
			<-hang
			return nil
		})
		c2 := start("c2", second.handle)
		synctest.Wait()
		c1.Resume()
		c2.Resume()
		synctest.Wait()
		require.Len(t, first.all(), 12)
		require.Len(t, second.all(), 8)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, c1.Close(ctx), context.Canceled)
		sleep(500 * time.Millisecond)
		require.Equal(t, numbers(20), sorted(second.all()))
		close(hang)
		require.Error(t, <-c1.result)
		c2.stop(t)
		require.EqualValues(t, 12, f.committed("billing", orders(0)))
	})
}

// A revoked queue is handled by nobody before its handlers have ended.
func TestPushRevokeDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 4})
		defer f.close(t)
		f.putN(t, "orders", 400)
		var mu sync.Mutex
		by := make(map[message.Queue]string)
		var s seen
		start := func(name string) *running {
			p := consumer.NewPush(f, "billing", consumer.WithMember(name), consumer.WithWorkers(8))
			require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
				mu.Lock()
				if by[d.Queue()] != name {
					by[d.Queue()] = name
				}
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				require.Equal(t, name, by[d.Queue()], "two members at once")
				mu.Unlock()
				s.add(d)
				return nil
			})))
			return run(p)
		}
		a := start("a")
		sleep(10500 * time.Millisecond)
		b := start("b")
		sleep(10 * time.Second)
		c := start("c")
		sleep(10 * time.Second)
		a.stop(t)
		sleep(time.Hour)
		b.stop(t)
		c.stop(t)
		require.Equal(t, numbers(400), sorted(s.all()), "each once")
	})
}

func TestPushSubscriptionsWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 2})
		defer f.close(t)
		var a, b, c seen
		p := consumer.NewPush(f, "billing")
		r := run(p)
		synctest.Wait()
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(a.handle)))
		require.NoError(t, p.Subscribe("later", nil, consumer.One(b.handle)))
		f.putN(t, "orders", 10)
		synctest.Wait()
		require.Equal(t, 10, a.count())
		f.addTopic("later", 3)
		f.putN(t, "later", 10)
		synctest.Wait()
		require.Equal(t, 10, b.count())
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(c.handle)))
		f.putN(t, "orders", 10)
		synctest.Wait()
		require.Equal(t, 10, c.count())
		require.NoError(t, p.Unsubscribe("orders"))
		synctest.Wait()
		f.putN(t, "orders", 10)
		synctest.Wait()
		require.Equal(t, 10, c.count())
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(c.handle)))
		synctest.Wait()
		require.Equal(t, 20, c.count(), "it goes on where it was")
		r.stop(t)
		require.ErrorIs(t, p.Subscribe("orders", nil, consumer.One(c.handle)), message.ErrClosed)
	})
}

func TestPushConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 2})
		defer f.close(t)
		var s seen
		p := consumer.NewPush(f, "billing")
		require.NoError(t, p.Subscribe("orders", nil, consumer.One(s.handle)))
		defer run(p).stop(t)
		synctest.Wait()
		other := consumer.NewPush(f, "billing")
		tags, err := message.Tags("a")
		require.NoError(t, err)
		require.NoError(t, other.Subscribe("orders", tags, consumer.One(s.handle)))
		require.ErrorIs(t, other.Run(t.Context()), message.ErrSubscriptionConflict)
		require.NoError(t, other.Close(t.Context()))
	})
}

func TestBroadcasting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, map[string]int{"orders": 4})
		defer f.close(t)
		dir := t.TempDir()
		f.putN(t, "orders", 5)
		var got [2]seen
		var mu sync.Mutex
		var dropped []string
		start := func(i int) *running {
			p := consumer.NewPush(f, "cache", consumer.WithMode(group.Broadcasting), consumer.WithInstance(fmt.Sprint("i", i)),
				consumer.WithLocalOffsets(filepath.Join(dir, "offsets")), consumer.OnDrop(func(d *consumer.Delivery, err error) {
					mu.Lock()
					defer mu.Unlock()
					require.ErrorIs(t, err, errNo)
					dropped = append(dropped, string(d.Body()))
				}))
			require.NoError(t, p.Subscribe("orders", nil, consumer.One(func(_ context.Context, d *consumer.Delivery) error {
				got[i].add(d)
				if string(d.Body()) == "7" {
					return errNo
				}
				return nil
			})))
			return run(p)
		}
		a, b := start(0), start(1)
		synctest.Wait()
		require.Empty(t, got[0].all(), "a new instance wants news")
		f.putN(t, "orders", 20)
		synctest.Wait()
		require.Equal(t, numbers(20), sorted(got[0].all()))
		require.Equal(t, numbers(20), sorted(got[1].all()))
		require.Equal(t, []string{"7", "7"}, dropped)
		b.stop(t)
		f.putN(t, "orders", 3)
		synctest.Wait()
		b = start(1)
		synctest.Wait()
		require.Equal(t, 23, got[1].count(), "it goes on from its file")
		a.stop(t)
		b.stop(t)
		_, err := f.QueueCount("%RETRY%cache")
		require.ErrorIs(t, err, message.ErrNotFound)
	})
	ordered := func(opts ...consumer.Option) error {
		f := newFake(t, map[string]int{"orders": 1})
		defer f.close(t)
		p := consumer.NewPush(f, "cache", append(opts, consumer.WithMode(group.Broadcasting), consumer.WithOrder(consumer.PerQueue), consumer.WithAlwaysLast())...)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return p.Run(ctx)
	}
	require.ErrorIs(t, ordered(), message.ErrUnsupported)
	require.NoError(t, ordered(consumer.WithLocalOrder()))
}
