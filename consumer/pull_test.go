package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

var ctxb = context.Background()

func orders(id int32) message.Queue { return message.Queue{Topic: "orders", ID: id} }

// bubble runs f in virtual time on an engine with a topic of so many queues.
func bubble(t *testing.T, queues int, f func(t *testing.T, e *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newFake(t, map[string]int{"orders": queues})
		t.Cleanup(func() { e.close(t) })
		f(t, e)
	})
}

func newPull(t *testing.T, e consumer.Engine, opts ...consumer.Option) *consumer.Pull {
	t.Helper()
	p := consumer.NewPull(e, "g", opts...)
	t.Cleanup(func() { require.NoError(t, p.Close(ctxb)) })
	return p
}

func subscribed(t *testing.T, e consumer.Engine, opts ...consumer.Option) *consumer.Pull {
	t.Helper()
	p := newPull(t, e, opts...)
	require.NoError(t, p.Subscribe("orders", nil))
	return p
}

// poll returns the bodies of one Poll, nil when there was nothing for a second.
func poll(t *testing.T, p *consumer.Pull, limit int) (out []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctxb, time.Second)
	defer cancel()
	ds, err := p.Poll(ctx, limit)
	if err != nil {
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	for _, d := range ds {
		out = append(out, string(d.Body()))
	}
	return out
}

func pollAll(t *testing.T, p *consumer.Pull) (out []string) {
	t.Helper()
	for {
		got := poll(t, p, 0)
		if got == nil {
			return out
		}
		out = append(out, got...)
	}
}

func TestPullSubscribe(t *testing.T) {
	bubble(t, 3, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 100)
		p := subscribed(t, e)
		require.Equal(t, numbers(100), sorted(pollAll(t, p)))
		require.Equal(t, []message.Queue{orders(0), orders(1), orders(2)}, p.Assignment())

		// What comes later wakes a Poll that waits.
		var wg sync.WaitGroup
		wg.Go(func() {
			ds, err := p.Poll(ctxb, 1)
			if len(ds) != 1 || string(ds[0].Body()) != "late" {
				t.Error(ds, err)
			}
		})
		synctest.Wait()
		e.put(t, &message.Message{Topic: "orders", QueueID: 1, Body: []byte("late")})
		wg.Wait()
	})
}

func TestPullLimitAndOrder(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 10)
		p := subscribed(t, e)
		require.Equal(t, []string{"0", "1", "2"}, poll(t, p, 3))
		require.Equal(t, []string{"3", "4", "5", "6", "7", "8", "9"}, poll(t, p, 100))
		require.Nil(t, poll(t, p, 1))
	})
}

// TestPullIsFair has one queue with a backlog and one into which something falls:
// the second is not starved.
func TestPullIsFair(t *testing.T) {
	bubble(t, 2, func(t *testing.T, e *fake) {
		for i := range 100 {
			e.put(t, &message.Message{Topic: "orders", Body: []byte(strconv.Itoa(i))})
		}
		p := subscribed(t, e)
		poll(t, p, 5)
		poll(t, p, 5)
		e.put(t, &message.Message{Topic: "orders", QueueID: 1, Body: []byte("other")})
		require.Contains(t, append(poll(t, p, 5), poll(t, p, 5)...), "other")
	})
}

func TestPullFilterAndExpired(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		for i := range 10 {
			m := &message.Message{Topic: "orders", Tag: "b", Body: []byte(strconv.Itoa(i))}
			if i%3 == 0 {
				m.Tag = "a"
			}
			if i == 3 {
				m.ExpireAt = time.Now().Add(-time.Second)
			}
			e.put(t, m)
		}
		f, err := message.Tags("a")
		require.NoError(t, err)
		p := newPull(t, e, consumer.WithCommitInterval(0))
		require.NoError(t, p.Subscribe("orders", f))
		require.Equal(t, []string{"0", "6", "9"}, pollAll(t, p))
		synctest.Wait()
		require.Equal(t, []string{"3"}, e.bodies("%DLQ%g"), "the expired one is not lost")
		require.Equal(t, int64(10), e.committed("g", orders(0)))
	})
}

