package main

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/message"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	os.Exit(m.Run())
}

// TestLibraries puts, from two goroutines, and reads everything back.
func TestLibraries(t *testing.T) {
	for _, l := range libraries() {
		t.Run(l.name+"/"+l.promise.String(), func(t *testing.T) {
			p, err := l.open(t.TempDir())
			require.NoError(t, err)
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					put, err := p.putter()
					if err != nil {
						t.Error(err)
						return
					}
					for range 5 {
						if err := put(make([]byte, 100)); err != nil {
							t.Error(err)
						}
					}
					if err := put(make([]byte, 100), make([]byte, 100)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			n, err := p.drain(14, new(atomic.Bool))
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, 14)
			require.NoError(t, p.close())
		})
	}
}

// TestEveryWorkload runs each row of a tiny run once.
func TestEveryWorkload(t *testing.T) {
	es, err := experiments(context.Background(), work{sizes: []int{100}, producers: []int{2}, drain: 2000})
	require.NoError(t, err)
	r := measure.Runner{Reps: 1, For: 2 * time.Millisecond, Bytes: 1 << 20, Dir: t.TempDir()}
	rs, err := r.Run(context.Background(), es)
	require.NoError(t, err)
	subjects := make(map[string]bool)
	for _, one := range rs {
		require.Positive(t, one.Median, "%s %s", one.Workload, one.Subject)
		subjects[one.Subject] = true
	}
	for _, l := range libraries() {
		require.True(t, subjects[l.name], l.name)
	}
}

// TestPromises: no row mixes promises.
func TestPromises(t *testing.T) {
	promises := make(map[message.Durability]int)
	for _, l := range libraries() {
		promises[l.promise]++
	}
	for _, d := range []message.Durability{message.InCache, message.OnDisk} {
		e := putRow(nil, d, 100, 1, 1)
		require.Len(t, e.Subjects, promises[d])
	}
}

func TestRocketMQ(t *testing.T) {
	if _, err := exec.LookPath("java"); err != nil {
		t.Skip("no Java")
	}
	rocket, err := findRocketMQ(context.Background())
	require.NoError(t, err)
	if rocket == nil {
		t.Skip("no Maven")
	}
	turn := measure.Turn{Dir: t.TempDir(), For: 20 * time.Millisecond, Bytes: 1 << 20}
	for _, s := range []measure.Subject{rocket.put(message.InCache, 100, 1, 1), rocket.put(message.OnDisk, 100, 4, 1), rocket.put(message.InCache, 100, 1, batch), rocket.drain(100, 1000)} {
		vs, err := s.Run(turn)
		require.NoError(t, err)
		require.Positive(t, vs[0])
	}
}

func TestReopen(t *testing.T) {
	ms, err := emberReopen(measure.Turn{Dir: t.TempDir()}, 2000)
	require.NoError(t, err)
	require.Positive(t, ms)
}

func TestLatency(t *testing.T) {
	vs, err := emberLatency(measure.Turn{Dir: t.TempDir()}, 1000, 10*time.Millisecond)
	require.NoError(t, err)
	require.Len(t, vs, 3)
	require.LessOrEqual(t, vs[0], vs[2])
}
