package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

const (
	readCount   = 64  // messages a read asks for
	commitEvery = 500 // messages a group receives between two commits
)

// reader is a consumer group: it reads with its filter, remembers what it got,
// and commits now and then.
type reader struct {
	group  string
	filter message.Filter
	wants  func(*flight) bool // what the filter should let through

	got     [queues]map[int64]digest // what was received, by offset
	passed  [queues]int64            // offset that reading has reached
	pending int                      // received since the last commit

	received    int // distinct messages
	redelivered int // received once more
	uncommitted int // received, not committed when the first part ended
	outOfOrder  int
}

func newReader(group string, f message.Filter, wants func(*flight) bool) *reader {
	r := &reader{group: group, filter: f, wants: wants}
	for q := range r.got {
		r.got[q] = make(map[int64]digest)
	}
	return r
}

// readAll lets every group read in a goroutine of its own, up to a number of
// messages or, with 0, to the end.
func readAll(ctx context.Context, s *store.Store, groups []*reader, most int) error {
	var wg sync.WaitGroup
	errs := make([]error, len(groups))
	for i, r := range groups {
		wg.Go(func() { errs[i] = r.read(ctx, s, most) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// read goes round the queues from the group's committed offsets on. When it
// stops at most messages it leaves what it has not committed yet, as a program that is
// stopped does; at the end of all queues it commits.
func (r *reader) read(ctx context.Context, s *store.Store, most int) error {
	order := make(map[string]int) // next expected number, for each airport
	next := make(map[message.Queue]int64)
	for id := range int32(queues) {
		q := message.Queue{Topic: topic, ID: id}
		offset, ok, err := s.Committed(ctx, r.group, q)
		if err != nil {
			return err
		}
		if !ok {
			if offset, _, err = s.Bounds(q); err != nil {
				return err
			}
		}
		next[q] = offset
	}
	for moved := true; moved; {
		moved = false
		for id := range int32(queues) {
			q := message.Queue{Topic: topic, ID: id}
			b, err := s.Read(ctx, q, next[q], message.Limit{Count: readCount}, r.filter)
			if err != nil {
				return err
			}
			for i := range b.Records {
				r.take(&b.Records[i], order)
			}
			moved = moved || b.Next > next[q]
			next[q] = b.Next
			r.passed[id] = max(r.passed[id], b.Next)
			if most > 0 && r.stopped(most) {
				r.uncommitted = r.pending
				r.pending = 0
				return nil
			}
			if r.pending >= commitEvery {
				if err := s.Commit(ctx, r.group, next); err != nil {
					return err
				}
				r.pending = 0
			}
		}
	}
	r.pending = 0
	return s.Commit(ctx, r.group, next)
}

// stopped tells whether this group has read its part: its queues have been
// passed so far, and something is received that is not committed.
func (r *reader) stopped(most int) bool {
	var passed int64
	for _, n := range r.passed {
		passed += n
	}
	return passed >= int64(most) && r.pending > 0 && r.pending < commitEvery
}

// take notes a message. Within one part an airport's numbers only rise; after a
// restart they may begin lower, and those messages have been received before.
func (r *reader) take(m *message.Record, order map[string]int) {
	id, offset := m.QueueID(), m.Offset()
	r.pending++
	if _, ok := r.got[id][offset]; ok {
		r.redelivered++
	} else {
		r.received++
	}
	r.got[id][offset] = sha256.Sum256(m.Body())

	var airport string
	for airport = range m.Keys() {
		break
	}
	text, _ := m.Property(propSeq)
	seq, err := strconv.Atoi(text)
	if least, ok := order[airport]; err != nil || ok && seq < least {
		r.outOfOrder++
	}
	order[strings.Clone(airport)] = seq + 1
}

// filtered is how many messages the filter has left out.
func (r *reader) filtered() int {
	n := -r.received
	for _, passed := range r.passed {
		n += int(passed)
	}
	return n
}

// compare tells how many planned messages never came, and how many came that
// differ from what was acknowledged or that the filter should have left out.
func (r *reader) compare(p *plan) (lost, wrong int) {
	for q, flights := range p.byQueue {
		for offset, f := range flights {
			sum, ok := r.got[q][int64(offset)]
			switch {
			case r.wants(f) && !ok:
				lost++
			case ok && (!r.wants(f) || sum != sha256.Sum256(f.body)):
				wrong++
			}
		}
		for offset := range r.got[q] {
			if offset < 0 || offset >= int64(len(flights)) {
				wrong++
			}
		}
	}
	return lost, wrong
}