// TestPullCommitsWhatIsDone has the rule of the automatic commit: what the last
// Poll returned is not done, what earlier ones did is.
func TestPullCommitsWhatIsDone(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 10)
		p := subscribed(t, e)
		poll(t, p, 4)
		require.Equal(t, int64(0), e.committed("g", orders(0)))
		poll(t, p, 4)
		require.Equal(t, int64(0), e.committed("g", orders(0)), "5 seconds have not passed")
		time.Sleep(5 * time.Second)
		poll(t, p, 1)
		require.Equal(t, int64(8), e.committed("g", orders(0)))
		require.NoError(t, p.Close(ctxb))
		require.Equal(t, int64(8), e.committed("g", orders(0)), "Close does not count the last Poll")

		q := subscribed(t, e)
		require.Equal(t, []string{"8"}, poll(t, q, 1))
		require.NoError(t, q.Commit(ctxb, nil))
		require.Equal(t, int64(9), e.committed("g", orders(0)), "Commit does")
		offset, ok, err := q.Committed(ctxb, orders(0))
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, int64(9), offset)
	})
}

func TestPullManualCommit(t *testing.T) {
	bubble(t, 2, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 20)
		p := subscribed(t, e, consumer.WithManualCommit())
		pollAll(t, p)
		time.Sleep(time.Minute)
		poll(t, p, 0)
		require.Equal(t, int64(-1), e.committed("g", orders(0)), "not even where it began")
		require.NoError(t, p.Commit(ctxb, map[message.Queue]int64{orders(0): 4}))
		require.Equal(t, int64(4), e.committed("g", orders(0)))
		require.Equal(t, int64(-1), e.committed("g", orders(1)))
		require.NoError(t, p.Commit(ctxb, map[message.Queue]int64{orders(0): 2}), "back is nothing")
		require.Equal(t, int64(4), e.committed("g", orders(0)))
		require.ErrorIs(t, p.Commit(ctxb, map[message.Queue]int64{orders(0): 11}), message.ErrOutOfRange)
		require.ErrorIs(t, p.Commit(ctxb, map[message.Queue]int64{orders(9): 1}), message.ErrNotFound)
		require.NoError(t, p.Close(ctxb))

		q := subscribed(t, e)
		require.Len(t, pollAll(t, q), 16)
	})
}

func TestPullAll(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 10)
		p := subscribed(t, e, consumer.WithCommitInterval(0))
		var got []string
		for d, err := range p.All(ctxb) {
			require.NoError(t, err)
			got = append(got, string(d.Body()))
			if len(got) == 4 {
				break
			}
		}
		require.NoError(t, p.Commit(ctxb, nil))
		require.Equal(t, int64(4), e.committed("g", orders(0)), "what the loop has seen, and no more")
		require.Equal(t, []string{"4", "5"}, poll(t, p, 2), "the loop's rest")
		for d, err := range p.All(ctxb) {
			require.NoError(t, err)
			got = append(got, string(d.Body()))
			if len(got) == 8 {
				break
			}
		}
		require.Equal(t, []string{"0", "1", "2", "3", "6", "7", "8", "9"}, got)

		ctx, cancel := context.WithTimeout(ctxb, time.Second)
		defer cancel()
		for d, err := range p.All(ctx) {
			require.Nil(t, d)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	})
}

// TestPullAllCountsEach closes in the middle of a loop: the message in the user's
// hands is not done, the one before it is.
func TestPullAllCountsEach(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 10)
		p := subscribed(t, e)
		n := 0
		for range p.All(ctxb) {
			if n++; n == 5 {
				break
			}
		}
		require.NoError(t, p.Close(ctxb))
		require.Equal(t, int64(4), e.committed("g", orders(0)))
	})
}

