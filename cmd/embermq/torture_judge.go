package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// judge compares a store with what was acknowledged.
type judge struct {
	dir string

	acked     [tortureProducers]int64 // offsets below were acknowledged, or found once
	read      int64
	judged    [tortureProducers]int64 // offsets below were read and found right
	committed [tortureProducers]int64 // on disk

	waiting   map[string]bool // acknowledged timers that were not delivered yet
	delivered map[string]bool
	laterAt   int64 // first offset of the timers' topic that was not read

	kills, timers, commits int
	replayed, cut          int64
	slowest                time.Duration
}

// newJudge makes the store.
func newJudge(ctx context.Context, dir string) (*judge, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	j := &judge{dir: dir, waiting: map[string]bool{}, delivered: map[string]bool{}}
	s, err := store.Open(dir, tortureOptions()...)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		s.CreateTopic(ctx, store.Topic{Name: tortureTopic, ReadQueues: tortureProducers, WriteQueues: tortureProducers}),
		s.CreateTopic(ctx, store.Topic{Name: tortureLater, ReadQueues: 1, WriteQueues: 1}),
	)
	if err == nil {
		err = j.guard(ctx, s)
	}
	return j, errors.Join(err, s.Close())
}

// guard commits what is judged, so that retention leaves the rest.
func (j *judge) guard(ctx context.Context, s *store.Store) error {
	offsets := map[message.Queue]int64{{Topic: tortureLater}: j.laterAt}
	for p, n := range j.judged {
		offsets[message.Queue{Topic: tortureTopic, ID: int32(p)}] = n
	}
	return s.Commit(ctx, tortureJudge, offsets)
}

// note takes a line of a worker.
func (j *judge) note(line string) error {
	f := strings.Fields(line)
	if len(f) == 2 && f[0] == "timer" {
		j.timers++
		j.waiting[f[1]] = true
		return nil
	}
	if len(f) != 3 || f[0] != "put" && f[0] != "commit" {
		return violated("a running process said: %s", strings.TrimSpace(line))
	}
	p, err1 := strconv.Atoi(f[1])
	n, err2 := strconv.ParseInt(f[2], 10, 64)
	if err := errors.Join(err1, err2); err != nil || p < 0 || p >= tortureProducers {
		return fmt.Errorf("a worker's line %q: %w", line, err)
	}
	if f[0] == "put" {
		j.acked[p] = max(j.acked[p], n)
		return nil
	}
	j.commits++
	j.committed[p] = max(j.committed[p], n)
	return nil
}

// look opens the store after a kill and compares.
func (j *judge) look(ctx context.Context) (err error) {
	s, err := opened(store.Open(j.dir, tortureOptions()...))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	rec := s.Stats().Recovery
	j.replayed += rec.Replayed
	j.cut += rec.CutBytes
	j.slowest = max(j.slowest, rec.Took)
	if len(rec.Rebuilt) > 0 && j.read > 0 { // before, there was nothing to save
		return violated("views were rebuilt after a kill: %v", rec.Rebuilt)
	}
	if rec.Clamped > 0 {
		return violated("%d committed offsets lay behind the end of their queues", rec.Clamped)
	}
	if err := j.sound(ctx, s); err != nil {
		return err
	}
	for p := range tortureProducers {
		if err := j.queue(ctx, s, p); err != nil {
			return err
		}
	}
	if err := j.alarms(ctx, s); err != nil {
		return err
	}
	return j.guard(ctx, s)
}

func (j *judge) sound(ctx context.Context, s *store.Store) error {
	report, err := s.Check(ctx)
	if err != nil {
		return err
	}
	if len(report.Damages) > 0 {
		d := report.Damages[0]
		return violated("check found %d damages; the first is in %s at %d: %s", len(report.Damages), d.Path, d.Offset, d.Reason)
	}
	return nil
}

// queue reads what a producer's queue has got since the last look.
func (j *judge) queue(ctx context.Context, s *store.Store, p int) error {
	q := message.Queue{Topic: tortureTopic, ID: int32(p)}
	start, end, err := s.Bounds(q)
	if err != nil {
		return violated("%s: %v", q, err)
	}
	switch committed, _, err := s.Committed(ctx, tortureReader, q); {
	case err != nil:
		return err
	case end < j.acked[p]:
		return violated("%s ends at %d, but the messages below %d were acknowledged", q, end, j.acked[p])
	case start > j.judged[p]:
		return violated("%s begins at %d: retention took what group %s had not read from %d on", q, start, tortureJudge, j.judged[p])
	case committed < j.committed[p], committed > end:
		return violated("%s: the committed offset is %d; %d was on disk, the queue ends at %d", q, committed, j.committed[p], end)
	}
	for at := j.judged[p]; at < end; {
		b, err := s.Read(ctx, q, at, message.Limit{Count: 1000}, nil)
		if err != nil {
			return violated("%s cannot be read at %d: %v", q, at, err)
		}
		for i := range b.Records {
			n := at + int64(i)
			first, count, ok := parseTorture(p, n, b.Records[i].Body())
			if !ok || b.Records[i].Offset() != n {
				return violated("%s has another message at offset %d", q, n)
			}
			if first+int64(count) > end {
				return violated("%s ends at %d inside the batch from %d to %d", q, end, first, first+int64(count))
			}
		}
		if at = b.Next; len(b.Records) == 0 && at < end {
			return violated("%s has nothing at offset %d", q, at)
		}
		j.read += int64(len(b.Records))
	}
	j.judged[p], j.acked[p] = end, end // what was found once must stay
	return nil
}

// alarms looks for the timers: each waits or was delivered, and none twice. Those
// that wait are listed first, because some may be delivered meanwhile.
func (j *judge) alarms(ctx context.Context, s *store.Store) error {
	pending := map[string]bool{}
	for t, err := range s.Timers().Pending(tortureLater, time.Time{}, time.Time{}) {
		if err != nil {
			return violated("timers cannot be read: %v", err)
		}
		r, err := s.Get(ctx, t.Position)
		if err != nil {
			return violated("the timer at %d cannot be read: %v", t.Position, err)
		}
		pending[string(r.Body())] = true
	}
	q := message.Queue{Topic: tortureLater}
	_, end, err := s.Bounds(q)
	if err != nil {
		return violated("%s: %v", q, err)
	}
	for j.laterAt < end {
		b, err := s.Read(ctx, q, j.laterAt, message.Limit{}, nil)
		if err != nil {
			return violated("%s cannot be read at %d: %v", q, j.laterAt, err)
		}
		for i := range b.Records {
			id := string(b.Records[i].Body())
			if j.delivered[id] {
				return violated("timer %s was delivered twice", id)
			}
			j.delivered[id] = true
			delete(j.waiting, id)
		}
		j.laterAt = b.Next
	}
	for id := range j.waiting {
		if !pending[id] {
			return violated("timer %s is lost", id)
		}
	}
	return nil
}

// patience is how long the last timers may take beyond their time.
const patience = time.Minute

// end waits for the last timers and looks once more.
func (j *judge) end(ctx context.Context) (err error) {
	s, err := opened(store.Open(j.dir, tortureOptions()...))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for until := time.Now().Add(timerMost + patience); s.Timers().Len() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			return violated("%d timers are overdue by %v", s.Timers().Len(), patience)
		}
	}
	if err := j.alarms(ctx, s); err != nil {
		return err
	}
	if len(j.waiting) > 0 {
		return violated("%d timers are neither waiting nor delivered", len(j.waiting))
	}
	return j.sound(ctx, s)
}
