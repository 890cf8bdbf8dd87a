package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/schedule"
)

// Timers gives the messages that wait for their time: cancel, reschedule, list
// and count them. It is nil in a read-only store.
func (s *Store) Timers() *schedule.Timers {
	if s.timers == nil {
		return nil
	}
	return s.timers.Timers()
}

// readLevels takes the table of delay levels from the directory, or the option's,
// which replaces it there.
func (s *Store) readLevels() (err error) {
	if t := s.cfg.levels; t != "" && t != s.format.levels && !s.cfg.readOnly {
		s.format.levels = t
		if !s.recovery.New {
			if err := writeFormat(s.state, s.format); err != nil {
				return err
			}
		}
	}
	if s.levels, err = schedule.ParseLevels(s.format.levels); err != nil {
		return &CorruptError{Path: s.state.Path(formatName), Reason: "table of delay levels", Err: err}
	}
	s.dispatch.levels = s.levels
	return nil
}

func (s *Store) openTimers() (err error) {
	s.timers, err = schedule.New(s.db, schedule.Options{
		Levels:   s.levels,
		Appender: timerWriter{s},
		Read:     s.log.Record,
		Manual:   s.cfg.env.Manual,
		CatchUp:  s.cfg.timerRate,
		Clock:    s.cfg.env.Clock,
		Logger:   s.cfg.logger,
		Foreign:  s.rule.waits(s.levels),
	})
	if err != nil {
		return fmt.Errorf("store: open timers: %w", mapMeta(err))
	}
	s.dispatch.views = append(s.dispatch.views, s.timers)
	return nil
}

// route says where message i goes: into its own queue, or where it waits for a
// verdict or for its time, and then with a handle if it can be cancelled.
func (s *Store) route(p *putting, i int, m *message.Message) (to message.Queue, timer message.TimerID, err error) {
	to = message.Queue{Topic: m.Topic, ID: m.QueueID}
	if p.half != nil {
		p.envelope.Reserved = append(p.envelope.Reserved, p.half.Envelope.Reserved...)
		p.waits = append(p.waits, waiting{entry: i, queue: to, in: p.half.Queue})
		return p.half.Queue, "", nil
	}
	if m.DelayLevel == 0 && m.Delay == 0 && m.DeliverAt.IsZero() {
		return to, "", nil
	}
	name := s.ids.Next
	if m.UniqueID != "" {
		name = func() string { return m.UniqueID }
	}
	r, err := s.levels.Route(m, s.cfg.env.Clock.Now(), name, p.envelope.Reserved)
	if err != nil || r.Kind == schedule.Immediate {
		return to, "", err
	}
	p.envelope.Reserved = r.Reserved
	p.waits = append(p.waits, waiting{entry: i, queue: to, timer: r.Timer, in: r.Queue})
	return r.Queue, r.Timer, nil
}

// timersRoom waits while more timers are put than checkpoints can save. Messages
// that do not wait for their time never wait for that.
func (s *Store) timersRoom(ctx context.Context, p *putting) error {
	if len(p.waits) == 0 || p.half != nil {
		return nil
	}
	room := s.timers.Crowded()
	if room == nil || s.cfg.env.Manual {
		return nil
	}
	select {
	case s.nudge <- struct{}{}:
	default:
	}
	select {
	case <-room:
		return nil
	case <-s.closing:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("store: wait for a checkpoint of the timers: %w", ctx.Err())
	}
}

// timerWriter appends what the timers decide. It may use system topics and the
// last room on the disk.
type timerWriter struct{ s *Store }

// Append writes copies as one atomic group.
func (w timerWriter) Append(ctx context.Context, g *schedule.Group) error {
	s := w.s
	p := s.getPutting()
	for i := range g.Copies {
		if err := s.addCopy(ctx, p, &g.Copies[i], i, len(g.Copies)); err != nil {
			s.putPutting(p)
			return &schedule.CopyError{Index: i, Err: err}
		}
	}
	p.group.OnDisk = g.OnDisk || s.cfg.durability == message.OnDisk
	p.group.Reserve = g.Reserve
	if err := s.log.Append(ctx, &p.group); err != nil {
		if errors.Is(err, commitlog.ErrSequenceClosed) {
			err = fmt.Errorf("%w: a topic was deleted meanwhile", ErrBusy) // the next try tells which
		}
		return s.failed(p, err)
	}
	s.done(p)
	return nil
}

func (s *Store) addCopy(ctx context.Context, p *putting, c *schedule.Copy, i, n int) error {
	home, err := s.copyHome(ctx, c)
	if err != nil {
		return err
	}
	return s.addOwn(p, home, &c.Envelope, c.Source == nil, i, n, c.Encode)
}

// copyHome finds the queue of a copy. A topic that was deleted since the message
// was put has no use for it, even if there is a new one of its name.
func (s *Store) copyHome(ctx context.Context, c *schedule.Copy) (*queue, error) {
	if message.IsSystemTopic(c.Queue.Topic) {
		return s.systemQueue(ctx, c.Queue)
	}
	q, ok := s.topics.queue(c.Queue)
	if !ok || q.topic.row.Load().birth > c.Of {
		return nil, fmt.Errorf("store: queue %s: %w", c.Queue, ErrNotFound)
	}
	return q, nil
}
