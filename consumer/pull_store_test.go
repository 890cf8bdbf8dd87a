package consumer_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// The tests of Pull in pull_test.go have an engine of their own; these have a store.

// overRestart opens a store in virtual time with two queues of five messages each,
// and gives f a way to close and open it again.
func overRestart(t *testing.T, f func(t *testing.T, s *store.Store, again func() *store.Store)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, dir)
		defer func() { require.NoError(t, s.Close()) }()
		require.NoError(t, s.CreateTopic(ctxb, store.Topic{Name: "orders", WriteQueues: 2}))
		fill(t, s, 2, 10)
		f(t, s, func() *store.Store {
			require.NoError(t, s.Close())
			s = openStore(t, dir)
			return s
		})
	})
}

func committedAt(t *testing.T, s *store.Store, id int32) int64 {
	t.Helper()
	at, ok, err := s.Committed(ctxb, "g", orders(id))
	require.NoError(t, err)
	require.True(t, ok)
	return at
}

// TestPullRestart commits by itself, by Commit and by Close; what a restart
// delivers again is what was not.
func TestPullRestart(t *testing.T) {
	overRestart(t, func(t *testing.T, s *store.Store, again func() *store.Store) {
		p := consumer.NewPull(s, "g")
		require.NoError(t, p.Subscribe("orders", nil))
		got := poll(t, p, 4)
		require.Len(t, got, 4)
		time.Sleep(consumer.DefaultCommitInterval)
		got = append(got, poll(t, p, 3)...)
		require.EqualValues(t, 4, committedAt(t, s, 0)+committedAt(t, s, 1), "the first four were committed on the way")
		require.NoError(t, p.Close(ctxb), "the last three are not done")

		s = again()
		p = consumer.NewPull(s, "g")
		require.NoError(t, p.Subscribe("orders", nil))
		rest := pollAll(t, p)
		require.Equal(t, numbers(10), sorted(append(got[:4], rest...)))
		require.NoError(t, p.Commit(ctxb, nil))
		require.NoError(t, p.Close(ctxb))

		s = again()
		require.EqualValues(t, 5, committedAt(t, s, 0))
		require.EqualValues(t, 5, committedAt(t, s, 1))
		p = consumer.NewPull(s, "g")
		require.NoError(t, p.Subscribe("orders", nil))
		require.Nil(t, poll(t, p, 0), "nothing comes again")
		fill(t, s, 2, 2)
		require.Equal(t, numbers(2), sorted(pollAll(t, p)))
		require.NoError(t, p.Close(ctxb))
	})
}

// TestPullAssignRestart reads queues that it names, moves in them every way there
// is, pauses one, and goes on behind its commits.
func TestPullAssignRestart(t *testing.T) {
	overRestart(t, func(t *testing.T, s *store.Store, again func() *store.Store) {
		began := time.Now()
		time.Sleep(time.Minute)
		fill(t, s, 2, 4) // offsets 5 and 6 of each queue
		p := consumer.NewPull(s, "g", consumer.WithManualCommit())
		require.NoError(t, p.Assign(nil, orders(0), orders(1)))
		first := func(to message.Start) string {
			t.Helper()
			require.NoError(t, p.Seek(ctxb, orders(1), to))
			got := poll(t, p, 1)
			if len(got) == 0 {
				return "nothing"
			}
			return got[0]
		}
		p.Pause(orders(0))
		require.Equal(t, "5", first(message.At(2)))
		require.Equal(t, "1", first(message.First()))
		require.Equal(t, "nothing", first(message.Last()))
		require.Equal(t, "1", first(message.AtTime(began.Add(time.Second))), "the second part's first")
		require.ErrorIs(t, p.Seek(ctxb, orders(1), message.At(8)), message.ErrOutOfRange)
		require.NoError(t, p.Commit(ctxb, map[message.Queue]int64{orders(1): 6}))
		p.Resume(orders(0))
		require.Len(t, pollAll(t, p), 7+1, "queue 0, and the last one of queue 1")
		require.NoError(t, p.Close(ctxb))

		s = again()
		p = consumer.NewPull(s, "g", consumer.WithManualCommit())
		require.NoError(t, p.Assign(nil, orders(1)))
		at, ok, err := p.Committed(ctxb, orders(1))
		require.NoError(t, err)
		require.True(t, ok)
		require.EqualValues(t, 6, at)
		require.Len(t, pollAll(t, p), 1, "without a Commit everything behind the last one comes again")
		_, ok, err = p.Committed(ctxb, orders(0))
		require.NoError(t, err)
		require.False(t, ok, "nothing was committed there")
		require.NoError(t, p.Close(ctxb))
	})
}

// TestPullAllRestart leaves a loop in the middle.
func TestPullAllRestart(t *testing.T) {
	overRestart(t, func(t *testing.T, s *store.Store, again func() *store.Store) {
		loop := func(n int) (got []string) {
			p := consumer.NewPull(s, "g")
			require.NoError(t, p.Subscribe("orders", nil))
			for d, err := range p.All(ctxb) {
				require.NoError(t, err)
				if got = append(got, string(d.Body())); len(got) == n {
					break
				}
			}
			require.NoError(t, p.Close(ctxb))
			return got
		}
		got := loop(4)
		s = again()
		rest := loop(7)
		require.Equal(t, got[3], rest[0], "the one in hand was not done")
		require.Equal(t, numbers(10), sorted(append(got[:3], rest...)))
	})
}

// TestPullResetOnStore has a reset while messages are in hand: it is obeyed,
// and what was read before it is void.
func TestPullResetOnStore(t *testing.T) {
	overRestart(t, func(t *testing.T, s *store.Store, _ func() *store.Store) {
		p := consumer.NewPull(s, "g")
		require.NoError(t, p.Subscribe("orders", nil))
		require.Len(t, pollAll(t, p), 10)
		require.NoError(t, p.Commit(ctxb, nil))
		require.NoError(t, s.ResetOffsets(ctxb, "g", "orders", message.At(3)))
		synctest.Wait()
		got := pollAll(t, p)
		require.Len(t, got, 4)
		for _, body := range got {
			n, err := strconv.Atoi(body)
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, 6)
		}
		require.NoError(t, p.Close(ctxb))
	})
}
