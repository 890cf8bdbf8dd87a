// Onewaylog writes an application's log lines into a store: a slog.Handler sends
// each line one way, so that logging never waits for a disk and never fails its
// caller. The program logs from several goroutines, closes the producer, and checks that
// every line that was taken is there, that those of one goroutine are in order,
// and that what was not taken was counted. The exit code is 1 if not.
//
//	go run ./examples/onewaylog
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

const (
	topic   = "logs"
	writers = 4
	lines   = 5000 // of each writer
	// patience bounds the whole run, so that a hanging one fails.
	patience = time.Minute
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "onewaylog:", err)
		os.Exit(1)
	}
}

// sink is an io.Writer whose lines go into the store.
type sink struct {
	p       *producer.Producer
	key     string
	dropped *atomic.Int64
}

// Write sends a line. A logger must not stop its program: what is not taken is
// counted.
func (s sink) Write(line []byte) (int, error) {
	err := s.p.SendOneWay(&message.Message{Topic: topic, ShardingKey: s.key, Body: bytes.Clone(line), Durability: message.InCache})
	if err != nil {
		s.dropped.Add(1)
	}
	return len(line), nil
}

func run() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dir, err := os.MkdirTemp("", "embermq-onewaylog-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir, store.WithDurability(message.InCache))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	// Full? Then lines are dropped, and counted, instead of waited for.
	p := producer.New(s, producer.WithRefusal())
	var dropped atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for w := range writers {
		wg.Go(func() {
			log := slog.New(slog.NewJSONHandler(sink{p, fmt.Sprint("writer-", w), &dropped}, nil))
			for n := range lines {
				log.Info("served", "writer", w, "line", n)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := p.Close(ctx); err != nil {
		return err
	}
	st := p.Stats()
	stored, disorder, err := survey(ctx, s)
	if err != nil {
		return err
	}
	fmt.Printf("%d lines in %v (%v each): %d stored, %d not taken, %d lost, %d out of order\n", writers*lines,
		took.Round(time.Millisecond), took/(writers*lines), stored, dropped.Load(), st.Lost, disorder)
	switch {
	case int64(stored)+dropped.Load()+st.Lost != writers*lines:
		return fmt.Errorf("lines are neither stored nor counted")
	case st.Lost > 0:
		return fmt.Errorf("%d lines were taken and lost", st.Lost)
	case disorder > 0:
		return fmt.Errorf("%d lines are out of order", disorder)
	case stored == 0:
		return fmt.Errorf("nothing was stored")
	}
	return nil
}

// survey reads all lines.
func survey(ctx context.Context, s *store.Store) (stored, disorder int, err error) {
	n, err := s.QueueCount(topic)
	if err != nil {
		return 0, 0, err
	}
	last := make(map[int]int)
	for id := range int32(n) {
		q := message.Queue{Topic: topic, ID: id}
		for at := int64(0); ; {
			b, err := s.Read(ctx, q, at, message.Limit{Count: 1000}, nil)
			if err != nil {
				return 0, 0, err
			}
			if len(b.Records) == 0 {
				break
			}
			for i := range b.Records {
				var w, l int
				body := b.Records[i].Body()
				if _, err := fmt.Sscanf(string(body[bytes.Index(body, []byte(`"writer"`)):]), `"writer":%d,"line":%d}`, &w, &l); err != nil {
					return 0, 0, fmt.Errorf("a line reads %q: %w", body, err)
				}
				if before, ok := last[w]; ok && before >= l {
					disorder++
				}
				last[w] = l
				stored++
			}
			at = b.Next
		}
	}
	return stored, disorder, nil
}
