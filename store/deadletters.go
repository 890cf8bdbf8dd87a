package store

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/embermq/embermq/message"
)

// DeadLetters are the records that groups gave up on: topic %DLQ%group, queue 0.
// What was deleted or redriven stays in that topic until retention takes it, but is
// listed no more.
type DeadLetters struct{ s *Store }

// DeadLetters gives the dead letters of all groups. It is nil in a read-only store.
func (s *Store) DeadLetters() *DeadLetters {
	if s.progress == nil {
		return nil
	}
	return &DeadLetters{s}
}

// DeadLetter is one record that a group gave up on.
type DeadLetter struct {
	// ID is the message's unique id; it stays when retention carries the letter
	// forward.
	ID    string
	Group string
	// Offset is where the letter lies now in queue 0 of %DLQ%group.
	Offset int64
	// Origin is where the message was put, OriginOffset its offset there; -1 when
	// that is not known. OriginID names the first record.
	Origin       message.Queue
	OriginOffset int64
	OriginID     string
	Reason       string
	Attempts     int // deliveries in vain
	At           time.Time
	// Record is the message. Its bytes belong to the caller.
	Record message.Record
}

// deadQueue is where a group's dead letters lie.
func deadQueue(group string) message.Queue {
	return message.Queue{Topic: message.PrefixDead + group}
}

func parseDeadLetter(group string, r message.Record, offset int64) DeadLetter {
	value := func(name string) string { v, _ := r.Property(name); return v }
	d := DeadLetter{ID: r.UniqueID(), Group: group, Offset: offset, OriginOffset: -1, Record: r, Attempts: int(r.ReconsumeTimes()),
		OriginID: value(message.PropDeadID), Reason: value(message.PropDeadReason), At: r.StoredAt()}
	d.Origin.Topic = value(message.PropDeadTopic)
	if id, at, ok := strings.Cut(value(message.PropOriginQueue), ":"); ok {
		n, err1 := strconv.ParseInt(id, 10, 32)
		o, err2 := strconv.ParseInt(at, 10, 64)
		if err1 == nil && err2 == nil && n >= 0 && o >= 0 {
			d.Origin.ID, d.OriginOffset = int32(n), o
		}
	}
	if ms, err := strconv.ParseInt(value(message.PropDeadAt), 10, 64); err == nil {
		d.At = time.UnixMilli(ms)
	}
	return d
}

// All yields a group's dead letters, oldest first, as they are when they are
// read. A group without any yields none. An error is the last thing it yields.
func (d *DeadLetters) All(ctx context.Context, group string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		s, q := d.s, deadQueue(group)
		at, end, ok := s.queueBounds(q)
		if err := s.usable(); err != nil {
			yield(DeadLetter{}, err)
			return
		}
		if !ok {
			return
		}
		for at < end {
			if at = unsettled(s.progress.Place(q.Topic, q), at); at >= end {
				return
			}
			b, err := s.Read(ctx, q, at, message.Limit{}, nil)
			if err != nil {
				yield(DeadLetter{}, err)
				return
			}
			place := s.progress.Place(q.Topic, q)
			for i := range b.Records {
				r := b.Records[i]
				if unsettled(place, r.Offset()) != r.Offset() {
					continue
				}
				if !yield(parseDeadLetter(group, r, r.Offset()), nil) {
					return
				}
			}
			at = b.Next
		}
	}
}

// unsettled is the first offset from at on that the place has not settled.
func unsettled(p message.Standing, at int64) int64 {
	if at = max(at, p.Committed); !p.Known {
		return at
	}
	for _, r := range p.Settled {
		if r.From <= at && at < r.To {
			return r.To
		}
	}
	return at
}

// Get returns a group's dead letter by its ID. The error is ErrNotFound when there
// is none.
func (d *DeadLetters) Get(ctx context.Context, group, id string) (DeadLetter, error) {
	for l, err := range d.All(ctx, group) {
		if err != nil || l.ID == id {
			return l, err
		}
	}
	return DeadLetter{}, fmt.Errorf("store: dead letter %q of group %s: %w", id, group, ErrNotFound)
}

// Count is how many dead letters a group has. It reads none of them.
func (d *DeadLetters) Count(group string) int64 {
	q := deadQueue(group)
	start, end, _ := d.s.queueBounds(q)
	return pendingIn(d.s.progress.Place(q.Topic, q), start, end)
}

// pendingIn counts the offsets in [start, end) that are not settled.
func pendingIn(p message.Standing, start, end int64) int64 {
	start = max(start, p.Committed)
	n := max(end-start, 0)
	for _, r := range p.Settled {
		n -= max(min(r.To, end)-max(r.From, start), 0)
	}
	return n
}

// Age is how long a group's oldest dead letter has been one; zero without any.
func (d *DeadLetters) Age(ctx context.Context, group string) (time.Duration, error) {
	for l, err := range d.All(ctx, group) {
		if err != nil {
			return 0, err
		}
		return d.s.cfg.env.Clock.Now().Sub(l.At), nil
	}
	return 0, nil
}

