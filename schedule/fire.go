package schedule

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

const (
	never = math.MinInt64

	// lateAfter is how late the first live timer may be before all that are due
	// count as overdue: after a pause of the machine, a clock set forward, a disk
	// that was full.
	lateAfter = time.Second
	// tick is how often overdue timers are fired, and how many at once: as many
	// as the rate gives for twice that.
	tick = 10 * time.Millisecond

	groupBytes = 1 << 20
	parkFor    = 10 * time.Second
	backoffMin = 50 * time.Millisecond
	backoffMax = 5 * time.Second
)

// driver is what only whoever calls Step uses, but for busyStep.
type driver struct {
	step    chan struct{} // holds one token: Step runs once at a time
	tokens  float64
	last    time.Time
	retryAt time.Time
	backoff time.Duration
	bufs    [][]byte
	records []message.Record
	group   Group
}

// Start begins to fire. Everything that the log holds has been applied. What is
// due by now counts as overdue; nobody waits for it.
func (s *Schedule) Start(ctx context.Context) error {
	if err := s.resolve(ctx); err != nil {
		return err
	}
	now := s.o.Clock.Now()
	for done := false; !done; {
		s.mu.Lock()
		done = s.shiftLocked(now)
		s.mu.Unlock()
	}
	if _, err := s.fill(ctx, true); err != nil {
		return err
	}
	s.driver.last, s.driver.tokens = now, s.burst()
	s.mu.Lock()
	s.mu.started = true
	s.mu.Unlock()
	if !s.o.Manual {
		s.work.Add(1)
		go s.run()
	}
	return nil
}

func (s *Schedule) burst() float64 {
	return max(1, float64(s.o.CatchUp)*2*tick.Seconds())
}

// Step does one piece of work: it fires one group of due timers, or reads on from
// disk. worked says that there may be more. It is for Options.Manual.
func (s *Schedule) Step(ctx context.Context) (worked bool, err error) {
	select {
	case s.driver.step <- struct{}{}:
		defer func() { <-s.driver.step }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if err := s.resolve(ctx); err != nil {
		return false, err
	}
	now := s.o.Clock.Now()
	d := &s.driver
	if wait := d.retryAt.Sub(now); wait > 0 && wait <= backoffMax {
		return false, nil
	}
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return false, fmt.Errorf("schedule: step: %w", message.ErrClosed)
	}
	s.lanesLocked(now)
	s.mu.Unlock()
	loaded, err := s.fill(ctx, false)
	if err != nil {
		return false, s.later(now, err)
	}
	o := newOp(opFire)
	ts := s.choose(now, o)
	if len(ts) == 0 {
		return loaded, nil
	}
	if err := s.fire(ctx, now, ts, o); err != nil {
		return false, s.later(now, err)
	}
	d.backoff = 0
	return true, nil
}

// later makes the driver wait before it tries again.
func (s *Schedule) later(now time.Time, err error) error {
	d := &s.driver
	d.backoff = min(max(backoffMin, d.backoff*2), backoffMax)
	d.retryAt = now.Add(d.backoff)
	return err
}

// lanesLocked keeps the split where it belongs and frees parked timers.
func (s *Schedule) lanesLocked(now time.Time) {
	m := &s.mu
	if it, ok := m.live.tree.Min(); ok && it.due < now.Add(-lateAfter).UnixMilli() {
		s.shiftLocked(now)
	}
	if firstAfter(now.Add(lateAfter).UnixMilli()).less(m.split) {
		s.lowerLocked(now)
	}
	kept := m.parked[:0]
	for _, p := range m.parked {
		// A clock that was set back makes none wait longer.
		if wait := p.at.Sub(now); wait > 0 && wait <= parkFor {
			kept = append(kept, p)
			continue
		}
		s.returnLocked([]*timer{p.t}, p.op)
	}
	clear(m.parked[len(kept):])
	m.parked = kept
}

// choose takes what is due, at most one batch. Live timers go first, so that
// they do not wait for overdue ones; those have a quarter of a full batch, as
// far as their rate allows.
func (s *Schedule) choose(now time.Time, o *op) (ts []*timer) {
	d := &s.driver
	if passed := now.Sub(d.last); passed > 0 {
		d.tokens = min(s.burst(), d.tokens+passed.Seconds()*float64(s.o.CatchUp))
	}
	d.last = now
	s.mu.Lock()
	defer s.mu.Unlock()
	ms := now.UnixMilli()
	if plant.Enabled && plant.Is(plant.TimerEarly) {
		ms++
	}
	overdue := 0
	if it, ok := s.mu.back.tree.Min(); ok && it.due <= ms {
		overdue = min(int(d.tokens), s.o.Batch)
	}
	ts = s.takeLocked(&s.mu.live, ms, s.o.Batch-min(overdue, s.o.Batch/4), o, ts)
	before := len(ts)
	ts = s.takeLocked(&s.mu.back, ms, min(overdue, s.o.Batch-before), o, ts)
	d.tokens -= float64(len(ts) - before)
	return ts
}

// takeLocked claims the first n due timers of a lane.
func (s *Schedule) takeLocked(l *lane, ms int64, n int, o *op, ts []*timer) []*timer {
	for n > 0 {
		it, ok := l.tree.Min()
		if !ok || it.due > ms {
			break
		}
		if !it.t.alive() {
			s.killLocked(it.t)
			continue
		}
		s.claimLocked(it.t, o)
		ts = append(ts, it.t)
		n--
	}
	return ts
}

