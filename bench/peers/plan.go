package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/message"
)

// work says which rows a run has.
type work struct {
	sizes     []int
	producers []int
	drain     int // messages
	java      bool
}

func workOf(s measure.Scale) work {
	if s == measure.Quick {
		return work{sizes: []int{1 << 10}, producers: []int{1, 64}, drain: 20_000}
	}
	return work{sizes: []int{100, 1 << 10}, producers: []int{1, 8, 64}, drain: 200_000, java: true}
}

const batch = 100

func experiments(ctx context.Context, w work) (es []measure.Experiment, err error) {
	var rocket *rocketMQ
	if w.java {
		if rocket, err = findRocketMQ(ctx); err != nil {
			return nil, err
		}
	}
	for _, d := range []message.Durability{message.InCache, message.OnDisk} {
		for _, size := range w.sizes {
			for _, producers := range w.producers {
				es = append(es, putRow(rocket, d, size, producers, 1))
			}
			es = append(es, putRow(rocket, d, size, 1, batch))
		}
	}
	for _, size := range w.sizes {
		es = append(es, drainRow(rocket, size, w.drain))
	}
	return append(es, rocket.rows()...), nil
}

// putRow is one way of putting, for all libraries with one promise.
func putRow(rocket *rocketMQ, d message.Durability, size, producers, n int) measure.Experiment {
	kind := "put"
	if n > 1 {
		kind = fmt.Sprint("batch", n)
	}
	e := measure.Experiment{Metrics: []measure.Metric{{
		Workload: fmt.Sprintf("%s/%s/%dp/%s", kind, measure.Size(size), producers, strings.ToLower(d.String())), Unit: "msg/s",
	}}}
	for _, l := range libraries() {
		if l.promise != d || n > 1 && !l.batches {
			continue
		}
		e.Subjects = append(e.Subjects, subjectOf(l.name, func(t measure.Turn) (float64, error) {
			return within(l, t.Dir, func(p peer) (float64, error) { return put(t, p, size, producers, n) })
		}))
	}
	if rocket != nil {
		e.Subjects = append(e.Subjects, rocket.put(d, size, producers, n))
	}
	return e
}

// subjectOf compares everybody with EmberMQ: a ratio below 1 is slower than it.
func subjectOf(name string, f func(t measure.Turn) (float64, error)) measure.Subject {
	s := measure.Subject{Name: name, RatioTo: ember, Run: func(t measure.Turn) ([]float64, error) {
		v, err := f(t)
		return []float64{v}, err
	}}
	if name == ember {
		s.RatioTo = ""
	}
	return s
}

// within opens a library, puts one message, so that what is made at the first one
// is there, and closes it behind f.
func within(l library, dir string, f func(p peer) (float64, error)) (v float64, err error) {
	p, err := l.open(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	first, err := p.putter()
	if err != nil {
		return 0, err
	}
	if err := first(make([]byte, 100)); err != nil {
		return 0, err
	}
	return f(p)
}

func put(t measure.Turn, p peer, size, producers, n int) (float64, error) {
	bodies := slices.Repeat([][]byte{make([]byte, size)}, n)
	perSecond, err := measure.Produce(producers, t.For, t.Bytes/int64(size*n), func(int) (func() error, error) {
		put, err := p.putter()
		return func() error { return put(bodies...) }, err
	})
	return perSecond * float64(n), err
}

// drainRow fills each library, for at most ten turns, and reads what it holds for
// one. Each has the weaker of its promises: draining is about reading.
func drainRow(rocket *rocketMQ, size, n int) measure.Experiment {
	e := measure.Experiment{Metrics: []measure.Metric{{Workload: "drain/" + measure.Size(size), Unit: "msg/s"}}}
	seen := make(map[string]bool)
	for _, l := range libraries() {
		base, _, _ := strings.Cut(strings.TrimSuffix(l.name, " SyncAlways"), " (")
		if seen[base] {
			continue
		}
		seen[base] = true
		e.Subjects = append(e.Subjects, subjectOf(l.name, func(t measure.Turn) (float64, error) {
			return within(l, t.Dir, func(p peer) (float64, error) { return drain(t, p, size, n) })
		}))
	}
	if rocket != nil {
		e.Subjects = append(e.Subjects, rocket.drain(size, n))
	}
	return e
}

func drain(t measure.Turn, p peer, size, n int) (float64, error) {
	fill, err := p.putter()
	if err != nil {
		return 0, err
	}
	bodies := slices.Repeat([][]byte{make([]byte, size)}, 1000)
	have := 1
	for begun := time.Now(); have < n && time.Since(begun) < 10*t.For; have += len(bodies) {
		if err := fill(bodies...); err != nil {
			return 0, err
		}
	}
	var stop atomic.Bool
	timer := time.AfterFunc(4*t.For, func() { stop.Store(true) })
	defer timer.Stop()
	begun := time.Now()
	read, err := p.drain(have, &stop)
	if err == nil && read == 0 {
		err = errors.New("nothing was read")
	}
	return float64(read) / time.Since(begun).Seconds(), err
}
