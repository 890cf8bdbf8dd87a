package txn

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/embermq/embermq/message"
)

// Defaults of message.CheckOptions.
const (
	DefaultWorkers = 1
	DefaultQueue   = 2000
)

// decider is a checker or a resource of a group, with its workers. All but the
// first fields is guarded by Coordinator.mu.
type decider struct {
	of       *group
	check    message.Checker
	resource Resource // instead of check
	o        message.CheckOptions

	wake    *sync.Cond // a worker may have something to do
	queue   []*ask     // wait for a worker
	running []*ask     // are being asked, and not overdue
	overdue int        // are being asked for too long
	workers int
	idle    int // workers that wait
	stopped bool
	sweep   sweep
}

// ask is one question about one half.
type ask struct {
	h         *half
	at        int64 // when it began to wait for a worker, then for the answer
	abandoned bool  // somebody else may be asked
	cancel    context.CancelFunc
}

// OnCheck registers a checker for a producer group. Several of a group take
// turns. The returned function takes it back: it is asked nothing new then, and
// contexts of questions under way end; an answer that still comes counts.
//
// The error is an *InvalidError for options out of range, a *NameError for a group
// that cannot be one, or message.ErrClosed.
func (t *Halves) OnCheck(group string, check message.Checker, o message.CheckOptions) (stop func(), err error) {
	if check == nil {
		return nil, &message.InvalidError{Field: "Checker", Reason: "is nil"}
	}
	return t.c.register(group, &decider{check: check, o: o})
}

func (c *Coordinator) register(name string, d *decider) (stop func(), err error) {
	if err := message.CheckGroup(name); err != nil {
		return nil, err
	}
	if d.o, err = fillCheck(d.o); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil, fmt.Errorf("txn: %w", message.ErrClosed)
	}
	g := c.groupLocked(name)
	if d.resource != nil && g.resource() != nil {
		return nil, fmt.Errorf("txn: resource of group %s: %w", name, message.ErrExists)
	}
	d.of, d.wake = g, sync.NewCond(&c.mu.Mutex)
	g.deciders = append(g.deciders, d)
	c.driveLocked()
	c.nudgeLocked()
	return func() { c.unregister(d) }, nil
}

func fillCheck(o message.CheckOptions) (message.CheckOptions, error) {
	if o.MaxWorkers == 0 {
		o.MaxWorkers = max(o.MinWorkers, DefaultWorkers)
	}
	if o.MinWorkers == 0 {
		o.MinWorkers = DefaultWorkers
	}
	if o.Queue == 0 {
		o.Queue = DefaultQueue
	}
	if o.MinWorkers < 0 || o.MaxWorkers < o.MinWorkers || o.Queue < 0 {
		return o, &message.InvalidError{Field: "CheckOptions", Reason: "negative, or more workers kept than there may be"}
	}
	return o, nil
}

func (c *Coordinator) unregister(d *decider) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.stopped {
		return
	}
	d.stopped = true
	g := d.of
	g.deciders = slices.DeleteFunc(g.deciders, func(o *decider) bool { return o == d })
	for _, a := range slices.Concat(d.queue, d.running) {
		c.abandonLocked(d, a, c.now())
	}
	d.wake.Broadcast()
	c.nudgeLocked()
	c.leaveLocked(g)
}

func (g *group) resource() *decider {
	for _, d := range g.deciders {
		if d.resource != nil {
			return d
		}
	}
	return nil
}

// free says whether a decider can be asked now.
func (d *decider) free() bool { return len(d.queue) < d.o.Queue && d.overdue < d.o.MaxWorkers }

// pick chooses who is asked next: the resource if there is one, else the checkers
// take turns.
func (g *group) pick() *decider {
	if d := g.resource(); d != nil {
		if d.free() {
			return d
		}
		return nil
	}
	for range g.deciders {
		d := g.deciders[g.turn%len(g.deciders)]
		g.turn++
		if d.free() {
			return d
		}
	}
	return nil
}

// askLocked has a decider asked about a half.
func (c *Coordinator) askLocked(d *decider, h *half, now int64) {
	c.notDueLocked(h)
	h.asked = &ask{h: h, at: now}
	d.queue = append(d.queue, h.asked)
	c.hireLocked(d)
}

// hireLocked sees to it that a worker looks at the decider's work.
func (c *Coordinator) hireLocked(d *decider) {
	switch {
	case c.o.Manual || c.mu.closed:
	case d.idle > 0:
		d.wake.Signal()
	case d.workers < d.o.MaxWorkers:
		d.workers++
		c.workers.Go(func() { c.work(d) })
	}
}

