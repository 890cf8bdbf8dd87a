package group

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/embermq/embermq/message"
)

// Waits before a failed plan is tried again: doubled each time.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
)

// changedLocked makes plans in the making worthless and asks for a new one.
func (c *Coordinator) changedLocked(g *group) {
	g.version++
	c.planLocked(g)
}

// planLocked asks for a plan. The goroutine ends when no plan is wanted.
func (c *Coordinator) planLocked(g *group) {
	g.dirty = true
	delete(c.mu.retries, g)
	if g.planning || c.mu.closed {
		return
	}
	g.planning = true
	c.workers.Go(func() {
		for {
			d := c.beginPlan(g)
			if d == nil {
				return
			}
			d.make(c)
			c.applyPlan(g, d)
		}
	})
}

// draft is a plan in the making: what it starts from and what came out. It is
// made without a lock, because strategies are user code.
type draft struct {
	group   string
	version uint64
	mode    Mode
	subs    map[string]string
	members []*Membership // sorted by ID, without guests and those who leave
	ids     []string

	epoch  uint64
	target map[slot]*Membership
	slots  int              // queues that somebody should hold
	failed map[string]error // topic → why its old plan stays

	// What strategies are lent: restored before each call, since user code may
	// have written to it.
	lentQueues  []message.Queue
	lentMembers []string
}

func (c *Coordinator) beginPlan(g *group) *draft {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !g.dirty || c.mu.closed || len(g.members) == 0 {
		g.planning = false
		return nil
	}
	g.dirty = false
	d := &draft{group: g.name, version: g.version, mode: g.mode, subs: g.subs}
	for _, m := range g.members {
		if !m.leaving && !m.member.Guest {
			d.members = append(d.members, m)
		}
	}
	slices.SortFunc(d.members, func(a, b *Membership) int { return strings.Compare(a.member.ID, b.member.ID) })
	for _, m := range d.members {
		d.ids = append(d.ids, m.member.ID)
	}
	return d
}

func (d *draft) make(c *Coordinator) {
	d.epoch = c.o.Epoch(d.group)
	d.target, d.failed = make(map[slot]*Membership), make(map[string]error)
	if len(d.members) == 0 {
		return
	}
	for _, topic := range slices.Sorted(maps.Keys(d.subs)) {
		qs := make([]message.Queue, max(0, c.o.Queues(topic)))
		for i := range qs {
			qs[i] = message.Queue{Topic: topic, ID: int32(i)}
		}
		if len(qs) == 0 {
			continue
		}
		d.slots += len(qs)
		if d.mode != Clustering {
			d.slots += len(qs) * (len(d.members) - 1)
			d.giveAll(qs)
			continue
		}
		if err := d.share(qs); err != nil {
			d.failed[topic] = err
		}
	}
}

func (d *draft) giveAll(qs []message.Queue) {
	for _, m := range d.members {
		for _, q := range qs {
			d.target[slot{q, m.member.ID}] = m
		}
	}
}

// share asks every member's strategy about one topic. The topic's plan counts
// only as a whole.
func (d *draft) share(qs []message.Queue) error {
	who := make([]*Membership, len(qs))
	for _, m := range d.members {
		mine, err := d.ask(m, qs)
		if err != nil {
			return err
		}
		for _, q := range mine {
			if q.Topic != qs[0].Topic || q.ID < 0 || int(q.ID) >= len(qs) {
				return m.blame("named the foreign queue %s", q)
			}
			if o := who[q.ID]; o != nil {
				return m.blame("gave queue %s twice, to %s and to %s", q, o.member.ID, m.member.ID)
			}
			who[q.ID] = m
		}
	}
	for i, m := range who {
		if m != nil {
			d.target[slot{queue: qs[i]}] = m
		}
	}
	return nil
}

func (d *draft) ask(m *Membership, qs []message.Queue) (mine []message.Queue, err error) {
	d.lentQueues = append(d.lentQueues[:0], qs...)
	d.lentMembers = append(d.lentMembers[:0], d.ids...)
	defer func() {
		if p := recover(); p != nil {
			err = m.blame("panicked: %v", p)
		}
	}()
	mine, err = m.member.Strategy.Allocate(d.group, m.member.ID, d.lentQueues, d.lentMembers)
	if err != nil {
		return nil, fmt.Errorf("group: strategy of member %s of %s: %w", m.member.ID, d.group, err)
	}
	return mine, nil
}

func (m *Membership) blame(format string, args ...any) error {
	return fmt.Errorf("group: strategy of member %s of %s "+format,
		append([]any{m.member.ID, m.member.Group}, args...)...)
}

// applyPlan puts a plan in force unless it is out of date; then the change that
// made it so has asked for another.
func (c *Coordinator) applyPlan(g *group, d *draft) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.version != d.version || c.mu.closed {
		return
	}
	for s, m := range g.target {
		// Who is gone gets nothing anyway, but would stay in memory as long as
		// the strategy fails.
		if d.failed[s.queue.Topic] != nil && m.present() {
			d.target[s] = m
		}
	}
	g.target, g.slots, g.epoch, g.frozen = d.target, d.slots, d.epoch, false
	for _, m := range g.members {
		if m.seat.claim.Epoch != d.epoch || !m.seat.live.Load() {
			m.seat.fence()
			c.seatLocked(m, d.epoch)
		}
	}
	c.mu.count.plans++
	c.failedLocked(g, d.failed)
	c.reconcileLocked(g)
}

func (m *Membership) present() bool { return m.err == nil && !m.leaving }

func (c *Coordinator) failedLocked(g *group, failed map[string]error) {
	if len(failed) == 0 {
		g.failures = 0
		return
	}
	for _, topic := range slices.Sorted(maps.Keys(failed)) {
		err := failed[topic]
		c.mu.count.failures++
		c.mu.count.lastFailure = err
		c.o.Logger.Warn("group: the old assignment stays", "group", g.name, "topic", topic, "error", err)
		c.tellLocked(Event{Kind: Failed, Group: g.name, Topic: topic, Err: err})
	}
	wait := min(retryFirst<<min(g.failures, 10), retryMost)
	g.failures++
	c.mu.retries[g] = c.o.Clock.Now().Add(wait)
	c.waitLocked()
}

// reconcileLocked revokes what the plan gives to somebody else and gives what
// nobody holds.
func (c *Coordinator) reconcileLocked(g *group) {
	for s, h := range g.holders {
		if g.target[s] != h.m {
			c.revokeLocked(h)
		}
	}
	for s := range g.target {
		if g.holders[s] == nil {
			c.giveLocked(g, s)
		}
	}
}
