package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// indexes compares puts with and without the key index.
func indexes(w work) (es []measure.Experiment, err error) {
	const without = "no index"
	for _, size := range w.indexed {
		put := func(opts ...store.Option) func(t measure.Turn) ([]float64, error) {
			return one(func(t measure.Turn) (float64, error) {
				return withStore(t.Dir, func(s *store.Store) (float64, error) {
					return measure.Produce(1, t.For, t.Bytes/int64(size), func(int) (func() error, error) { return putter(s, size), nil })
				}, append(opts, store.WithDurability(message.InCache))...)
			})
		}
		es = append(es, row("index/"+measure.Size(size), "msg/s",
			measure.Subject{Name: ember, RatioTo: without, Run: put()},
			measure.Subject{Name: without, Run: put(store.WithoutIndex())}))
	}
	return es, nil
}

// dedupes compares puts of new idempotency keys with and without a window of keys.
func dedupes(w work) ([]measure.Experiment, error) {
	if w.dedupe == 0 {
		return nil, nil
	}
	const without = "no window"
	put := func(opts ...store.Option) func(t measure.Turn) ([]float64, error) {
		return one(func(t measure.Turn) (float64, error) {
			return withStore(t.Dir, func(s *store.Store) (float64, error) {
				return measure.Produce(1, t.For, t.Bytes/1024, func(int) (func() error, error) {
					m, ctx, n := measure.Message("orders", 1<<10), context.Background(), 0
					return func() error {
						n++
						m.IdempotencyKey = strconv.Itoa(n)
						_, err := s.Put(ctx, m)
						return err
					}, nil
				})
			}, append(opts, store.WithDurability(message.InCache))...)
		})
	}
	return []measure.Experiment{row("dedupe/1KiB", "msg/s",
		measure.Subject{Name: ember, RatioTo: without, Run: put(store.WithDedupe(time.Hour, w.dedupe))},
		measure.Subject{Name: without, Run: put()})}, nil
}

// timers are messages that are due within a second, and how late they are seen.
func timers(w work) ([]measure.Experiment, error) {
	if w.timers == 0 {
		return nil, nil
	}
	const now = "no delay"
	put := func(delay time.Duration) func(t measure.Turn) ([]float64, error) {
		return one(func(t measure.Turn) (float64, error) {
			return withStore(t.Dir, func(s *store.Store) (float64, error) {
				return measure.Produce(1, t.For, t.Bytes/1024, func(int) (func() error, error) {
					m, ctx := measure.Message("orders", 1<<10), context.Background()
					m.Delay = delay
					return func() error { _, err := s.Put(ctx, m); return err }, nil
				})
			}, store.WithDurability(message.InCache))
		})
	}
	late := measure.Experiment{
		Metrics: []measure.Metric{{Workload: "timers/late/p50", Unit: "ms"}, {Workload: "timers/late/p99", Unit: "ms"}},
		Subjects: []measure.Subject{{Name: ember, Run: func(t measure.Turn) ([]float64, error) {
			l := measure.NewLatencies()
			_, err := withStore(t.Dir, func(s *store.Store) (float64, error) { return 0, fire(s, w.timers, l) }, store.WithDurability(message.InCache))
			return []float64{l.Micros(50) / 1e3, l.Micros(99) / 1e3}, err
		}}},
	}
	return []measure.Experiment{
		row("timers/put/1KiB", "msg/s", measure.Subject{Name: ember, RatioTo: now, Run: put(time.Hour)}, measure.Subject{Name: now, Run: put(0)}), late,
	}, nil
}

