package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// spread is how puts are spread over queues.
type spread struct {
	queues int
	zipf   bool
}

// queues compares puts to many queues with puts to one, over checkpoints: that
// is where many queues cost.
func queues(w work) (es []measure.Experiment, err error) {
	const single = "one queue"
	add := func(name string, sp spread) {
		e := row(name, "msg/s", measure.Subject{Name: ember, RatioTo: single, Run: one(func(t measure.Turn) (float64, error) { return w.spread(t, sp) })})
		if sp.queues > 1 {
			e.Subjects = append(e.Subjects, measure.Subject{Name: single, Run: one(func(t measure.Turn) (float64, error) { return w.spread(t, spread{queues: 1}) })})
		} else {
			e.Subjects[0].RatioTo = ""
		}
		es = append(es, e)
	}
	for _, n := range w.queues {
		add(fmt.Sprint("queues/", n), spread{queues: n})
	}
	if w.zipf > 0 {
		add(fmt.Sprintf("queues/%d/zipf", w.zipf), spread{w.zipf, true})
	}
	return es, nil
}

func (w work) spread(t measure.Turn, sp spread) (float64, error) {
	return withStore(t.Dir, func(s *store.Store) (float64, error) {
		ms, err := toQueues(s, sp.queues, 1<<10)
		if err != nil {
			return 0, err
		}
		next := func(n int) int { return n % len(ms) }
		if sp.zipf {
			z := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, uint64(len(ms)-1))
			next = func(int) int { return int(z.Uint64()) }
		}
		before := s.Stats().Checkpoints
		n := 0
		t0 := time.Now()
		for time.Since(t0) < w.queuesFor || s.Stats().Checkpoints < before+w.checkpoints {
			for range 1000 {
				if _, err := s.Put(context.Background(), ms[next(n)]); err != nil {
					return 0, err
				}
				n++
			}
		}
		return float64(n) / time.Since(t0).Seconds(), nil
	}, store.WithDurability(message.InCache))
}

// toQueues makes so many queues, each with a message in it, and returns a message
// for each.
func toQueues(s *store.Store, queues, size int) ([]*message.Message, error) {
	const topics = 10
	ms := make([]*message.Message, queues)
	for i := range ms {
		topic := fmt.Sprint("topic-", i%topics)
		if i < topics {
			if err := s.CreateTopic(context.Background(), store.Topic{Name: topic, WriteQueues: (queues + topics - 1) / topics}); err != nil {
				return nil, err
			}
		}
		ms[i] = measure.Message(topic, size)
		ms[i].QueueID = int32(i / topics)
	}
	for at := 0; at < queues; at += 1000 {
		if _, err := s.PutBatch(context.Background(), ms[at:min(at+1000, queues)]); err != nil {
			return nil, err
		}
	}
	return ms, nil
}