func TestPullAllPanic(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 3)
		p := subscribed(t, e)
		require.Panics(t, func() {
			for range p.All(ctxb) {
				panic("the loop's own")
			}
		})
		require.Equal(t, []string{"1", "2"}, poll(t, p, 0), "the turn is free again")
	})
}

func TestPullSeek(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		began := time.Now()
		for i := range 10 {
			e.put(t, &message.Message{Topic: "orders", Body: []byte(strconv.Itoa(i))})
			time.Sleep(time.Minute)
		}
		p := newPull(t, e)
		require.NoError(t, p.Assign(nil, orders(0)))
		first := func(to message.Start) string {
			require.NoError(t, p.Seek(ctxb, orders(0), to))
			got := poll(t, p, 1)
			if got == nil {
				return "nothing"
			}
			return got[0]
		}
		require.Equal(t, "7", first(message.At(7)))
		require.Equal(t, "0", first(message.First()))
		require.Equal(t, "nothing", first(message.Last()))
		require.Equal(t, "4", first(message.AtTime(began.Add(4*time.Minute))))
		require.Equal(t, "0", first(message.AtTime(began.Add(-time.Hour))))
		require.Equal(t, "nothing", first(message.AtTime(began.Add(time.Hour))))

		e.expire(orders(0), 3)
		require.Equal(t, "3", first(message.First()))
		var out *message.RangeError
		require.ErrorAs(t, p.Seek(ctxb, orders(0), message.At(2)), &out)
		require.Equal(t, message.RangeError{Queue: orders(0), Offset: 2, Start: 3, End: 10}, *out)
		require.ErrorIs(t, p.Seek(ctxb, orders(0), message.At(11)), message.ErrOutOfRange)
		require.ErrorIs(t, p.Seek(ctxb, orders(1), message.First()), message.ErrNotFound)
	})
}

// TestPullSeekInLoop moves within a loop over All, whose fetched messages are void
// then.
func TestPullSeekInLoop(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 10)
		p := subscribed(t, e)
		var got []string
		for d := range p.All(ctxb) {
			got = append(got, string(d.Body()))
			if len(got) == 3 {
				require.NoError(t, p.Seek(ctxb, orders(0), message.At(8)))
			}
			if len(got) == 5 {
				break
			}
		}
		require.Equal(t, []string{"0", "1", "2", "8", "9"}, got)
	})
}

func TestPullPause(t *testing.T) {
	bubble(t, 2, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 10)
		p := subscribed(t, e)
		poll(t, p, 1)
		p.Pause(orders(0), orders(7))
		for _, body := range pollAll(t, p) {
			n, _ := strconv.Atoi(body)
			require.Equal(t, 1, n%2, "only queue 1")
		}
		e.putN(t, "orders", 2)
		require.Equal(t, []string{"1"}, pollAll(t, p))
		p.Resume(orders(0))
		require.Len(t, pollAll(t, p), 5)
	})
}

func TestPullRebalance(t *testing.T) {
	bubble(t, 4, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 40)
		a := subscribed(t, e)
		got := poll(t, a, 32)
		require.Len(t, got, 32)
		b := subscribed(t, e)
		got = append(got, poll(t, b, 1)...)
		require.LessOrEqual(t, len(got), 33, "queues of which a has something in its hands stay")
		for {
			x, y := poll(t, a, 8), poll(t, b, 8)
			if x == nil && y == nil {
				break
			}
			got = append(append(got, x...), y...)
		}
		require.Len(t, a.Assignment(), 2)
		require.Len(t, b.Assignment(), 2)
		require.Equal(t, numbers(40), sorted(got), "each exactly once")
		require.NoError(t, b.Close(ctxb))
		synctest.Wait()
		require.Len(t, a.Assignment(), 4)
	})
}

