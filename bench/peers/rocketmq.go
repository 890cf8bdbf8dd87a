package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/interop/rocketmq/oracle"
	"github.com/embermq/embermq/message"
)

//go:embed Bench.java
var benchJava string

// rocketMQ is Apache RocketMQ's own store in a Java process for each turn.
type rocketMQ struct{ classPath string }

const rocketName = "rocketmq (Java store)"

// findRocketMQ returns nil where Java or Maven is missing.
func findRocketMQ(ctx context.Context) (*rocketMQ, error) {
	cp, err := oracle.ClassPath(ctx, oracle.StoreOnly)
	if errors.Is(err, oracle.ErrMissing) {
		fmt.Fprintln(os.Stderr, "without Apache RocketMQ:", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &rocketMQ{cp}, nil
}

// job is what a process does: see Bench.java.
type job struct {
	mode                      string
	size, producers, batch, n int
	sync                      bool
}

func (r *rocketMQ) run(t measure.Turn, j job) ([]float64, error) {
	source := filepath.Join(t.Dir, "Bench.java")
	if err := os.WriteFile(source, []byte(benchJava), 0o600); err != nil {
		return nil, err
	}
	// Compiling and loading blur short turns, so Java gets four of them.
	millis := (4 * t.For).Milliseconds()
	cmd := exec.Command("java", "-Xmx2g", "-XX:MaxDirectMemorySize=2g", "-Duser.home="+t.Dir, "-cp", r.classPath, source, j.mode, t.Dir, fmt.Sprint(millis),
		fmt.Sprint(j.size), fmt.Sprint(j.producers), fmt.Sprint(max(j.batch, 1)), fmt.Sprint(j.n), fmt.Sprint(j.sync), fmt.Sprint(4*t.Bytes/int64(max(j.size, 1))))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	_, line, ok := strings.Cut(string(out), "figures: ")
	if err != nil || !ok {
		return nil, fmt.Errorf("java: %w: %.500s", errors.Join(err, errNoFigures), stderr.String())
	}
	var vs []float64
	for _, f := range strings.Fields(line) {
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return nil, err
		}
		vs = append(vs, v)
	}
	return vs, nil
}

var errNoFigures = errors.New("no figures")

func (r *rocketMQ) subject(j job) measure.Subject {
	return measure.Subject{Name: rocketName, RatioTo: ember, Run: func(t measure.Turn) ([]float64, error) { return r.run(t, j) }}
}

func (r *rocketMQ) put(d message.Durability, size, producers, n int) measure.Subject {
	return r.subject(job{mode: "put", size: size, producers: producers, batch: n, n: 1, sync: d == message.OnDisk})
}

func (r *rocketMQ) drain(size, n int) measure.Subject {
	return r.subject(job{mode: "drain", size: size, n: n})
}

// rows are those that only RocketMQ shares with EmberMQ.
func (r *rocketMQ) rows() []measure.Experiment {
	if r == nil {
		return nil
	}
	const queues, rate, messages = 10_000, 20_000, 1_000_000
	single := func(workload, unit string, ours func(t measure.Turn) (float64, error), theirs measure.Subject) measure.Experiment {
		return measure.Experiment{Metrics: []measure.Metric{{Workload: workload, Unit: unit}}, Subjects: []measure.Subject{subjectOf(ember, ours), theirs}}
	}
	reopened := measure.Subject{Name: rocketName, RatioTo: ember, Run: func(t measure.Turn) ([]float64, error) {
		if _, err := r.run(t, job{mode: "fill", size: 1 << 10, n: messages}); err != nil {
			return nil, err
		}
		return r.run(t, job{mode: "open", size: 1 << 10})
	}}
	return []measure.Experiment{
		single(fmt.Sprint("queues/", queues), "msg/s", func(t measure.Turn) (float64, error) { return emberQueues(t, queues) },
			r.subject(job{mode: "put", size: 1 << 10, producers: 1, n: queues})),
		{
			Metrics: []measure.Metric{{Workload: "latency/20k/p50", Unit: "us"}, {Workload: "latency/20k/p99", Unit: "us"}, {Workload: "latency/20k/p999", Unit: "us"}},
			Subjects: []measure.Subject{
				{Name: ember, Run: func(t measure.Turn) ([]float64, error) { return emberLatency(t, rate, 4*t.For) }},
				r.subject(job{mode: "latency", size: 1 << 10, n: rate}),
			},
		},
		single("reopen/kill/1M", "ms", func(t measure.Turn) (float64, error) { return emberReopen(t, messages) }, reopened),
	}
}

// wait bounds what a broken run may take.
const wait = time.Minute
