package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// What a torture puts: numbered messages, each producer into its own queue, so that
// number and offset are the same; and timers, which come out in another topic.
const (
	tortureTopic  = "torture"
	tortureLater  = "torture-later"
	tortureReader = "torture-reader" // commits, in the process that is killed
	tortureJudge  = "torture-judge"  // keeps what is not judged yet from retention
	tortureWorker = "torture-worker" // the command
)

const (
	tortureProducers = 4
	timerMost        = 2 * time.Second // the longest delay
)

// tortureOptions make segments roll and checkpoints and retention come often.
func tortureOptions() []store.Option {
	return []store.Option{
		store.WithSegmentSize(4 << 20), store.WithRetentionBytes(128 << 20), store.WithIndexSizes(1000, 20_000),
		store.WithCheckpoint(50*time.Millisecond, 1<<20), store.WithMaxUnsynced(1 << 20),
	}
}

// tortureBody is message n of a producer, one of those of a batch [first, first+count).
// Its length and its bytes follow from the numbers.
func tortureBody(producer int, n, first int64, count int) []byte {
	b := make([]byte, 24+(n*31+int64(producer))%1000)
	binary.BigEndian.PutUint64(b, uint64(n))
	binary.BigEndian.PutUint64(b[8:], uint64(first))
	binary.BigEndian.PutUint32(b[16:], uint32(count))
	binary.BigEndian.PutUint32(b[20:], uint32(producer))
	for i := 24; i < len(b); i++ {
		b[i] = byte(n) + byte(i)
	}
	return b
}

// parseTorture says which batch a message belongs to, and whether it is what was put
// at that offset.
func parseTorture(producer int, n int64, b []byte) (first int64, count int, ok bool) {
	if len(b) < 24 {
		return 0, 0, false
	}
	first, count = int64(binary.BigEndian.Uint64(b[8:])), int(binary.BigEndian.Uint32(b[16:]))
	return first, count, first <= n && n < first+int64(count) && bytes.Equal(b, tortureBody(producer, n, first, count))
}

// tortureWork is the process that is killed.
func (a *app) tortureWork() *cobra.Command {
	return &cobra.Command{
		Use: tortureWorker, Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := store.Open(a.dir, tortureOptions()...)
			if err != nil {
				return err
			}
			w := worker{s: s, out: a.out}
			return w.run(context.WithoutCancel(c.Context())) // an interrupt is the parent's
		},
	}
}

// worker says on out what was acknowledged, a line each:
//
//	put PRODUCER NEXT     all of the producer's messages below NEXT
//	timer ID              a timer
//	commit PRODUCER NEXT  an offset, which a sync has put on disk
//	error TEXT            what should not happen
type worker struct {
	s   *store.Store
	mu  sync.Mutex
	out interface{ Write([]byte) (int, error) }
}

// say writes one short line: the pipe takes it whole or, when the process is killed,
// not at all.
func (w *worker) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := fmt.Fprintf(w.out, format+"\n", args...); err != nil {
		os.Exit(1) // nobody listens any more
	}
}

func (w *worker) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for p := range tortureProducers {
		wg.Go(func() {
			w.say("error producer %d: %v", p, w.produce(ctx, p)) // it ends by a kill alone
		})
		wg.Go(func() {
			if err := w.consume(ctx, p); err != nil {
				w.say("error consumer %d: %v", p, err)
			}
		})
	}
	wg.Wait()
	return w.s.Close()
}

// produce puts single messages and batches, some of them on disk and some in the
// cache, and now and then a timer.
func (w *worker) produce(ctx context.Context, p int) error {
	q := message.Queue{Topic: tortureTopic, ID: int32(p)}
	_, next, err := w.s.Bounds(q)
	for err == nil {
		count := 1
		if rand.IntN(8) == 0 {
			count = 2 + rand.IntN(30)
		}
		how := message.OnDisk
		if rand.IntN(3) == 0 {
			how = message.InCache
		}
		ms := make([]*message.Message, count)
		for i := range ms {
			n := next + int64(i)
			ms[i] = &message.Message{Topic: q.Topic, QueueID: q.ID, Keys: []string{strconv.FormatInt(n, 10)}, Durability: how,
				Body: tortureBody(p, n, next, count)}
		}
		if _, err = w.s.PutBatch(ctx, ms); err != nil {
			break
		}
		next += int64(count)
		w.say("put %d %d", p, next)
		if rand.IntN(64) == 0 {
			err = w.timer(ctx)
		}
	}
	return err
}

func (w *worker) timer(ctx context.Context) error {
	id := strconv.FormatUint(rand.Uint64(), 36)
	delay := time.Duration(1 + rand.Int64N(int64(timerMost)))
	_, err := w.s.Put(ctx, &message.Message{Topic: tortureLater, UniqueID: id, Delay: delay, Body: []byte(id)})
	if err == nil {
		w.say("timer %s", id)
	}
	return err
}

// consume follows a queue and commits as it goes.
func (w *worker) consume(ctx context.Context, p int) error {
	q := message.Queue{Topic: tortureTopic, ID: int32(p)}
	from, _, err := w.s.Committed(ctx, tortureReader, q)
	if err != nil {
		return err
	}
	start, _, err := w.s.Bounds(q)
	if err != nil {
		return err
	}
	for r, err := range w.s.Follow(ctx, q, max(from, start), nil) {
		if err != nil {
			return err
		}
		n := r.Offset()
		if _, _, ok := parseTorture(p, n, r.Body()); !ok {
			return fmt.Errorf("%s has another message at offset %d", q, n)
		}
		if n%32 != 0 {
			continue
		}
		if err := w.s.Commit(ctx, tortureReader, map[message.Queue]int64{q: n + 1}); err != nil {
			return err
		}
		if n%1024 == 0 {
			if err := w.s.Sync(ctx); err != nil {
				return err
			}
			w.say("commit %d %d", p, n+1)
		}
	}
	return nil
}