// work asks one decider until it is stopped, or there is nothing left to ask and
// enough other workers stay.
func (c *Coordinator) work(d *decider) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { d.workers-- }()
	for !c.mu.closed {
		if c.toil(d) {
			continue
		}
		if d.stopped || d.workers > d.o.MinWorkers {
			return
		}
		d.idle++
		d.wake.Wait()
		d.idle--
	}
}

// toil does one piece of a decider's work; false when there is none. It is called
// with mu held and gives it up meanwhile.
func (c *Coordinator) toil(d *decider) bool {
	switch {
	case len(d.queue) > 0:
		a := d.queue[0]
		d.queue[0] = nil
		d.queue = d.queue[1:]
		a.at = c.now()
		d.running = append(d.running, a)
		ctx, cancel := context.WithCancel(c.background)
		a.cancel = cancel
		h := a.h
		c.mu.Unlock()
		c.counts.asked.Add(1)
		how, counts, err := c.question(ctx, d, h)
		cancel()
		c.heard(d, a, how, counts, err)
		c.mu.Lock()
	case d.sweep.wanted() && !d.stopped:
		c.sweepLocked(d)
	default:
		return false
	}
	return true
}

// question asks. counts says whether an answer that says nothing counts as a
// check.
func (c *Coordinator) question(ctx context.Context, d *decider, h *half) (how message.Decision, counts bool, err error) {
	if d.resource != nil {
		how, err = d.resource.Settle(ctx, message.HalfID(h.handle()))
		if err == nil && how != message.Committed && how != message.RolledBack {
			err = fmt.Errorf("txn: the resource answers %v", how)
		}
		return how, false, err
	}
	m, err := c.read(h)
	if err != nil {
		return message.Undecided, false, err
	}
	defer func() {
		if p := recover(); p != nil {
			how, counts, err = message.Undecided, true, fmt.Errorf("txn: the checker panics: %v\n%s", p, debug.Stack())
		}
	}()
	how, err = d.check(ctx, &m)
	if err != nil || how > message.RolledBack {
		how = message.Undecided
	}
	return how, true, err
}

// heard takes an answer. mu is not held.
func (c *Coordinator) heard(d *decider, a *ask, how message.Decision, counts bool, err error) {
	c.mu.Lock()
	if a.abandoned {
		d.overdue--
	} else {
		d.running = slices.DeleteFunc(d.running, func(o *ask) bool { return o == a })
	}
	h := a.h
	if now := c.mu.ids[h.id]; now != nil {
		h = now // it may have been carried forward
	}
	if h.asked == a {
		h.asked = nil
	}
	now := c.now()
	live := c.mu.at[h.pos] == h && h.state == pending
	wait := c.o.Interval
	if live && how == message.Undecided && counts {
		h.checks++
		c.counts.silent.Add(1)
		c.dirtyLocked(h)
		wait = c.backoff(int(h.checks))
	}
	if live && h.asked == nil && !h.due {
		h.next = now + wait.Milliseconds()
		if how == message.Undecided && h.busy == nil {
			c.dueLocked(h, h.next)
		}
	}
	id := message.HalfID(h.handle())
	c.nudgeLocked() // the decider may be free again
	c.mu.Unlock()
	if err != nil && c.background.Err() == nil {
		c.o.Logger.Warn("a half could not be decided", "half", id, "group", d.of.name, "error", err)
	}
	if !live || how == message.Undecided {
		return
	}
	if a := c.decide(context.Background(), id, how, false); a.err != nil && !errors.Is(a.err, message.ErrNotFound) {
		c.counts.failed.Add(1)
		c.mu.Lock()
		// Whatever it was that failed, the answer is asked for again.
		if c.mu.at[h.pos] == h && h.state == pending && h.asked == nil && h.busy == nil {
			c.dueLocked(h, now+wait.Milliseconds())
		}
		c.mu.Unlock()
		if c.background.Err() == nil {
			c.o.Logger.Error("a verdict could not be written", "half", id, "error", a.err)
		}
	}
}

// backoff is how long after the n-th answer that says nothing a half is asked
// about again.
func (c *Coordinator) backoff(n int) time.Duration {
	d := c.o.Interval
	for ; n > 1 && d < c.o.MaxInterval; n-- {
		d *= 2
	}
	return min(d, c.o.MaxInterval)
}

// abandonLocked gives up on an answer. at is when the half may be asked about
// again.
func (c *Coordinator) abandonLocked(d *decider, a *ask, at int64) {
	is := func(o *ask) bool { return o == a }
	a.abandoned = true
	if a.cancel != nil {
		a.cancel()
		d.running = slices.DeleteFunc(d.running, is)
		d.overdue++
	} else {
		d.queue = slices.DeleteFunc(d.queue, is)
	}
	if h := a.h; h.asked == a {
		h.asked = nil
		if c.mu.at[h.pos] == h && h.busy == nil && h.state == pending {
			c.dueLocked(h, at)
		}
	}
}
