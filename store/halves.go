package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/txn"
)

// Halves gives transactions: messages that are stored first and seen only when
// they are committed. It is nil in a read-only store.
func (s *Store) Halves() *txn.Halves {
	if s.halves == nil {
		return nil
	}
	return s.halves.Halves()
}

// Transactions says when a half message without a verdict is asked about, and
// how often. Zero fields are RocketMQ's values.
type Transactions struct {
	Timeout     time.Duration // nobody is asked about a half that is younger; 6 s
	Interval    time.Duration // from one question to the next, twice as long each time; 30 s
	MaxInterval time.Duration // where the doubling ends; 10 minutes
	MaxChecks   int           // answers of checkers that say nothing; then the half is given up; 15
	Remember    int           // verdicts that are known after they were given; 65,536
}

// WithTransactions sets how half messages are checked.
func WithTransactions(t Transactions) Option {
	return func(c *config) {
		if t.Timeout < 0 || t.Interval < 0 || t.MaxInterval < 0 || t.MaxChecks < 0 || t.Remember < 0 || t.Remember > 1<<24 {
			c.reject("WithTransactions", "a field is negative or Remember over %d", 1<<24)
			return
		}
		c.halves = t
	}
}

// checkerPatience is how long Close waits for checkers that are being asked. What
// they answer later is asked again after the next Open.
const checkerPatience = time.Second

func (s *Store) openHalves() (err error) {
	t := s.cfg.halves
	s.halves, err = txn.New(s.db, txn.Options{
		Appender:    halfWriter{s},
		Read:        s.log.Record,
		NewID:       s.ids.Next,
		Foreign:     s.rule.halves(),
		Sync:        s.log.Sync,
		Timeout:     t.Timeout,
		Interval:    t.Interval,
		MaxInterval: t.MaxInterval,
		MaxChecks:   t.MaxChecks,
		Remember:    t.Remember,
		GroupBytes:  min(txn.DefaultGroupBytes, s.log.GroupLimit()),
		Manual:      s.cfg.env.Manual,
		Clock:       s.cfg.env.Clock,
		Logger:      s.cfg.logger,
	})
	if err != nil {
		return fmt.Errorf("store: open halves: %w", mapMeta(err))
	}
	s.dispatch.views = append(s.dispatch.views, s.halves)
	return nil
}

// closeHalves ends the transactions. A checker that does not return is left
// behind: it may not hold up Close.
func (s *Store) closeHalves() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if s.cfg.env.Manual {
		cancel()
	} else {
		late, stop := s.cfg.env.Clock.After(checkerPatience)
		defer stop()
		done := make(chan struct{})
		defer close(done)
		go func() {
			select {
			case <-late:
				cancel()
			case <-done:
			}
		}()
	}
	if err := s.halves.Close(ctx); err != nil {
		s.cfg.logger.Warn("closed while a checker is being asked", "error", err)
	}
}

// halfWriter appends halves and verdicts. For all but new halves it may use the
// last room on the disk.
type halfWriter struct{ s *Store }

// Append writes copies as one atomic group.
func (w halfWriter) Append(ctx context.Context, g *txn.Group) error {
	s := w.s
	var p *putting
	var err error
	if g.New {
		p, err = s.prepareHalf(ctx, &g.Copies[0])
	} else {
		p, err = s.prepareVerdict(ctx, g)
	}
	if err != nil {
		return err
	}
	p.group.OnDisk = true
	if err := s.log.Append(ctx, &p.group); err != nil {
		if errors.Is(err, commitlog.ErrSequenceClosed) && !g.New {
			err = fmt.Errorf("%w: a topic was deleted meanwhile", ErrBusy) // the next try tells which
		}
		return s.failed(p, err)
	}
	for i := range g.Copies {
		e := &p.group.Entries[i]
		g.Copies[i].Receipt = message.Receipt{Queue: g.Copies[i].Queue, Offset: e.Offset, Position: e.Position, StoredAt: time.UnixMilli(e.StoredAt)}
	}
	s.done(p)
	return nil
}

// prepareHalf is prepareOne for a message that is held back. Its end must fit into
// the log too, or it could never be committed.
func (s *Store) prepareHalf(ctx context.Context, c *txn.Copy) (*putting, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	p := s.getPutting()
	p.half = c
	err := s.fill(p, 0, c.Message, 1)
	if size, limit := p.size()+txn.CommitRoom, s.log.GroupLimit(); err == nil && size > limit {
		err = &SizeError{What: "half message", Size: size, Limit: limit}
	}
	if err == nil && p.newTopics {
		err = s.makeTopics(ctx, p, []*message.Message{c.Message})
	}
	if err != nil {
		s.putPutting(p)
		return nil, err
	}
	return p, nil
}

// prepareVerdict encodes what is appended about halves.
func (s *Store) prepareVerdict(ctx context.Context, g *txn.Group) (*putting, error) {
	if err := s.writable(); err != nil {
		return nil, err
	}
	p := s.getPutting()
	for i := range g.Copies {
		if err := s.addVerdict(ctx, p, &g.Copies[i], i, len(g.Copies)); err != nil {
			s.putPutting(p)
			return nil, &txn.CopyError{Index: i, Err: err}
		}
	}
	p.group.Reserve = true
	return p, nil
}

func (s *Store) addVerdict(ctx context.Context, p *putting, c *txn.Copy, i, n int) error {
	home, err := s.verdictHome(ctx, c)
	if err != nil {
		return err
	}
	return s.addOwn(p, home, &c.Envelope, c.Source == nil, i, n, c.Encode)
}

// verdictHome finds the queue of a record about a half. A topic that was deleted
// since the half was put has no use for it, even if there is a new one of its
// name; one that was never there, because another program wrote the half, is made.
func (s *Store) verdictHome(ctx context.Context, c *txn.Copy) (*queue, error) {
	gone := func(q message.Queue) error { return fmt.Errorf("store: queue %s: %w", q, ErrNotFound) }
	if message.IsSystemTopic(c.Queue.Topic) {
		if c.Real.Topic != "" && !s.topics.alive(c.Real.Topic, c.Of) {
			return nil, gone(c.Real)
		}
		return s.systemQueue(ctx, c.Queue)
	}
	if !s.topics.alive(c.Queue.Topic, c.Of) {
		return nil, gone(c.Queue)
	}
	q, ok := s.topics.queue(c.Queue)
	if !ok {
		t := s.autoTopic(c.Queue.Topic)
		t.ReadQueues, t.WriteQueues = max(t.ReadQueues, int(c.Queue.ID)+1), max(t.WriteQueues, int(c.Queue.ID)+1)
		if _, err := s.topics.create(ctx, t); err != nil && !errors.Is(err, ErrExists) {
			return nil, err
		}
		if q, ok = s.topics.queue(c.Queue); !ok {
			return nil, gone(c.Queue)
		}
	}
	return q, nil
}
