package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/embermq/embermq/bench/limits"
	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// percentiles of a latency, as workloads name them.
var percentiles = []struct {
	name string
	at   float64
}{{"p50", 50}, {"p99", 99}, {"p999", 99.9}}

// latencies go from when a put was due at a fixed rate to when a reader that
// waits has the message.
func latencies(w work) (es []measure.Experiment, err error) {
	const wake = "pwrite+wake"
	rec, err := measure.Record(1 << 10)
	if err != nil {
		return nil, err
	}
	for _, perSecond := range w.rates {
		name := fmt.Sprint("latency/", perSecond)
		if perSecond%1000 == 0 {
			name = fmt.Sprintf("latency/%dk", perSecond/1000)
		}
		e := measure.Experiment{Subjects: []measure.Subject{
			{Name: ember, RatioTo: wake, Run: func(t measure.Turn) ([]float64, error) {
				l := measure.NewLatencies()
				_, err := withStore(t.Dir, func(s *store.Store) (float64, error) { return 0, paced(s, perSecond, w.paced, l) }, store.WithDurability(message.InCache))
				return at(l), err
			}},
			{Name: wake, Run: func(t measure.Turn) ([]float64, error) { return pacedWake(t, rec, perSecond, w.paced) }},
		}}
		for _, p := range percentiles {
			e.Metrics = append(e.Metrics, measure.Metric{Workload: name + "/" + p.name, Unit: "us"})
		}
		es = append(es, e)
	}
	return es, nil
}

func at(l *measure.Latencies) (vs []float64) {
	for _, p := range percentiles {
		vs = append(vs, l.Micros(p.at))
	}
	return vs
}

// paced puts at a fixed rate while a reader, woken by a watch, scans.
func paced(s *store.Store, perSecond int, d time.Duration, l *measure.Latencies) (err error) {
	q := message.Queue{Topic: "orders"}
	_, from, err := s.Bounds(q)
	if err != nil {
		return err
	}
	w := s.Watch(nil, q)
	defer w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), d+time.Minute)
	defer cancel()
	last := make(chan int64, 1) // the offset behind the last message, once it is known
	read := make(chan error, 1)
	zero := time.Now()
	lend := func(r *message.Record) error {
		l.Add(time.Since(zero) - time.Duration(binary.LittleEndian.Uint64(r.Body())))
		return nil
	}
	go func() { read <- follow(ctx, s, w, q, from, last, lend) }()
	m := measure.Message(q.Topic, 1<<10)
	n, err := measure.Pace(perSecond, d, func(due time.Time) error {
		binary.LittleEndian.PutUint64(m.Body, uint64(due.Sub(zero)))
		_, err := s.Put(ctx, m)
		return err
	})
	if err != nil {
		cancel()
		return errors.Join(err, <-read)
	}
	last <- from + int64(n)
	if _, err := s.Put(ctx, measure.Message(q.Topic, 1<<10)); err != nil { // wakes the reader, who does not count it
		cancel()
		return errors.Join(err, <-read)
	}
	return <-read
}

// follow scans whenever the watch tells, until it has seen the last message.
func follow(ctx context.Context, s *store.Store, w message.Watch, q message.Queue, from int64, last <-chan int64, lend func(*message.Record) error) error {
	end := int64(-1)
	for {
		if _, err := w.Next(ctx); err != nil {
			return err
		}
		for more := true; more; {
			select {
			case end = <-last:
			default:
			}
			count := 500
			if end >= 0 {
				count = min(count, int(end-from))
			}
			if count <= 0 {
				return nil
			}
			next, err := s.Scan(q, from, message.Limit{Count: count}, nil, lend)
			if err != nil {
				return err
			}
			more, from = next > from, next
		}
	}
}

// pacedWake is the same with a bare log.
func pacedWake(t measure.Turn, rec []byte, perSecond int, d time.Duration) (vs []float64, err error) {
	w, err := limits.NewWake(filepath.Join(t.Dir, "raw"), rec)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	l := measure.NewLatencies()
	read := make(chan struct{})
	n := int64(max(d/(time.Second/time.Duration(perSecond)), 1))
	go func() {
		defer close(read)
		w.Read(n, func(due time.Time) { l.Add(time.Since(due)) })
	}()
	if _, err := measure.Pace(perSecond, d, w.Write); err != nil {
		return nil, err // the reader is left behind; the program ends
	}
	<-read
	return at(l), nil
}