// TestPullIdleGivesBackAtOnce has a member that waits in Poll: its queues need no
// further call to go over.
func TestPullIdleGivesBackAtOnce(t *testing.T) {
	bubble(t, 2, func(t *testing.T, e *fake) {
		a := subscribed(t, e)
		ctx, cancel := context.WithCancel(ctxb)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = a.Poll(ctx, 1) })
		synctest.Wait()
		b := subscribed(t, e)
		require.Nil(t, poll(t, b, 1))
		require.Len(t, b.Assignment(), 1)
		cancel()
		wg.Wait()
	})
}

func TestPullManualRevoked(t *testing.T) {
	bubble(t, 2, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 4)
		a := subscribed(t, e, consumer.WithManualCommit())
		require.Len(t, pollAll(t, a), 4)
		require.NoError(t, a.Commit(ctxb, map[message.Queue]int64{orders(0): 1, orders(1): 1}))
		b := subscribed(t, e)
		synctest.Wait()
		require.Nil(t, poll(t, b, 1))
		require.Nil(t, poll(t, a, 1), "the next Poll lets go")
		require.Len(t, pollAll(t, b), 1, "what was not committed comes again")
	})
}

func TestPullAssign(t *testing.T) {
	bubble(t, 3, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 9)
		p := newPull(t, e, consumer.WithCommitInterval(0))
		require.NoError(t, p.Assign(nil, orders(0), orders(2)))
		require.Len(t, pollAll(t, p), 6)
		require.ErrorIs(t, p.Subscribe("orders", nil), message.ErrUnsupported)
		require.NoError(t, p.Assign(nil, orders(2), orders(1)), "2 stays where it is")
		require.Len(t, pollAll(t, p), 3)
		require.Equal(t, []message.Queue{orders(1), orders(2)}, p.Assignment())
		require.Equal(t, int64(3), e.committed("g", orders(1)))

		q := subscribed(t, e)
		require.ErrorIs(t, q.Assign(nil, orders(0)), message.ErrUnsupported)
		_, err := q.Poll(ctxb, 1)
		require.ErrorIs(t, err, message.ErrSubscriptionConflict, "one group does one thing")

		// An assigned queue that does not exist is an error, because nobody will
		// create it by the coordinator.
		require.ErrorIs(t, p.Assign(nil, message.Queue{Topic: "no/name"}), message.ErrInvalidName)
	})
}

// TestPullReset raises the group's epoch: what was read before is void, and reading
// goes on where the reset says.
func TestPullFenced(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 10)
		p := subscribed(t, e, consumer.WithCommitInterval(0))
		require.Len(t, poll(t, p, 4), 4)
		e.groups.Fence("g")
		synctest.Wait()
		require.Equal(t, numbers(10), pollAll(t, p), "nothing was committed before the fence")
	})
}

func TestPullErrors(t *testing.T) {
	bubble(t, 2, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 10)
		bad := &message.CorruptError{Path: "log", Reason: "test"}
		e.onRead = func(q message.Queue, from int64) error {
			if q == orders(0) && from == 2 {
				return bad
			}
			return nil
		}
		p := subscribed(t, e)
		var got []string
		failures := 0
		for range 10 {
			ctx, cancel := context.WithTimeout(ctxb, time.Second)
			ds, err := p.Poll(ctx, 0)
			cancel()
			for _, d := range ds {
				got = append(got, string(d.Body()))
			}
			if err != nil && ctx.Err() == nil || err != nil && len(err.Error()) > 30 {
				require.ErrorIs(t, err, message.ErrCorrupt)
				failures++
			}
		}
		require.Equal(t, 1, failures, "told once")
		require.Equal(t, []string{"0", "1", "2", "3", "5", "7", "9"}, sorted(got), "the other queue goes on")
		require.NoError(t, p.Seek(ctxb, orders(0), message.At(3)))
		require.Equal(t, []string{"6", "8"}, pollAll(t, p), "behind the damage")
	})
}

