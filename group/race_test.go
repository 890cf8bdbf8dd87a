package group

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/message"
)

// TestRace runs members, settlers and administrators against each other on real
// time. Inside Do nobody else is inside Do for the same queue.
func TestRace(t *testing.T) {
	var size, epoch atomic.Int64
	size.Store(8)
	c, err := New(Options{
		Queues: func(string) int { return int(size.Load()) },
		Epoch:  func(string) uint64 { return uint64(epoch.Load()) },
		Clock:  clock.Real{}, DrainLimit: time.Millisecond,
	})
	require.NoError(t, err)
	var heard, inside, refused, members atomic.Int64
	c.Listen(func(Event) { heard.Add(1) })
	var doing [16]atomic.Int64
	var wg sync.WaitGroup

	settle := func(ks []Claim) {
		for _, k := range ks {
			err := c.Do(k, func() error {
				if n := doing[k.Queue.ID].Add(1); n > 1 {
					t.Errorf("%d are inside for %s", n, k.Queue)
				}
				inside.Add(1)
				doing[k.Queue.ID].Add(-1)
				return nil
			})
			if err != nil {
				refused.Add(1)
			}
			_ = c.Valid(k)
		}
	}
	live := func(rnd *rand.Rand) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		m, err := c.Join(ctx, Member{Group: "g", Subscriptions: map[string]string{"t": "*"}})
		if err != nil {
			t.Error(err)
			return
		}
		members.Add(1)
		var mine []Claim
		for range 1 + rnd.IntN(6) {
			wait, stop := context.WithTimeout(ctx, time.Millisecond)
			ch, err := m.Next(wait)
			stop()
			if err != nil {
				settle(mine)
				continue
			}
			mine = append(mine, ch.Given...)
			settle(mine)
			if rnd.IntN(4) > 0 {
				m.Release(append(ch.Revoked, ch.Lost...)...)
			}
		}
		switch rnd.IntN(3) {
		case 0:
			wait, stop := context.WithTimeout(ctx, time.Millisecond)
			_ = m.Leave(wait)
			stop()
		case 1:
			m.Abandon(nil)
		}
		settle(mine)
	}
	for i := range 4 {
		rnd := rand.New(rand.NewPCG(uint64(i), 0))
		wg.Go(func() {
			for range 60 {
				live(rnd)
			}
		})
	}
	wg.Go(func() {
		for i := range 200 {
			size.Store(int64(4 + i%8))
			c.Refresh("t")
			if i%10 == 0 {
				epoch.Add(1)
				c.Fence("g")
			}
			c.Members("g")
			c.Stats()
		}
	})
	wg.Wait()
	require.NoError(t, c.Close())
	require.EqualValues(t, 240, members.Load())
	require.Positive(t, inside.Load())
	require.Positive(t, refused.Load())
	require.Positive(t, heard.Load())
}

func benchmarkClaim(b *testing.B) (*Coordinator, Claim) {
	c, err := New(Options{Queues: func(string) int { return 1 }, Clock: clock.Real{}})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, c.Close()) })
	m, err := c.Join(b.Context(), Member{Group: "g", Subscriptions: map[string]string{"t": "*"}})
	require.NoError(b, err)
	ch, err := m.Next(b.Context())
	require.NoError(b, err)
	return c, ch.Given[0]
}

func BenchmarkValid(b *testing.B) {
	c, k := benchmarkClaim(b)
	b.ReportAllocs()
	for b.Loop() {
		if c.Valid(k) != nil {
			b.Fatal("stale")
		}
	}
}

func BenchmarkDo(b *testing.B) {
	c, k := benchmarkClaim(b)
	nothing := func() error { return nil }
	b.ReportAllocs()
	for b.Loop() {
		if c.Do(k, nothing) != nil {
			b.Fatal("stale")
		}
	}
}

// BenchmarkRebalance joins and takes out the 17th member of a group with 10,000
// queues, drains included.
func BenchmarkRebalance(b *testing.B) {
	for _, s := range []Strategy{Average(), Circle(), ConsistentHash(0)} {
		b.Run(s.Name(), func(b *testing.B) {
			c, err := New(Options{Queues: func(string) int { return 10_000 }, Clock: clock.Real{}})
			require.NoError(b, err)
			var wg sync.WaitGroup
			join := func() (*Membership, chan bool) {
				m, err := c.Join(context.Background(), Member{Group: "g", Strategy: s, Subscriptions: map[string]string{"t": "*"}})
				require.NoError(b, err)
				first := make(chan bool)
				wg.Go(func() {
					given := false
					for {
						ch, err := m.Next(context.Background())
						if err != nil {
							return
						}
						m.Release(ch.Revoked...)
						if len(ch.Given) > 0 && !given {
							given = true
							close(first)
						}
					}
				})
				return m, first
			}
			for range 16 {
				_, first := join()
				<-first
			}
			for b.Loop() {
				m, first := join()
				<-first
				if err := m.Leave(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			require.NoError(b, c.Close())
			wg.Wait()
		})
	}
}

// TestValidAllocates nothing for a claim that counts.
func TestValidAllocates(t *testing.T) {
	c, err := New(Options{Queues: func(string) int { return 1 }, Clock: clock.Real{}})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	m, err := c.Join(t.Context(), Member{Group: "g", Subscriptions: map[string]string{"t": "*"}})
	require.NoError(t, err)
	ch, err := m.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, message.Queue{Topic: "t"}, ch.Given[0].Queue)
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = c.Valid(ch.Given[0]) }))
}
