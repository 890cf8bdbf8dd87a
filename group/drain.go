package group

import (
	"time"

	"github.com/embermq/embermq/message"
)

// giveLocked gives a slot that nobody holds to whom the plan names, if anybody.
func (c *Coordinator) giveLocked(g *group, s slot) {
	m := g.target[s]
	if m == nil || !m.present() || g.frozen {
		return
	}
	h := c.claimLocked(m, s, g.epoch)
	g.holders[s] = h
	m.held[s.queue] = h
	m.given = append(m.given, h)
	m.nudge()
	c.mu.count.given++
	c.tellQueueLocked(Given, m, s.queue)
}

// claimLocked makes a claim, under a generation of its own.
func (c *Coordinator) claimLocked(m *Membership, s slot, epoch uint64) *holding {
	c.mu.generation++
	h := &holding{slot: s, m: m, claim: Claim{
		Group: m.member.Group, Member: m.member.ID, Queue: s.queue, Generation: c.mu.generation, Epoch: epoch,
	}}
	h.live.Store(true)
	return h
}

// seatLocked gives a member a new claim on its seat.
func (c *Coordinator) seatLocked(m *Membership, epoch uint64) {
	m.seat = c.claimLocked(m, slot{member: m.member.ID}, epoch)
}

// revokeLocked asks the member to release a claim unless it was asked before. A
// claim that Next has not named yet has no handlers and goes at once.
func (c *Coordinator) revokeLocked(h *holding) {
	switch h.stage {
	case offered:
		c.freeLocked(h)
	case held:
		h.m.revoked = append(h.m.revoked, h)
		c.drainLocked(h)
		c.mu.count.revoked++
		c.tellQueueLocked(Revoked, h.m, h.slot.queue)
	}
}

// loseLocked ends a claim's validity, but not yet the hold on the slot: while
// its handlers may run, nobody else gets the queue before the limit.
func (c *Coordinator) loseLocked(h *holding) {
	if h.stage == offered {
		c.freeLocked(h)
		return
	}
	h.fence()
	if h.stage == held {
		c.drainLocked(h)
	}
	c.tellLostLocked(h)
}

// tellLostLocked puts a claim into the list of Next, once.
func (c *Coordinator) tellLostLocked(h *holding) {
	if h.told {
		return
	}
	h.told = true
	h.m.lost = append(h.m.lost, h)
	h.m.nudge()
	c.mu.count.lost++
	c.tellQueueLocked(Lost, h.m, h.slot.queue)
}

func (c *Coordinator) drainLocked(h *holding) {
	h.stage = draining
	h.due = c.o.Clock.Now().Add(h.m.member.DrainLimit)
	h.m.nudge()
	c.mu.draining[h] = struct{}{}
	c.waitLocked()
}

// freeLocked ends a claim and its hold on the slot, which goes to whom the plan
// names. A member that leaves is out with its last one.
func (c *Coordinator) freeLocked(h *holding) {
	h.fence()
	h.stage = gone
	g, m := h.m.g, h.m
	delete(g.holders, h.slot)
	delete(m.held, h.slot.queue)
	delete(c.mu.draining, h)
	c.giveLocked(g, h.slot)
	if m.leaving && m.err == nil && len(m.held) == 0 {
		c.endLocked(m, message.ErrClosed)
	}
}

// waitLocked sees to it that a goroutine looks at the limits and retries.
func (c *Coordinator) waitLocked() {
	if c.mu.closed {
		return
	}
	if c.mu.waiting {
		select {
		case c.kick <- struct{}{}:
		default:
		}
		return
	}
	c.mu.waiting = true
	c.workers.Go(func() {
		for {
			d, more := c.expire()
			if !more {
				return
			}
			due, stop := c.o.Clock.After(d)
			select {
			case <-due:
			case <-c.kick:
			case <-c.ended:
			}
			stop()
		}
	})
}

// expire takes claims from members that did not release them in time and
// returns how long to wait for the next limit.
func (c *Coordinator) expire() (wait time.Duration, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.o.Clock.Now()
	var next time.Time
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	var late []*holding
	for h := range c.mu.draining {
		if now.Before(h.due) {
			sooner(h.due)
			continue
		}
		late = append(late, h)
		if h.m.leaving {
			h.m.undrained++
		}
		c.tellLostLocked(h)
	}
	for _, h := range late {
		c.freeLocked(h)
	}
	for g, at := range c.mu.retries {
		if now.Before(at) {
			sooner(at)
			continue
		}
		c.planLocked(g)
	}
	if next.IsZero() || c.mu.closed {
		c.mu.waiting = false
		return 0, false
	}
	return next.Sub(now), true
}