// Delete removes the dead letters that match chooses (nil: all), and says how many
// there were. They are gone for good when it returns.
func (d *DeadLetters) Delete(ctx context.Context, group string, match func(*DeadLetter) bool) (deleted int, err error) {
	s, q := d.s, deadQueue(group)
	if err := s.writable(); err != nil {
		return 0, err
	}
	if err := s.progress.EnsureInternal(ctx, q.Topic); err != nil {
		return 0, err
	}
	for l, err := range d.All(ctx, group) {
		if err != nil {
			return deleted, err
		}
		if match != nil && !match(&l) {
			continue
		}
		v := message.Verdict{Queue: q, Offset: l.Offset, Kind: message.Done}
		if _, _, err := s.progress.Settle(q.Topic, s.progress.Epoch(q.Topic), []message.Verdict{v}); err != nil {
			return deleted, err
		}
		deleted++
	}
	return deleted, s.progress.Flush(ctx)
}

// Redrive says which dead letters to send again, and where.
type Redrive struct {
	// To is a topic that exists, or %RETRY%group for the group alone, whose
	// handlers go by the topic it came from; empty is the topic each message came
	// from. Every group of a topic gets the message.
	To string
	// Match chooses letters; nil is all.
	Match func(*DeadLetter) bool
	// Max bounds how many; zero is no bound.
	Max int
}

// redriveDrops are what a message leaves behind when it starts anew. One that goes
// to the group's retry topic, under againDrops, keeps where it came from: by that
// the group finds its handler.
var (
	redriveDrops = append([]string{message.PropRetryTopic, message.PropOriginID, message.PropOriginQueue}, againDrops...)
	againDrops   = append([]string{message.PropExpire}, copyDrops...)
)

// Redrive sends dead letters again, as new messages without attempts and without
// ExpireAt; body, tag, keys, properties, unique id and born time stay. Each goes
// into the queue number that it came from, as far as the target has one. It
// returns how many were sent.
//
// One append both writes a message and takes its letter off the list, so a crash,
// or a second call at the same time, sends none twice and loses none. An error
// ends it; what was sent stays so.
func (d *DeadLetters) Redrive(ctx context.Context, group string, r Redrive) (sent int, err error) {
	s := d.s
	if err := s.writable(); err != nil {
		return 0, err
	}
	m := mover{s: s, from: deadQueue(group), group: message.PrefixDead + group, drops: redriveDrops}
	if strings.HasPrefix(r.To, message.PrefixRetry) {
		m.drops = againDrops
	}
	if err := s.progress.EnsureInternal(ctx, m.group); err != nil {
		return 0, err
	}
	for l, err := range d.All(ctx, group) {
		if err != nil {
			return m.sent, err
		}
		if r.Match != nil && !r.Match(&l) {
			continue
		}
		to := r.To
		if to == "" {
			to = l.Origin.Topic
		}
		if err := m.add(ctx, &l.Record, l.Offset, to, uint32(l.Origin.ID)); err != nil {
			return m.sent, err
		}
		if r.Max > 0 && m.sent+len(m.batch) >= r.Max {
			break
		}
	}
	err = m.flush(ctx)
	return m.sent, err
}

// WithDeadLetterRetention sets how long dead letters are kept at least, 30 days by
// default. Before a segment goes, those in it that are younger are written once
// more; they keep their ID, and lists show each once. A group that subscribes to
// %DLQ% may see such a one again. Zero keeps them no longer than other messages.
func WithDeadLetterRetention(d time.Duration) Option {
	return func(c *config) {
		if d < 0 {
			c.reject("WithDeadLetterRetention", "%v is negative", d)
			return
		}
		c.deadRetention = d
	}
}

// carryDead writes dead letters below a log position once more that are to be
// kept.
func (s *Store) carryDead(ctx context.Context, before int64) error {
	for _, t := range s.topics.list() {
		group, ok := strings.CutPrefix(t.Name, message.PrefixDead)
		if !ok || s.cfg.deadRetention == 0 {
			continue
		}
		if err := s.carryDeadOf(ctx, group, before); err != nil {
			return fmt.Errorf("store: carry the dead letters of group %s: %w", group, err)
		}
	}
	return nil
}

func (s *Store) carryDeadOf(ctx context.Context, group string, before int64) error {
	q := deadQueue(group)
	m := mover{s: s, from: q, group: q.Topic, again: true}
	if err := s.progress.EnsureInternal(ctx, m.group); err != nil {
		return err
	}
	oldest := s.cfg.env.Clock.Now().Add(-s.cfg.deadRetention)
	for l, err := range s.DeadLetters().All(ctx, group) {
		if err != nil {
			return err
		}
		if l.Record.Position() >= before {
			break
		}
		if l.At.Before(oldest) {
			continue
		}
		if err := m.add(ctx, &l.Record, l.Offset, q.Topic, 0); err != nil {
			return err
		}
	}
	return m.flush(ctx)
}
