package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func (a *app) bench() *cobra.Command {
	var length time.Duration
	var size int
	c := &cobra.Command{
		Use: "bench", GroupID: "files", Args: cobra.NoArgs,
		Short: "Measure puts and reads on the disk that holds the directory",
		Long: `Measure puts and reads on the disk that holds the directory, in a folder beside it that is
removed afterwards. Each row takes as long as --for says. OnDisk is a put that waits for the
disk, InCache one that waits for the kernel; times are those of one put.`,
		Example: `  embermq bench --for 20ms --size 100`,
		RunE: func(c *cobra.Command, _ []string) error {
			if length <= 0 || size < 0 || size > 1<<20 {
				return badUsage("--for must be positive and --size between 0 and 1 MiB")
			}
			at, err := filepath.Abs(a.dir)
			if err != nil {
				return err
			}
			dir, err := os.MkdirTemp(filepath.Dir(at), ".embermq-bench-*")
			if err != nil {
				return err
			}
			err = a.measured(c.Context(), dir, length, size)
			return errors.Join(err, os.RemoveAll(dir))
		},
	}
	c.Flags().DurationVar(&length, "for", 2*time.Second, "how long each row takes")
	c.Flags().IntVar(&size, "size", 1024, "bytes of each body")
	return c
}

func (a *app) measured(ctx context.Context, dir string, length time.Duration, size int) error {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	err = a.rows(func(yield func(row, error) bool) {
		for _, m := range []putting{
			{"put OnDisk", message.OnDisk, 1}, {"put OnDisk", message.OnDisk, 16}, {"put OnDisk", message.OnDisk, 64},
			{"put InCache", message.InCache, 1}, {"put InCache", message.InCache, 16},
		} {
			r, err := m.run(ctx, s, length, size)
			if !yield(r, err) || err != nil {
				return
			}
		}
		yield(drain(ctx, s, length))
	})
	return errors.Join(err, s.Close())
}

// benchTopic is where the measured messages go: one queue for each producer.
const benchTopic = "bench"

// putting is one row: producers that put one message after the other.
type putting struct {
	name      string
	how       message.Durability
	producers int
}

func (p putting) run(ctx context.Context, s *store.Store, length time.Duration, size int) (row, error) {
	if err := s.CreateTopic(ctx, store.Topic{Name: benchTopic, ReadQueues: 64, WriteQueues: 64}); err != nil && !errors.Is(err, store.ErrExists) {
		return nil, err
	}
	var wg sync.WaitGroup
	took := make([][]time.Duration, p.producers)
	errs := make([]error, p.producers)
	begun := time.Now()
	for i := range p.producers {
		wg.Go(func() {
			m := &message.Message{Topic: benchTopic, QueueID: int32(i), Body: make([]byte, size), Durability: p.how}
			for last := time.Now(); last.Sub(begun) < length && ctx.Err() == nil; {
				if _, errs[i] = s.Put(ctx, m); errs[i] != nil {
					return
				}
				now := time.Now()
				took[i] = append(took[i], now.Sub(last))
				last = now
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(begun)
	all := slices.Concat(took...)
	slices.Sort(all)
	return benchRow(p.name, p.producers, len(all), int64(len(all)*size), elapsed, all), errors.Join(append(errs, ctx.Err())...)
}

// drain reads what was put, from the first message on.
func drain(ctx context.Context, s *store.Store, length time.Duration) (row, error) {
	n, bytes := 0, int64(0)
	begun := time.Now()
	for id := range int32(64) {
		q := message.Queue{Topic: benchTopic, ID: id}
		at, end, err := s.Bounds(q)
		if err != nil {
			return nil, err
		}
		for at < end && time.Since(begun) < length {
			b, err := s.Read(ctx, q, at, message.Limit{Count: 256}, nil)
			if err != nil {
				return nil, err
			}
			for i := range b.Records {
				bytes += int64(len(b.Records[i].Body()))
			}
			n += len(b.Records)
			at = b.Next
		}
	}
	return benchRow("drain", 1, n, bytes, time.Since(begun), nil), nil
}

func benchRow(name string, producers, n int, bytes int64, took time.Duration, sorted []time.Duration) row {
	at := func(share float64) any {
		if len(sorted) == 0 {
			return nil
		}
		return sorted[int(share*float64(len(sorted)-1))].Round(100 * time.Nanosecond)
	}
	return row{{"what", name}, {"goroutines", producers}, {"messages", n}, {"per second", int64(float64(n) / took.Seconds())},
		{"MB/s", int64(float64(bytes) / took.Seconds() / 1e6)}, {"p50", at(.5)}, {"p99", at(.99)}, {"worst", at(1)}}
}
