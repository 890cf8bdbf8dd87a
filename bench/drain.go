package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/embermq/embermq/bench/limits"
	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// mmapScan is the limit of draining: a walk through the log's own files.
const mmapScan = "mmap+crc"

// filled is a store with messages that all turns of a row read.
type filled struct {
	n, size   int
	dir       string
	s         *store.Store
	positions []int64 // of some of the records
	groups    int     // so many have drained it
}

func (b *filled) setup(dir string) (end func() error, err error) {
	b.dir = filepath.Join(dir, "store")
	if b.s, err = store.Open(b.dir, store.WithDurability(message.InCache)); err != nil {
		return nil, err
	}
	if err := errors.Join(fill(b.s, "orders", b.size, b.n), b.s.Sync(context.Background())); err != nil {
		return nil, errors.Join(err, b.s.Close())
	}
	return b.s.Close, nil
}

// log is the folder of the store's commit log.
func (b *filled) log() string { return filepath.Join(b.dir, "commitlog") }

// drainWays are the ways to read a queue, each as one group with commits.
var drainWays = []struct {
	name string
	run  func(b *filled, group string) error
}{{"scan", drainScan}, {"read", drainRead}, {"pull", drainPull}, {"push", drainPush}, {"lease", drainLease}}

func drains(w work) ([]measure.Experiment, error) {
	b := &filled{n: w.drain, size: 1 << 10}
	es := []measure.Experiment{b.drain("", func() error { return nil }), randomReads(&filled{n: w.drain, size: 1 << 10})}
	if w.drainCold {
		cold := &filled{n: w.drain, size: 1 << 10}
		es = append(es, cold.drain("/cold", func() error { return measure.DropPages(cold.dir) }))
	}
	return es, nil
}

// drain compares all ways with a scan of the files. before runs before each.
func (b *filled) drain(suffix string, before func() error) measure.Experiment {
	var metrics []measure.Metric
	for _, way := range drainWays {
		metrics = append(metrics, measure.Metric{Workload: "drain/" + measure.Size(b.size) + "/" + way.name + suffix, Unit: "msg/s"})
	}
	ours := func(measure.Turn) (vs []float64, err error) {
		for _, way := range drainWays {
			if err := before(); err != nil {
				return nil, err
			}
			b.groups++
			v, err := rate(b.n, func() error { return way.run(b, fmt.Sprint("group-", b.groups)) })
			if err != nil {
				return nil, err
			}
			vs = append(vs, v)
		}
		return vs, nil
	}
	limit := func(measure.Turn) ([]float64, error) {
		if err := before(); err != nil {
			return nil, err
		}
		v, err := rate(b.n, func() error {
			n, _, err := limits.Scan(b.log())
			if err == nil && n < int64(b.n) {
				err = fmt.Errorf("%d records instead of %d", n, b.n)
			}
			return err
		})
		return slices.Repeat([]float64{v}, len(drainWays)), err
	}
	return measure.Experiment{Metrics: metrics, Setup: b.setup, Subjects: []measure.Subject{
		{Name: ember, RatioTo: mmapScan, Run: ours}, {Name: mmapScan, Run: limit},
	}}
}

// rate is how many of n are done a second when f does them all.
func rate(n int, f func() error) (float64, error) {
	t0 := time.Now()
	err := f()
	return float64(n) / time.Since(t0).Seconds(), err
}

const (
	commitEvery = 500
	drainLimit  = 5 * time.Minute // a drain that takes longer is broken
)

func (b *filled) queue() message.Queue { return message.Queue{Topic: "orders"} }

func (b *filled) commit(group string, offset int64) error {
	return b.s.Commit(context.Background(), group, map[message.Queue]int64{b.queue(): offset})
}

func drainScan(b *filled, group string) error {
	lend := func(*message.Record) error { return nil }
	for from := int64(0); from < int64(b.n); {
		next, err := b.s.Scan(b.queue(), from, message.Limit{Count: commitEvery}, nil, lend)
		if err != nil {
			return err
		}
		if err := b.commit(group, next); err != nil {
			return err
		}
		from = next
	}
	return nil
}

func drainRead(b *filled, group string) error {
	for from := int64(0); from < int64(b.n); {
		got, err := b.s.Read(context.Background(), b.queue(), from, message.Limit{Count: commitEvery}, nil)
		if err != nil {
			return err
		}
		if err := b.commit(group, got.Next); err != nil {
			return err
		}
		from = got.Next
	}
	return nil
}

// randomReads gets single records by their positions, in no order.
func randomReads(b *filled) measure.Experiment {
	const pread = "pread"
	const reads = 20_000
	e := row("randomread/"+measure.Size(b.size), "msg/s",
		measure.Subject{Name: ember, RatioTo: pread, Run: one(func(measure.Turn) (float64, error) {
			return rate(reads, func() error {
				for i := range reads {
					if _, err := b.s.Get(context.Background(), b.positions[i%len(b.positions)]); err != nil {
						return err
					}
				}
				return nil
			})
		})},
		measure.Subject{Name: pread, Run: one(func(measure.Turn) (float64, error) {
			rec, err := measure.Record(b.size)
			if err != nil {
				return 0, err
			}
			at := make([]int64, reads)
			for i := range at {
				at[i] = b.positions[i%len(b.positions)]
			}
			return rate(reads, func() error { return limits.ReadAt(b.log(), store.DefaultSegmentSize, len(rec), at) })
		})})
	e.Setup = func(dir string) (func() error, error) {
		end, err := b.setup(dir)
		if err != nil {
			return nil, err
		}
		_, err = b.s.Scan(b.queue(), 0, message.Limit{Count: b.n, Bytes: 1 << 40}, nil, func(r *message.Record) error {
			b.positions = append(b.positions, r.Position())
			return nil
		})
		if err != nil {
			return nil, errors.Join(err, end())
		}
		rand.Shuffle(len(b.positions), func(i, j int) { b.positions[i], b.positions[j] = b.positions[j], b.positions[i] })
		return end, nil
	}
	return e
}
