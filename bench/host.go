package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/embermq/embermq/bench/limits"
	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// hosts is what the program around a store feels, and what it does to the store.
func hosts(w work) (es []measure.Experiment, err error) {
	for _, n := range w.busy {
		es = append(es, busyHost(n))
	}
	rec, err := measure.Record(1 << 10)
	if err != nil {
		return nil, err
	}
	inCache := store.WithDurability(message.InCache)
	return append(es,
		row("stw/put/p99", "us",
			measure.Subject{Name: ember, RatioTo: pwrite, Run: one(func(t measure.Turn) (float64, error) {
				return withStore(t.Dir, func(s *store.Store) (float64, error) { return pauses(w.stops, putter(s, 1<<10)) }, inCache)
			})},
			measure.Subject{Name: pwrite, Run: one(func(t measure.Turn) (v float64, err error) {
				l, err := limits.NewLog(filepath.Join(t.Dir, "raw"), false)
				if err != nil {
					return 0, err
				}
				defer func() { err = errors.Join(err, l.Close()) }()
				return pauses(w.stops, func() error { return l.Write(rec) })
			})}),
		row("stw/scan/p99", "us", measure.Subject{Name: ember, Run: one(func(t measure.Turn) (float64, error) {
			return withStore(t.Dir, func(s *store.Store) (float64, error) { return scanPauses(s, w.stops) }, inCache)
		})}),
		measure.Experiment{
			Metrics:  []measure.Metric{{Workload: "roll/worst", Unit: "us"}, {Workload: "roll/p999", Unit: "us"}},
			Subjects: []measure.Subject{{Name: ember, Run: func(t measure.Turn) ([]float64, error) { return rolls(t, w.rolled) }}},
		}), nil
}

// busyHost is the p99 of puts to disk beside goroutines of the host that compute
// without a pause, with group commit that yields and without.
func busyHost(busy int) measure.Experiment {
	const without = "no yield"
	run := func(opts ...store.Option) func(t measure.Turn) ([]float64, error) {
		return one(func(t measure.Turn) (float64, error) {
			return withStore(t.Dir, func(s *store.Store) (float64, error) { return beside(s, busy, 4*t.For) }, opts...)
		})
	}
	still := env.Real()
	still.NoYield = true
	return row(fmt.Sprintf("busyhost/%d/p99", busy), "us",
		measure.Subject{Name: ember, RatioTo: without, Run: run()},
		measure.Subject{Name: without, Run: run(store.WithEnvironment(still))})
}

func beside(s *store.Store, busy int, d time.Duration) (float64, error) {
	var stop atomic.Bool
	var spin sync.WaitGroup
	for range busy {
		spin.Go(func() {
			for !stop.Load() {
			}
		})
	}
	defer spin.Wait()
	defer stop.Store(true)
	const producers = 8
	own := make([]*measure.Latencies, producers)
	_, err := measure.Produce(producers, d, 1<<40, func(i int) (func() error, error) {
		own[i] = measure.NewLatencies()
		op := putter(s, 1<<10)
		return func() error {
			t0 := time.Now()
			err := op()
			own[i].Add(time.Since(t0))
			return err
		}, nil
	})
	for _, o := range own[1:] {
		own[0].Merge(o)
	}
	return own[0].Micros(99), err
}

func scanPauses(s *store.Store, samples int) (float64, error) {
	if err := fill(s, "orders", 1<<10, 20_000); err != nil {
		return 0, err
	}
	q := message.Queue{Topic: "orders"}
	_, end, err := s.Bounds(q)
	if err != nil {
		return 0, err
	}
	from := int64(0)
	lend := func(*message.Record) error { return nil }
	return pauses(samples, func() error {
		next, err := s.Scan(q, from, message.Limit{Count: 100}, nil, lend)
		if from = next; from == end {
			from = 0
		}
		return err
	})
}

// pauses is the p99 of stopping the world, in microseconds, while op runs again
// and again: what a garbage collection of the host would wait for.
func pauses(samples int, op func() error) (float64, error) {
	var stop atomic.Bool
	failed := make(chan error, 1)
	go func() {
		for !stop.Load() {
			if err := op(); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	l := measure.NewLatencies()
	var ms runtime.MemStats
	for range samples {
		t0 := time.Now()
		runtime.ReadMemStats(&ms) // stops the world
		l.Add(time.Since(t0))
		time.Sleep(200 * time.Microsecond)
	}
	stop.Store(true)
	return l.Micros(99), <-failed
}

// rolls is the worst put at which a segment rolled, and the p99.9 of all.
func rolls(t measure.Turn, puts int) ([]float64, error) {
	const segment = 8 << 20
	all, atRoll := measure.NewLatencies(), measure.NewLatencies()
	_, err := withStore(t.Dir, func(s *store.Store) (float64, error) {
		m, last := measure.Message("orders", 1<<10), int64(0)
		for range puts {
			t0 := time.Now()
			r, err := s.Put(context.Background(), m)
			if err != nil {
				return 0, err
			}
			d := time.Since(t0)
			all.Add(d)
			if at := r.Position / segment; at != last {
				last = at
				atRoll.Add(d)
			}
		}
		return 0, nil
	}, store.WithDurability(message.InCache), store.WithSegmentSize(segment))
	return []float64{atRoll.Max(), all.Micros(99.9)}, err
}