// fire writes the copies of ts as one group, or of the first of them if they are
// too large for one. What was not written is pending again.
func (s *Schedule) fire(ctx context.Context, now time.Time, ts []*timer, o *op) error {
	defer close(o.done)
	for len(ts) > 0 {
		sent, bad, err := s.fireSome(ctx, ts)
		if bad >= 0 {
			s.park(now, ts[bad], o, err)
			ts = append(ts[:bad:bad], ts[bad+1:]...)
			continue
		}
		if fatal(err) {
			return err // whether they were written is known after the next Open
		}
		s.mu.Lock()
		s.returnLocked(ts[sent:], o)
		s.mu.Unlock()
		return err
	}
	return nil
}

// fatal says that no append succeeds any more and this one's outcome is unknown.
func fatal(err error) bool {
	return errors.Is(err, message.ErrPoisoned) || errors.Is(err, message.ErrClosed)
}

// fireSome reads and appends. sent is how many of ts were written; bad is the
// index of one that cannot be, or -1.
func (s *Schedule) fireSome(ctx context.Context, ts []*timer) (sent, bad int, err error) {
	d := &s.driver
	d.group = Group{Copies: d.group.Copies[:0]}
	for len(d.bufs) < len(ts) {
		d.bufs, d.records = append(d.bufs, nil), append(d.records, message.Record{})
	}
	bytes := 0
	for i, t := range ts {
		if bytes += int(t.size); bytes > groupBytes && i > 0 {
			break
		}
		r := &d.records[i]
		w, err := s.read(t, &d.bufs[i], r)
		if err != nil {
			if lasting(err) {
				return 0, i, err
			}
			return 0, -1, err
		}
		d.group.Copies = append(d.group.Copies, deliver(t, r, &w))
	}
	err = s.o.Appender.Append(ctx, &d.group)
	if c := (*CopyError)(nil); errors.As(err, &c) && c.Index >= 0 && c.Index < len(d.group.Copies) {
		return 0, c.Index, c
	}
	if err != nil {
		return 0, -1, fmt.Errorf("schedule: fire: %w", err)
	}
	return len(d.group.Copies), -1, nil
}

// lasting says that another try will not help soon.
func lasting(err error) bool {
	return errors.Is(err, message.ErrCorrupt) || errors.Is(err, message.ErrNotFound)
}

// read gets the waiting record of a timer and makes sure that it is the one.
func (s *Schedule) read(t *timer, buf *[]byte, r *message.Record) (w waiting, err error) {
	if *buf, err = s.o.Read(t.pos, int(t.size), *buf, r); err != nil {
		return w, fmt.Errorf("schedule: read the waiting record at %d: %w", t.pos, err)
	}
	w, ok := s.o.Levels.parse(r)
	if !ok || r.Position() != t.pos || w.cancels != "" || w.real.Topic != t.topic.name ||
		w.due != t.due && !w.level {
		return w, &message.CorruptError{Offset: t.pos, Reason: "not the waiting record that was applied"}
	}
	return w, nil
}

// deliver is the copy of a waiting record in its real queue.
func deliver(t *timer, r *message.Record, w *waiting) Copy {
	c := Copy{Queue: w.real, Of: t.pos, Source: r}
	c.Envelope = message.Envelope{
		SysFlag:        r.SysFlag(),
		ReconsumeTimes: r.ReconsumeTimes(),
		PreparedOffset: r.PreparedOffset(),
		Reserved:       []message.Property{endsProperty(t.key)},
	}
	if plant.Enabled && plant.Is(plant.TimerUnmarked) {
		c.Envelope.Reserved = nil
	}
	return c
}

// park lays a timer aside that cannot be delivered: it must not hold up the
// others, and it is not lost.
func (s *Schedule) park(now time.Time, t *timer, o *op, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.busy[t.key] != (busy{t, o}) {
		return
	}
	if !t.alive() {
		s.killLocked(t)
		return
	}
	p := newOp(opPark)
	s.claimLocked(t, p)
	s.mu.parked = append(s.mu.parked, parked{t, p, now.Add(parkFor)})
	s.o.Logger.Error("timer cannot be delivered; it is tried again later", "topic", t.topic.name, "position", t.pos, "error", err)
}

// Next is when Step has something to do next; false when nothing is pending.
func (s *Schedule) Next() (time.Time, bool) {
	now := s.o.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nextLocked(now)
}

func (s *Schedule) nextLocked(now time.Time) (at time.Time, ok bool) {
	m := &s.mu
	sooner := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	if len(m.unresolved) > 0 || s.shortLocked(&m.back) || s.shortLocked(&m.live) {
		sooner(now)
	}
	if it, found := m.live.tree.Min(); found {
		sooner(time.UnixMilli(it.due))
	}
	if it, found := m.back.tree.Min(); found {
		if due := time.UnixMilli(it.due); due.After(now) {
			sooner(due)
		} else {
			sooner(now.Add(tick))
		}
	}
	for _, p := range m.parked {
		sooner(p.at)
	}
	return at, ok
}
