package main

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime/debug"

	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// backlogs compares a store that holds very many messages with an empty one:
// appending, reading what was just put, memory.
func backlogs(w work) ([]measure.Experiment, error) {
	if w.backlog == 0 {
		return nil, nil
	}
	const empty = "empty store"
	name := "backlog/" + fmt.Sprint(w.backlog)
	if w.backlog%1_000_000 == 0 {
		name = fmt.Sprintf("backlog/%dM", w.backlog/1_000_000)
	}
	var full string
	return []measure.Experiment{{
		Metrics: []measure.Metric{
			{Workload: name + "/append", Unit: "msg/s"}, {Workload: name + "/tail", Unit: "msg/s"}, {Workload: name + "/memory", Unit: "MiB"},
		},
		Setup: func(dir string) (func() error, error) {
			full = filepath.Join(dir, "store")
			s, err := store.Open(full, store.WithDurability(message.InCache))
			if err != nil {
				return nil, err
			}
			return func() error { return nil }, errors.Join(fill(s, "orders", 100, w.backlog), s.Close())
		},
		Subjects: []measure.Subject{
			{Name: ember, RatioTo: empty, Run: func(t measure.Turn) ([]float64, error) { return onBacklog(t, full) }},
			{Name: empty, Run: func(t measure.Turn) ([]float64, error) { return onBacklog(t, filepath.Join(t.Dir, "store")) }},
		},
	}}, nil
}

func onBacklog(t measure.Turn, dir string) (vs []float64, err error) {
	s, err := store.Open(dir, store.WithDurability(message.InCache))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	put := putter(s, 100)
	if err := put(); err != nil { // makes the topic
		return nil, err
	}
	appended, err := measure.Produce(1, t.For, t.Bytes/100, func(int) (func() error, error) { return put, nil })
	if err != nil {
		return nil, err
	}
	q := message.Queue{Topic: "orders"}
	_, from, err := s.Bounds(q)
	if err != nil {
		return nil, err
	}
	lend := func(*message.Record) error { return nil }
	tail, err := measure.Produce(1, t.For, t.Bytes/100, func(int) (func() error, error) {
		return func() error {
			if err := put(); err != nil {
				return err
			}
			from, err = s.Scan(q, from, message.Limit{}, nil, lend)
			return err
		}, nil
	})
	debug.FreeOSMemory()
	memory := math.NaN()
	if b, ok := measure.AnonymousBytes(); ok {
		memory = float64(b) / (1 << 20)
	}
	return []float64{appended, tail, memory}, err
}
