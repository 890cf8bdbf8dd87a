package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
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

// tiny has every kind of row, so small that it says nothing.
func tiny() work {
	return work{
		puts:    []putRow{{100, 1, message.InCache}, {1 << 10, 8, message.OnDisk}},
		batches: []putRow{{100, 1, message.InCache}, {1 << 10, 8, message.OnDisk}},
		drain:   2000, drainCold: true,
		rates: []int{1000}, paced: 20 * time.Millisecond,
		consumers: []int{2},
		queues:    []int{1, 100}, zipf: 100, queuesFor: 5 * time.Millisecond,
		indexed: []int{100}, dedupe: 1000, timers: 100, transactions: []int{2},
		reopen: []reopenRow{{messages: 2000, size: 100}, {messages: 2000, size: 100, queues: 50, kill: true}},
		busy:   []int{1}, footprint: footprint{messages: 2000, queues: 50},
		stops: 10, rolled: 1000, backlog: 2000,
	}
}

// TestEveryWorkload runs each row once.
func TestEveryWorkload(t *testing.T) {
	es, err := experiments(tiny())
	require.NoError(t, err)
	r := measure.Runner{Reps: 1, For: 5 * time.Millisecond, Bytes: 1 << 20, Dir: t.TempDir()}
	rs, err := r.Run(context.Background(), es)
	require.NoError(t, err)
	seen := make(map[string]float64)
	for _, r := range rs {
		if r.Subject == ember {
			seen[r.Workload] = r.Median
			if r.RatioTo != "" {
				require.Positive(t, r.Ratio, r.Workload)
			}
		}
	}
	for _, e := range es {
		for _, m := range e.Metrics {
			if v, ok := seen[m.Workload]; ok {
				require.Positive(t, v, m.Workload)
			}
		}
	}
	for _, name := range []string{"put/100B/1p/incache", "put/1KiB/8p/ondisk", "batch100/100B/1p/incache", "drain/1KiB/scan", "latency/1k/p99",
		"queues/100", "dedupe/1KiB", "reopen/kill/2k/50queues", "busyhost/1/p99", "backlog/2000/append"} {
		require.Contains(t, seen, name)
	}
}

// TestNames: no two experiments give a figure of one name, in any scale.
func TestNames(t *testing.T) {
	for _, scale := range []measure.Scale{measure.Quick, measure.Standard, measure.Full} {
		es, err := experiments(workOf(scale))
		require.NoError(t, err)
		seen := make(map[string]bool)
		for _, e := range es {
			for _, m := range e.Metrics {
				require.False(t, seen[m.Workload], m.Workload)
				seen[m.Workload] = true
			}
		}
		if scale == measure.Full {
			for _, name := range []string{"put/1KiB/64p/ondisk", "batch100/100B/1p/incache", "drain/1KiB/scan", "latency/20k/p99", "queues/10000", "reopen/kill/1M", "busyhost/16/p99"} {
				require.True(t, seen[name], name)
			}
		}
	}
}

// TestCommand is a whole run with files, and one that is compared with figures
// that no machine reaches.
func TestCommand(t *testing.T) {
	out := t.TempDir()
	run := func(args ...string) error {
		c := measure.Command("bench", "", "", func(measure.Scale) ([]measure.Experiment, error) { return experiments(tiny()) })
		c.SetArgs(append(args, "--only", "put/100B", "--out", out, "--reps", "3", "--turn", "2ms"))
		c.SetOut(&bytes.Buffer{})
		c.SetErr(&bytes.Buffer{})
		return c.ExecuteContext(context.Background())
	}
	require.NoError(t, run())
	file := filepath.Join(out, "results.json")
	for _, name := range []string{"machine.json", "results.md", "put-msg-per-s.png", "put-msg-per-s.svg"} {
		require.FileExists(t, filepath.Join(out, name))
	}
	rs, err := measure.Load(file)
	require.NoError(t, err)
	require.Len(t, rs, 2)
	for i := range rs[0].Reps {
		rs[0].Reps[i] *= 1e6
	}
	old := filepath.Join(out, "old.json")
	require.NoError(t, measure.Save(old, rs))
	var lost *measure.LostError
	require.ErrorAs(t, run("--compare", old, "--ratios", "--max-regress", "0.5"), &lost)
	require.Equal(t, 1, lost.Rows)
	require.Error(t, run("--compare", filepath.Join(out, "missing.json")))
}
