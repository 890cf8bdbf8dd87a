package txn

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/embermq/embermq/message"
)

const never = math.MaxInt64

// longSleep is how long the driver sleeps at most while something is pending: so
// long it may overlook a clock that was set forward.
const longSleep = time.Minute

// driveLocked starts the driver when there is somebody to ask.
func (c *Coordinator) driveLocked() {
	m := &c.mu
	if m.driving || !m.started || m.closed || c.o.Manual {
		return
	}
	for _, g := range m.groups {
		if len(g.deciders) > 0 {
			m.driving = true
			c.appends.Go(c.drive)
			return
		}
	}
}

// drive is the driver goroutine: it hands halves that are due to deciders. With
// nothing due it does not wake at all.
func (c *Coordinator) drive() {
	for c.background.Err() == nil {
		worked := c.round()
		if worked {
			continue
		}
		c.sleep()
	}
}

func (c *Coordinator) sleep() {
	now := c.now()
	c.mu.Lock()
	at := c.nextLocked()
	c.mu.sleeping = at
	c.mu.Unlock()
	var due <-chan time.Time
	if at != never {
		d := time.Duration(min(max(0, at-now), longSleep.Milliseconds())) * time.Millisecond
		timer, stop := c.o.Clock.After(d)
		defer stop()
		due = timer
	}
	select {
	case <-due:
	case <-c.wake:
	case <-c.background.Done():
	}
}

// nextLocked is when something is to be done, in milliseconds.
func (c *Coordinator) nextLocked() int64 {
	at := int64(never)
	for _, g := range c.mu.groups {
		free := false
		for _, d := range g.deciders {
			free = free || d.free()
			for _, asks := range [][]*ask{d.queue, d.running} {
				for _, a := range asks {
					at = min(at, a.at+c.o.Interval.Milliseconds())
				}
			}
			if d.sweep.retry > 0 {
				at = min(at, d.sweep.retry)
			}
		}
		if first, ok := g.due.Min(); ok && free {
			at = min(at, first.next)
		}
	}
	return at
}

// round hands out what is due. worked says that there may be more.
func (c *Coordinator) round() (worked bool) {
	type job struct {
		h *half
		w *work
	}
	var over []job
	now := c.now()
	c.mu.Lock()
	if !c.mu.started || c.mu.closed {
		c.mu.Unlock()
		return false
	}
	for _, g := range c.mu.groups {
		for _, d := range g.deciders {
			c.overdueLocked(d, now)
			d.sweep.due(now)
			if d.sweep.wanted() {
				c.hireLocked(d)
			}
		}
		for len(g.deciders) > 0 && len(over) < carryMost {
			first, ok := g.due.Min()
			if !ok || first.next > now {
				break
			}
			h := first.h
			if int(h.checks) >= c.o.MaxChecks && g.resource() == nil {
				w := works.Get().(*work)
				c.claimLocked(h, &w.op)
				over = append(over, job{h, w})
				continue
			}
			d := g.pick()
			if d == nil {
				break
			}
			c.askLocked(d, h, now)
			worked = true
		}
	}
	c.mu.Unlock()
	for _, j := range over {
		c.giveUp(j.h, j.w)
	}
	return worked || len(over) > 0
}

// giveUp puts a half aside.
func (c *Coordinator) giveUp(h *half, w *work) {
	c.mu.Lock()
	h.next = c.now() + c.o.Interval.Milliseconds() // if it fails
	c.mu.Unlock()
	a := c.end(h, w, message.GivenUp)
	switch {
	case a.err == nil:
		c.o.Logger.Warn("a half was given up: nobody could say what has become of it", "half", h.handle(), "group", h.group, "queue", h.real.String())
	case errors.Is(a.err, message.ErrClosed):
	default:
		c.counts.failed.Add(1)
		c.o.Logger.Error("a half could not be given up", "half", h.handle(), "error", a.err)
	}
}

// overdueLocked stops waiting for answers that take too long, and has others
// asked.
func (c *Coordinator) overdueLocked(d *decider, now int64) {
	limit := now - c.o.Interval.Milliseconds()
	for _, asks := range [][]*ask{d.running, d.queue} {
		for i := len(asks) - 1; i >= 0; i-- { // abandoning removes it from the list
			if a := asks[i]; a != nil && a.at <= limit {
				c.abandonLocked(d, a, now)
			}
		}
	}
}

// Step does what is due now, the questions included, and returns whether there
// was anything. It is for a Coordinator that is Manual.
func (c *Coordinator) Step(ctx context.Context) (worked bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	worked = c.round()
	c.mu.Lock()
	defer c.mu.Unlock()
	var ds []*decider
	for _, g := range c.mu.groups {
		ds = append(ds, g.deciders...)
	}
	for _, d := range ds {
		for !c.mu.closed && c.toil(d) {
			worked = true
		}
	}
	return worked, nil
}

// Next is when Step has something to do.
func (c *Coordinator) Next() (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ms := c.nextLocked()
	return timeOf(ms), ms != never
}
