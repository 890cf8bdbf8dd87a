package txn

import (
	"context"
	"errors"
	"iter"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// Resource is the application's own database. The application's transaction puts
// a marker row into it, with the half's id as its key, together with its data.
// The row says what has become of the transaction, whatever has become of the
// process.
//
// An implementation keeps to this: of a marker by the application and one by
// Settle, for one id, at most one can ever be there, and whoever comes second
// learns of the first. The application's marker is refused unless the half is
// still pending (see Ledger), asked after the marker was written in its
// transaction: markers of ended halves are removed, so their absence says
// nothing.
type Resource interface {
	// Settle decides by writing: in one transaction of the database it puts in a
	// marker that says "rolled back" unless there is one, and returns what the
	// marker now says, Committed or RolledBack. It is durable when Settle returns.
	// With an error nobody knows; it is asked again later, without limit.
	Settle(ctx context.Context, id message.HalfID) (message.Decision, error)
	// Markers yields the ids of all markers. An error comes last, with no id.
	Markers(ctx context.Context) iter.Seq2[message.HalfID, error]
	// Forget removes markers, those that are there.
	Forget(ctx context.Context, ids []message.HalfID) error
}

// Ledger tells whether a half is still pending. Halves is one.
type Ledger interface {
	State(id message.HalfID) (message.Decision, error)
}

// StillPending returns nil if the half is pending, and else an error: the
// application's transaction must then be rolled back. It matches message.ErrFenced
// for a half with a verdict, and for one that is unknown message.ErrNotFound.
func StillPending(l Ledger, id message.HalfID) error {
	how, err := l.State(id)
	if err != nil {
		return err
	}
	if how != message.Undecided && !(plant.Enabled && plant.Is(plant.HalfLateTaken)) {
		return &DecidedError{ID: id, Decision: how}
	}
	return nil
}

// DecidedError is the error of an application's transaction that comes after the
// verdict. It is message.ErrFenced for errors.Is.
type DecidedError struct {
	ID       message.HalfID
	Decision message.Decision
}

// Error names the half and the verdict.
func (e *DecidedError) Error() string {
	return "half " + string(e.ID) + " has a verdict already: " + e.Decision.String()
}

// Is reports whether target is message.ErrFenced.
func (e *DecidedError) Is(target error) bool { return target == message.ErrFenced }

// Attach makes a database the one that decides about the halves of a group, in
// place of its checkers. A group has one resource, else the error matches
// message.ErrExists; the other errors are those of OnCheck, as is stop.
//
// The resource is asked when a half is old enough (Options.Timeout or its
// immunity), and until it answers. What it answers is final. Markers of halves
// that have a verdict on disk are removed in the background.
func (t *Halves) Attach(group string, r Resource, o message.CheckOptions) (stop func(), err error) {
	if r == nil {
		return nil, &message.InvalidError{Field: "Resource", Reason: "is nil"}
	}
	return t.c.register(group, &decider{resource: r, o: o, sweep: sweep{unlisted: true}})
}

// sweepBatch is how many markers are removed at a time.
const sweepBatch = 128

// sweepMost bounds what is remembered while a database is away. The markers
// beyond are found by the next Attach.
const sweepMost = 1 << 16

// sweep is what is to be removed from a resource.
type sweep struct {
	unlisted bool // what an earlier process left was not looked for yet
	ids      []message.HalfID
	at       int   // so many ids make a batch
	retry    int64 // it failed: not before then, in milliseconds
}

func (s *sweep) wanted() bool {
	return s.retry == 0 && (s.unlisted || len(s.ids) >= max(s.at, sweepBatch))
}

// due lets a sweep that has failed try again.
func (s *sweep) due(now int64) {
	if s.retry > 0 && s.retry <= now {
		s.retry = 0
	}
}

// settledLocked notes that the verdict on a half is on disk: its marker may go.
func (c *Coordinator) settledLocked(h *half) {
	d := h.of.resource()
	if d == nil || len(d.sweep.ids) >= sweepMost {
		return
	}
	d.sweep.ids = append(d.sweep.ids, message.HalfID(h.handle()))
	if d.sweep.wanted() {
		c.hireLocked(d)
	}
}

// sweepLocked removes markers that nobody will ask for any more. It gives up mu
// meanwhile.
func (c *Coordinator) sweepLocked(d *decider) {
	s := &d.sweep
	ids, list := s.ids, s.unlisted
	s.ids, s.unlisted = nil, false
	c.mu.Unlock()
	err := c.clean(c.background, d.resource, ids, list)
	c.mu.Lock()
	if err == nil {
		return
	}
	s.ids, s.unlisted = append(ids, s.ids...), s.unlisted || list
	s.retry = c.now() + c.o.Interval.Milliseconds()
	c.nudgeLocked()
	if c.background.Err() == nil {
		c.o.Logger.Warn("markers could not be removed; it is tried again", "group", d.of.name, "error", err)
	}
}

// clean removes the markers of ids, and with list also those that an earlier
// process left.
func (c *Coordinator) clean(ctx context.Context, r Resource, ids []message.HalfID, list bool) error {
	if list {
		left, err := c.leftover(ctx, r)
		if err != nil {
			return err
		}
		ids = append(ids, left...)
	}
	for len(ids) > 0 {
		n := min(len(ids), sweepBatch)
		if err := r.Forget(ctx, ids[:n]); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// leftover are the markers of halves that are not pending. A marker is written
// after its half was applied, so one that is unknown here has ended.
func (c *Coordinator) leftover(ctx context.Context, r Resource) (ids []message.HalfID, err error) {
	for id, err := range r.Markers(ctx) {
		if err != nil {
			return nil, err
		}
		how, err := c.Halves().State(id)
		if err == nil && how != message.Undecided && how != message.GivenUp || errors.Is(err, message.ErrNotFound) {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 && c.o.Sync != nil {
		// A verdict that was applied may not be on disk yet.
		if err := c.o.Sync(ctx); err != nil {
			return nil, err
		}
	}
	return ids, nil
}
