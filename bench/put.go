package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/embermq/embermq/bench/limits"
	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

const batch = 100

// withStore opens a store in the turn's folder, with the topic that messages go
// to, and closes it behind f.
func withStore(dir string, f func(s *store.Store) (float64, error), opts ...store.Option) (v float64, err error) {
	s, err := store.Open(filepath.Join(dir, "store"), opts...)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := s.Put(context.Background(), measure.Message("orders", 100)); err != nil {
		return 0, err
	}
	return f(s)
}

// raw are the limits of the machine that no other row shows.
func raw(w work) ([]measure.Experiment, error) {
	const size = 1 << 10
	rec, err := measure.Record(size)
	if err != nil {
		return nil, err
	}
	return []measure.Experiment{row("raw/fdatasync/1KiB", "syncs/s", measure.Subject{Name: fdatasync, Run: one(func(t measure.Turn) (float64, error) {
		return synced(t, rec)
	})})}, nil
}

func puts(w work) (es []measure.Experiment, err error) {
	for _, r := range w.puts {
		e, err := r.single()
		if err != nil {
			return nil, err
		}
		es = append(es, e)
	}
	for _, r := range w.batches {
		e, err := r.batched()
		if err != nil {
			return nil, err
		}
		es = append(es, e)
	}
	return es, nil
}

func (r putRow) name(kind string) string {
	return fmt.Sprintf("%s/%s/%dp/%s", kind, measure.Size(r.size), r.producers, strings.ToLower(r.durability.String()))
}

func (r putRow) single() (measure.Experiment, error) {
	rec, err := measure.Record(r.size)
	if err != nil {
		return measure.Experiment{}, err
	}
	limit := measure.Subject{Name: pwrite, Run: one(func(t measure.Turn) (float64, error) {
		return written(t, len(rec), func(l *limits.Log) error { return l.Write(rec) })
	})}
	if r.durability == message.OnDisk {
		limit = measure.Subject{Name: ideal, Run: one(func(t measure.Turn) (float64, error) { return committed(t, r.producers, rec) })}
	}
	return row(r.name("put"), "msg/s", measure.Subject{Name: ember, RatioTo: limit.Name, Run: one(func(t measure.Turn) (float64, error) {
		return withStore(t.Dir, func(s *store.Store) (float64, error) {
			return measure.Produce(r.producers, t.For, t.Bytes/int64(len(rec)), func(int) (func() error, error) { return putter(s, r.size), nil })
		}, store.WithDurability(r.durability))
	})}, limit), nil
}

func (r putRow) batched() (measure.Experiment, error) {
	rec, err := measure.Record(r.size)
	if err != nil {
		return measure.Experiment{}, err
	}
	times := func(v float64, err error) (float64, error) { return batch * v, err }
	limit := measure.Subject{Name: gathered, Run: one(func(t measure.Turn) (float64, error) {
		return times(written(t, batch*len(rec), func(l *limits.Log) error { return l.Gather(rec, r.size, batch) }))
	})}
	if r.durability == message.OnDisk {
		all := make([]byte, 0, batch*len(rec))
		for range batch {
			all = append(all, rec...)
		}
		limit = measure.Subject{Name: ideal, Run: one(func(t measure.Turn) (float64, error) { return times(committed(t, r.producers, all)) })}
	}
	return row(r.name("batch100"), "msg/s", measure.Subject{Name: ember, RatioTo: limit.Name, Run: one(func(t measure.Turn) (float64, error) {
		return withStore(t.Dir, func(s *store.Store) (float64, error) {
			return times(measure.Produce(r.producers, t.For, t.Bytes/int64(batch*len(rec)), func(int) (func() error, error) { return batcher(s, r.size, batch), nil }))
		}, store.WithDurability(r.durability))
	})}, limit), nil
}

// putter puts single messages from one goroutine.
func putter(s *store.Store, size int) func() error {
	m, ctx := measure.Message("orders", size), context.Background()
	return func() error { _, err := s.Put(ctx, m); return err }
}

// batcher puts batches of n from one goroutine.
func batcher(s *store.Store, size, n int) func() error {
	m, ctx := measure.Message("orders", size), context.Background()
	ms := make([]*message.Message, n)
	for i := range ms {
		ms[i] = m
	}
	return func() error { _, err := s.PutBatch(ctx, ms); return err }
}

// fill puts n messages into queue 0 of a topic.
func fill(s *store.Store, topic string, size, n int) error {
	m, ms := measure.Message(topic, size), make([]*message.Message, 0, 1000)
	for n > 0 {
		ms = ms[:0]
		for range min(n, cap(ms)) {
			ms = append(ms, m)
		}
		if _, err := s.PutBatch(context.Background(), ms); err != nil {
			return err
		}
		n -= len(ms)
	}
	return nil
}

// written is how many writes of a size a log without a store takes a second.
func written(t measure.Turn, size int, write func(*limits.Log) error) (v float64, err error) {
	l, err := limits.NewLog(filepath.Join(t.Dir, "raw"), false)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return measure.Produce(1, t.For, t.Bytes/int64(size), func(int) (func() error, error) {
		return func() error { return write(l) }, nil
	})
}

// committed is how many appends of an ideal group commit return a second.
func committed(t measure.Turn, producers int, p []byte) (v float64, err error) {
	c, err := limits.NewCommit(filepath.Join(t.Dir, "raw"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return measure.Produce(producers, t.For, t.Bytes/int64(len(p)), func(int) (func() error, error) {
		a := c.Appender()
		return func() error { return a(p) }, nil
	})
}

// synced is how many writes with a sync each a log of written zeros takes a second.
func synced(t measure.Turn, p []byte) (v float64, err error) {
	l, err := limits.NewLog(filepath.Join(t.Dir, "raw"), true)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return measure.Produce(1, t.For, t.Bytes/int64(len(p)), func(int) (func() error, error) {
		return func() error { return errors.Join(l.Write(p), l.Sync()) }, nil
	})
}
