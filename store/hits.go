package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/message"
)

// HitState says whether consumers can see what a query found.
type HitState uint8

// The states of a hit.
const (
	HitVisible    HitState = iota // in its queue
	HitWaiting                    // delayed: delivered at Hit.Due
	HitHalf                       // of a transaction without a verdict, or given up
	HitRolledBack                 // of a transaction that was rolled back
)

func (h HitState) String() string {
	names := [...]string{"visible", "waiting", "half", "rolled back"}
	if int(h) < len(names) {
		return names[h]
	}
	return fmt.Sprintf("HitState(%d)", uint8(h))
}

// Hit is a message that a query found, whatever has become of it.
type Hit struct {
	Record *message.Record // as it lies in the log; one that is not visible in a system topic
	Queue  message.Queue   // where it was put
	State  HitState
	Due    time.Time // of a waiting one
}

// FindAll is Find for all messages that were put to q.Topic, also those that wait
// for their time and those of transactions that were not committed: newest first by
// when they were put or delivered. A message is yielded once, in its present state.
//
// A verdict is known as long as WithTransactions remembers it; a message that was
// rolled back before that is not found any more. A store that is open for reading
// only finds what is visible.
func (s *Store) FindAll(ctx context.Context, q index.Query) iter.Seq2[Hit, error] {
	return func(yield func(Hit, error) bool) {
		hits, err := s.allHits(ctx, q)
		if err != nil {
			yield(Hit{}, err)
			return
		}
		for _, h := range hits[:min(s.findLimit(q.Limit), len(hits))] {
			if !yield(h, nil) {
				return
			}
		}
	}
}

func (s *Store) allHits(ctx context.Context, q index.Query) (hits []Hit, err error) {
	if q.Topic == "" {
		return nil, &InvalidError{Field: "Query", Reason: "topic and key must not be empty"}
	}
	finder := hitFinder{s: s, q: q, rolledBack: make(map[message.HalfID]bool)}
	for _, in := range []struct {
		topic string
		judge func(r *message.Record) (h Hit, ok bool, err error)
	}{
		{q.Topic, finder.visible},
		{message.TopicSchedule, finder.waiting},
		{message.TopicTimer, finder.waiting},
		{message.TopicHalf, finder.half},
	} {
		if s.cfg.readOnly && in.topic != q.Topic {
			continue // the writer's to know
		}
		more, err := finder.hits(ctx, in.topic, in.judge)
		if err != nil {
			return nil, err
		}
		hits = append(hits, more...)
	}
	slices.SortFunc(hits, func(a, b Hit) int { return cmp.Compare(b.Record.Position(), a.Record.Position()) })
	return hits, nil
}

// hitFinder answers one query in several topics.
type hitFinder struct {
	s          *Store
	q          index.Query
	rolledBack map[message.HalfID]bool // found already: a carried half lies there twice
}

// hits collects what lies in one topic. What judge refuses does not count against
// the query's limit.
func (f *hitFinder) hits(ctx context.Context, in string, judge func(r *message.Record) (Hit, bool, error)) (out []Hit, err error) {
	q := f.q
	q.Topic = in
	judged := make(map[int64]Hit)
	q.Match = func(r *message.Record) bool {
		if f.q.Match != nil && !f.q.Match(r) {
			return false
		}
		h, ok, e := judge(r)
		if err = errors.Join(err, e); ok && e == nil {
			judged[r.Position()] = h
		}
		return ok && e == nil
	}
	for r, e := range f.s.Find(ctx, q) {
		if e != nil {
			return nil, e
		}
		h := judged[r.Position()]
		h.Record = r
		out = append(out, h)
	}
	return out, err
}

func (f *hitFinder) visible(r *message.Record) (Hit, bool, error) {
	return Hit{Queue: r.Queue()}, true, nil
}

func (f *hitFinder) waiting(r *message.Record) (Hit, bool, error) {
	h, ok := f.meant(r, HitWaiting)
	if !ok {
		return h, false, nil
	}
	due, waits, err := f.s.timers.Timers().Waiting(r)
	h.Due = due
	return h, waits, err
}

func (f *hitFinder) half(r *message.Record) (Hit, bool, error) {
	h, ok := f.meant(r, HitHalf)
	if !ok {
		return h, false, nil
	}
	halves, id := f.s.halves.Halves(), message.HalfID(r.UniqueID())
	how, err := halves.State(id)
	switch {
	case errors.Is(err, ErrNotFound):
		return h, false, nil
	case err != nil:
		return h, false, err
	case how == message.RolledBack:
		h.State = HitRolledBack
		seen := f.rolledBack[id]
		f.rolledBack[id] = true
		return h, !seen, nil
	case how == message.Committed:
		return h, false, nil // its copy is visible
	}
	at, err := halves.Get(id)
	if errors.Is(err, ErrNotFound) {
		return h, false, nil // decided meanwhile
	}
	return h, err == nil && at.Position == r.Position(), err
}

// meant is the queue that a record in a system topic is for; false if that is
// another topic's.
func (f *hitFinder) meant(r *message.Record, state HitState) (Hit, bool) {
	h := Hit{State: state, Queue: message.Queue{Topic: f.q.Topic}}
	if real, _ := r.Property(message.PropRealTopic); real != f.q.Topic {
		return h, false
	}
	id, _ := r.Property(message.PropRealQueue)
	n, err := strconv.ParseInt(id, 10, 32)
	h.Queue.ID = int32(n)
	return h, err == nil
}