// fire puts n messages that become due one after the other within a second, and
// measures how late a reader has them.
func fire(s *store.Store, n int, l *measure.Latencies) error {
	const topic = "later"
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.CreateTopic(ctx, store.Topic{Name: topic}); err != nil {
		return err
	}
	begin := time.Now().Add(time.Second)
	ms := make([]*message.Message, 0, 1000)
	for i := range n {
		m := measure.Message(topic, 100)
		m.DeliverAt = begin.Add(time.Second * time.Duration(i) / time.Duration(n))
		if ms = append(ms, m); len(ms) == cap(ms) || i == n-1 {
			if _, err := s.PutBatch(ctx, ms); err != nil {
				return err
			}
			ms = ms[:0]
		}
	}
	seen := 0
	for r, err := range s.Follow(ctx, message.Queue{Topic: topic}, 0, nil) {
		if err != nil {
			return err
		}
		due := begin.Add(time.Second * time.Duration(seen) / time.Duration(n))
		l.Add(time.Since(due.Truncate(time.Millisecond)))
		if seen++; seen == n {
			break
		}
		_ = r
	}
	return nil
}

// transactions compares prepare and commit with a put of the same durability.
func transactions(w work) (es []measure.Experiment, err error) {
	const put = "put"
	for _, producers := range w.transactions {
		run := func(start func(s *store.Store) func() error) func(t measure.Turn) ([]float64, error) {
			return one(func(t measure.Turn) (float64, error) {
				return withStore(t.Dir, func(s *store.Store) (float64, error) {
					return measure.Produce(producers, t.For, t.Bytes/2048, func(int) (func() error, error) { return start(s), nil })
				})
			})
		}
		es = append(es, row(fmt.Sprintf("transactions/1KiB/%dp/ondisk", producers), "msg/s",
			measure.Subject{Name: ember, RatioTo: put, Run: run(transact)},
			measure.Subject{Name: put, Run: run(func(s *store.Store) func() error { return putter(s, 1<<10) })}))
	}
	return es, nil
}

func transact(s *store.Store) func() error {
	m, ctx := measure.Message("orders", 1<<10), context.Background()
	return func() error {
		_, id, err := s.Halves().Prepare(ctx, m, "bank", message.HalfOptions{})
		if err == nil {
			_, _, err = s.Halves().Commit(ctx, id)
		}
		return err
	}
}

// consumers has so many readers follow one producer; the figure is how many
// messages a second all of them have.
func consumers(w work) (es []measure.Experiment, err error) {
	const alone = "no consumer"
	put := func(readers int) func(t measure.Turn) ([]float64, error) {
		return one(func(t measure.Turn) (float64, error) {
			return withStore(t.Dir, func(s *store.Store) (float64, error) { return followed(s, t, readers) }, store.WithDurability(message.InCache))
		})
	}
	for _, n := range w.consumers {
		es = append(es, row(fmt.Sprint("consumers/", n), "msg/s",
			measure.Subject{Name: ember, RatioTo: alone, Run: put(n)}, measure.Subject{Name: alone, Run: put(0)}))
	}
	return es, nil
}

// followed puts messages until the time is over, and waits until every reader has
// them.
func followed(s *store.Store, t measure.Turn, readers int) (float64, error) {
	q := message.Queue{Topic: "orders"}
	_, from, err := s.Bounds(q)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), t.For+time.Minute)
	defer cancel()
	errs := make(chan error, readers)
	last := make([]chan int64, readers)
	for i := range last {
		last[i] = make(chan int64, 1)
		go func() {
			w := s.Watch(nil, q)
			defer w.Close()
			errs <- follow(ctx, s, w, q, from, last[i], func(*message.Record) error { return nil })
		}()
	}
	t0 := time.Now()
	if _, err := measure.Produce(1, t.For, t.Bytes/1024, func(int) (func() error, error) { return putter(s, 1<<10), nil }); err != nil {
		return 0, err
	}
	_, end, err := s.Bounds(q)
	if err != nil {
		return 0, err
	}
	for _, c := range last {
		c <- end
	}
	if err := putter(s, 1)(); err != nil { // wakes those who wait
		return 0, err
	}
	for range readers {
		if err := <-errs; err != nil {
			return 0, err
		}
	}
	return float64(end-from) / time.Since(t0).Seconds(), nil
}