func TestPullFollowsRetention(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 10)
		p := subscribed(t, e)
		require.Len(t, poll(t, p, 2), 2)
		e.expire(orders(0), 6)
		require.Equal(t, []string{"6", "7", "8", "9"}, pollAll(t, p))
		require.Equal(t, int64(1), p.Stats().Moved)
	})
}

func TestPullStartLastKeepsWhatComesLater(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 3)
		p := subscribed(t, e, consumer.WithStart(message.Last()))
		require.Nil(t, poll(t, p, 1))
		require.NoError(t, p.Close(ctxb))
		e.put(t, &message.Message{Topic: "orders", Body: []byte("meanwhile")})
		q := subscribed(t, e, consumer.WithStart(message.Last()))
		require.Equal(t, []string{"meanwhile"}, pollAll(t, q))
	})
}

func TestPullBroadcasting(t *testing.T) {
	dir := t.TempDir()
	bubble(t, 2, func(t *testing.T, e *fake) {
		e.putN(t, "orders", 4)
		open := func(instance string, opts ...consumer.Option) *consumer.Pull {
			return subscribed(t, e, append(opts, consumer.WithMode(group.Broadcasting), consumer.WithLocalOffsets(dir), consumer.WithInstance(instance))...)
		}
		a, b := open("a"), open("b", consumer.WithStart(message.First()))
		require.Nil(t, pollAll(t, a), "news by default")
		require.Len(t, pollAll(t, b), 4)
		e.putN(t, "orders", 6)
		require.Len(t, pollAll(t, a), 6)
		require.Len(t, pollAll(t, b), 6)
		_, err := open("a").Poll(ctxb, 1)
		require.ErrorIs(t, err, message.ErrLocked)
		require.NoError(t, a.Close(ctxb))
		require.Equal(t, int64(-1), e.committed("g", orders(0)), "the engine knows nothing of it")
		e.putN(t, "orders", 2)
		require.Len(t, pollAll(t, open("a")), 2, "from its file")
		require.Nil(t, pollAll(t, open("c", consumer.WithAlwaysLast())))
	})
}

func TestPullClosed(t *testing.T) {
	bubble(t, 1, func(t *testing.T, e *fake) {
		p := subscribed(t, e)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := p.Poll(ctxb, 1)
			if !errors.Is(err, message.ErrClosed) {
				t.Error(err)
			}
		})
		synctest.Wait()
		require.NoError(t, p.Close(ctxb))
		wg.Wait()
		_, err := p.Poll(ctxb, 1)
		require.ErrorIs(t, err, message.ErrClosed)
		require.ErrorIs(t, p.Subscribe("orders", nil), message.ErrClosed)
		require.ErrorIs(t, p.Seek(ctxb, orders(0), message.First()), message.ErrClosed)
		require.NoError(t, p.Close(ctxb))
		require.Empty(t, e.groups.Groups())

		_, err = consumer.NewPull(e, "bad name").Poll(ctxb, 1)
		require.ErrorIs(t, err, message.ErrInvalidName)
		_, err = consumer.NewPull(e, "g", consumer.WithInvisible(time.Second)).Poll(ctxb, 1)
		require.ErrorContains(t, err, "WithInvisible")
	})
}

// TestPullLoops makes and ends many consumers; goleak looks at what they leave.
func TestPullLoops(t *testing.T) {
	e := newFake(t, map[string]int{"orders": 2})
	defer e.close(t)
	e.putN(t, "orders", 4)
	for i := range 1000 {
		p := consumer.NewPull(e, "g"+fmt.Sprint(i%3))
		require.NoError(t, p.Subscribe("orders", nil))
		if i%2 == 0 {
			ctx, cancel := context.WithCancel(ctxb)
			cancel()
			_, _ = p.Poll(ctx, 1)
		}
		require.NoError(t, p.Close(ctxb))
	}
	require.Empty(t, e.groups.Groups())
	require.Empty(t, e.watches)
}
