package consumequeue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

func TestAppendAllocatesNothing(t *testing.T) {
	o := manual()
	o.FileSize = 0
	s := openOS(t, o)
	q := s.Queue(topic0)
	var at int64
	burst := func() {
		for range 1000 {
			q.Append(at, nth(at))
			at++
		}
	}
	burst()
	require.NoError(t, s.Flush())
	allocs := testing.AllocsPerRun(20, func() {
		burst()
		q.mu.Lock() // what a flush does to the tail
		q.dropLocked(q.end)
		q.mu.Unlock()
	})
	require.Less(t, allocs/1000, 0.02)
	dst := make([]Entry, 32)
	fill(q, at, at+32)
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = q.Read(at, dst) }))
	require.NoError(t, s.Delete(topic0.Topic)) // its files have been skipped
}

func TestReadFromFileAllocatesNothing(t *testing.T) {
	o := manual()
	o.FileSize = 0
	s := openOS(t, o)
	q := s.Queue(topic0)
	fill(q, 0, 1000)
	require.NoError(t, s.Flush())
	dst := make([]Entry, 32)
	_, err := q.Read(0, dst)
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = q.Read(500, dst) }))
}

// 10,000 queues share 512 descriptors. The simulated disk counts them.
func TestTenThousandQueues(t *testing.T) {
	const queues = 10_000
	sim := memory(t)
	o := manual()
	o.FileSize = 0
	s := open(t, sim, o)
	most := 0
	for i := range queues {
		fill(s.Queue(queueName(i)), 0, nominalTail)
		s.Step()
		if i%97 == 0 {
			most = max(most, sim.OpenFiles())
		}
	}
	require.Equal(t, int64(queues*nominalTail), s.Stats().Flushed)
	for i := range queues {
		fill(s.Queue(queueName(i)), nominalTail, nominalTail+3)
	}
	save(t, s, 1)
	most = max(most, sim.OpenFiles())
	require.LessOrEqual(t, most, 512)
	require.Greater(t, most, 256, "the cache is used")
	require.NoError(t, s.Close())
	require.Zero(t, sim.OpenFiles())

	s = open(t, sim, o)
	require.Equal(t, queues, s.Stats().Queues)
	require.Zero(t, sim.OpenFiles(), "queues open lazily")
	for i := 0; i < queues; i += 501 {
		requireFilled(t, s.Queue(queueName(i)), 0, nominalTail+3)
	}
}

func TestIdleQueueMemory(t *testing.T) {
	const queues = 100_000
	for _, perTopic := range []int{1, 8} {
		names := make([]message.Queue, queues)
		for i := range names {
			names[i] = message.Queue{Topic: fmt.Sprintf("some-topic-%07d", i/perTopic), ID: int32(i % perTopic)}
		}
		s := open(t, memory(t), manual())
		before := heap()
		for _, name := range names {
			s.Create(name, 5)
		}
		each := (heap() - before) / queues
		t.Logf("%d bytes a queue", each)
		require.LessOrEqual(t, each, int64(400))
		runtime.KeepAlive(s)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Tails are written early when all of them together are over the budget, and a
// store that waits is let go.
func TestBudget(t *testing.T) {
	sim := memory(t)
	o := manual()
	o.TailBudget = 64 << 10
	var synced int64
	o.Synced = func() int64 { return synced }
	s := open(t, sim, o)
	for i := range 200 {
		fill(s.Queue(queueName(i)), 0, 200)
	}
	require.True(t, s.Pressure())
	require.NoError(t, s.Wait(context.Background()))
	require.True(t, s.Pressure(), "nothing is synced, so nothing was written")
	require.Empty(t, tree(t, sim.FS().Sub("consumequeue"), "."))
	synced = 1 << 40
	require.NoError(t, s.Wait(context.Background()))
	require.False(t, s.Pressure())
	require.LessOrEqual(t, s.Stats().TailBytes, o.TailBudget)
	for i := range 200 {
		requireFilled(t, s.Queue(queueName(i)), 0, 200)
	}
}

func TestWaitEnds(t *testing.T) {
	sim := memory(t)
	var synced atomic.Int64
	s := open(t, sim, Options{FileSize: 200, TailBudget: 4 << 10, Synced: synced.Load})
	q := s.Queue(topic0)
	fill(q, 0, 2000)
	require.True(t, s.Pressure())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, s.Wait(ctx), context.Canceled)
	done := make(chan error)
	go func() { done <- s.Wait(context.Background()) }()
	synced.Store(1 << 40)
	s.Kick()
	require.NoError(t, <-done)
	requireFilled(t, q, 0, 2000)
}

// Readers, one dispatcher, the flusher, saves, retention and creation at once;
// run with -race.
func TestConcurrent(t *testing.T) {
	sim := memory(t)
	var synced, applied atomic.Int64
	s := open(t, sim, Options{FileSize: 2000, TailBudget: 64 << 10, MaxOpenFiles: 4, Synced: synced.Load,
		Rebuild: func(ctx context.Context, qs []*Queue) error {
			for _, q := range qs {
				_, end := q.Bounds()
				for i := range end {
					q.Restore(i, nth(i))
				}
			}
			return ctx.Err()
		}})
	const queues, rounds = 8, 300
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for r := range 3 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(r), 3))
			dst := make([]Entry, 100)
			for ctx.Err() == nil {
				q := s.Queue(queueName(rnd.IntN(queues)))
				start, end := q.Bounds()
				if start == end {
					continue
				}
				from := start + rnd.Int64N(end-start)
				n, err := q.ReadContext(context.Background(), from, dst)
				if err != nil {
					assertMoved(t, q, from, err)
					continue
				}
				for i, e := range dst[:n] {
					if e != nth(from+int64(i)) {
						t.Errorf("queue %s offset %d is %v", q, from+int64(i), e)
						return
					}
				}
			}
		})
	}
	wg.Go(func() {
		rnd := rand.New(rand.NewPCG(9, 3))
		for ctx.Err() == nil {
			q := s.Queue(queueName(rnd.IntN(queues)))
			switch rnd.IntN(50) {
			case 0:
				q.MarkDamaged(0, "test")
			case 1:
				if err := s.Expire(max(0, synced.Load()/2)); err != nil {
					t.Error(err)
				}
			case 2:
				if err := s.Check(ctx, nil, func(path string, off int64, reason string) {
					if reason != "test" && reason != "file is missing" {
						t.Errorf("%s at %d: %s", path, off, reason)
					}
				}); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			default:
				runtime.Gosched()
			}
		}
	})
	for round := range int64(rounds) {
		for i := range queues {
			fill(s.Queue(queueName(i)), round*20, round*20+20)
		}
		applied.Store((round + 1) * 2000)
		if round%3 == 0 {
			synced.Store(applied.Load())
		}
		if round%20 == 0 {
			synced.Store(applied.Load())
			require.NoError(t, s.Freeze(message.Mark{Offset: applied.Load()})())
		}
	}
	synced.Store(applied.Load())
	stop()
	wg.Wait()
	for i := range queues {
		q := s.Queue(queueName(i))
		require.NoError(t, q.Ready(context.Background()))
		start, _ := q.Bounds()
		requireFilled(t, q, start, rounds*20)
	}
}

func assertMoved(t *testing.T, q *Queue, from int64, err error) {
	if start, _ := q.Bounds(); from >= start {
		t.Errorf("queue %s: read %d from %d on: %v", q, from, start, err)
	}
}
