package group

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/embermq/embermq/message"
)

// Membership is one member's seat in its group.
type Membership struct {
	c      *Coordinator
	g      *group
	member Member
	joined time.Time
	unbind func() bool   // lets go of Join's context
	done   chan struct{} // closed when the seat is over
	wake   chan struct{} // something waits for Next

	// The rest is guarded by Coordinator.mu.

	// subs is what the member wants, which may be ahead of the group's.
	subs map[string]string
	// held has every holding of the member that is not gone.
	held    map[message.Queue]*holding
	seat    *holding
	leaving bool
	// undrained counts the claims that were lost while leaving.
	undrained int
	err       error // why the seat is over; nil while it is not

	// What Next has not told yet. An entry may have gone further since it was
	// put there, so Next looks at its stage.
	given, revoked, lost []*holding
}

// Change is what Next tells a member. Each list is sorted by queue, and a claim
// stands in one of them.
type Change struct {
	// Lost claims count no more: nothing of them can be settled. The member
	// stops their handlers and releases them.
	Lost []Claim
	// Revoked claims still count. The member takes no more messages of them,
	// waits for its handlers and releases them.
	Revoked []Claim
	// Given claims are new. A queue that was revoked or lost may come again at
	// once, under a new claim.
	Given []Claim
}

func (ch *Change) empty() bool { return len(ch.Lost)+len(ch.Revoked)+len(ch.Given) == 0 }

// ID returns the member's name, which the coordinator may have chosen.
func (m *Membership) ID() string { return m.member.ID }

// Group returns the group's name.
func (m *Membership) Group() string { return m.member.Group }

// Done is closed when the seat is over; Err then says why.
func (m *Membership) Done() <-chan struct{} { return m.done }

// Err returns nil while the member has its seat. Afterwards it is
// message.ErrClosed after Leave and Close, the cause of the end of Join's
// context, or message.ErrFenced with its cause after Abandon.
func (m *Membership) Err() error {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return m.err
}

// Claim returns the claim on the seat itself, for work that is not bound to a
// queue. A Fence ends it; ask again for the next.
func (m *Membership) Claim() Claim {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return m.seat.public()
}

// Next waits for a change. It returns ctx's error when ctx ends, and what Err
// returns once the seat is over: then all claims are.
func (m *Membership) Next(ctx context.Context) (Change, error) {
	for {
		ch, err := m.take()
		if err != nil || !ch.empty() {
			return ch, err
		}
		select {
		case <-m.wake:
		case <-m.done:
		case <-ctx.Done():
			return Change{}, ctx.Err()
		}
	}
}

func (m *Membership) take() (ch Change, err error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.err != nil {
		return Change{}, m.err
	}
	for _, h := range m.lost {
		ch.Lost = append(ch.Lost, h.public())
	}
	for _, h := range m.revoked {
		if h.stage == draining && !h.told {
			ch.Revoked = append(ch.Revoked, h.public())
		}
	}
	for _, h := range m.given {
		if h.stage == offered {
			h.stage = held
			ch.Given = append(ch.Given, h.public())
		}
	}
	m.given, m.revoked, m.lost = nil, nil, nil
	for _, ks := range [][]Claim{ch.Lost, ch.Revoked, ch.Given} {
		slices.SortFunc(ks, func(a, b Claim) int { return compare(a.Queue, b.Queue) })
	}
	return ch, nil
}

func compare(a, b message.Queue) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID))
}

// Release gives claims back: no handler works under them any more, and they end
// now. The queues go to whoever the plan names; one that the plan leaves with
// this member comes again under a new claim. A claim that is over already, or is
// not this member's, is ignored.
func (m *Membership) Release(ks ...Claim) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	var hs []*holding
	for _, k := range ks {
		h := m.held[k.Queue]
		k.h = nil
		if h == nil || h.claim != k || h.stage == offered {
			continue
		}
		hs = append(hs, h)
		m.c.tellQueueLocked(Released, m, k.Queue)
	}
	for _, h := range hs {
		if h.stage != gone { // named twice
			m.c.mu.count.released++
			m.c.freeLocked(h)
		}
	}
}

// Leave revokes all the member's queues and waits until they are released; Next
// goes on telling meanwhile and returns message.ErrClosed in the end. What is
// still held when ctx ends, or when the drain limit has passed, is lost, and
// Leave returns ctx's error or message.ErrFenced. Once it has returned the
// member is out. Leaving twice returns nil.
func (m *Membership) Leave(ctx context.Context) error {
	m.c.leave(m)
	cause := message.ErrFenced
	select {
	case <-m.done:
	case <-ctx.Done():
		cause = ctx.Err()
		m.c.end(m, message.ErrClosed)
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.undrained > 0 {
		return fmt.Errorf("group: member %s left with %d queues undrained: %w", m.member.ID, m.undrained, cause)
	}
	return nil
}

func (c *Coordinator) leave(m *Membership) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.err != nil || m.leaving {
		return
	}
	m.leaving = true
	for _, h := range m.held {
		c.revokeLocked(h)
	}
	c.changedLocked(m.g)
	if len(m.held) == 0 {
		c.endLocked(m, message.ErrClosed)
	}
}

// Abandon gives the seat up at once, without a drain, because a handler hangs or
// the member cannot go on. Every claim is lost, and the queues go to others.
func (m *Membership) Abandon(cause error) {
	err := fmt.Errorf("group: member %s of %s gave up: %w", m.member.ID, m.member.Group, message.ErrFenced)
	if cause != nil {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	m.c.end(m, err)
}

// Resubscribe changes what the member subscribes to. A lone member's change
// takes effect at once. In a group of several the old subscriptions stay in
// force until every member has asked for the same new ones; a member that asks
// for others meanwhile gets a *ConflictError, and asking for those in force
// withdraws. A guest's error is message.ErrUnsupported, and everybody's is Err's
// once the seat is over.
func (m *Membership) Resubscribe(subs map[string]string) error {
	if m.member.Guest {
		return fmt.Errorf("group: guest %s of %s subscribes: %w", m.member.ID, m.member.Group, message.ErrUnsupported)
	}
	own, err := subscriptions(subs)
	if err != nil {
		return err
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if _, changes := differ(own, m.g.subs); changes {
		if err := m.disputeLocked(own); err != nil {
			return err
		}
	}
	m.subs = own
	m.c.agreeLocked(m.g)
	return nil
}

// disputeLocked looks for a member that wants a change to something else.
func (m *Membership) disputeLocked(own map[string]string) error {
	for id, o := range m.g.members {
		if _, changes := differ(o.subs, m.g.subs); o == m || o.leaving || o.member.Guest || !changes {
			continue
		}
		if topic, found := differ(own, o.subs); found {
			return &ConflictError{Group: m.g.name, Member: m.member.ID, Other: id,
				What: "subscription to " + topic, Want: own[topic], Have: o.subs[topic]}
		}
	}
	return nil
}

// agreeLocked puts new subscriptions in force once all members want them.
func (c *Coordinator) agreeLocked(g *group) {
	var wanted map[string]string
	for _, m := range g.members {
		if m.leaving || m.member.Guest {
			continue
		}
		if wanted == nil {
			wanted = m.subs
		} else if _, found := differ(wanted, m.subs); found {
			return
		}
	}
	if wanted == nil {
		return
	}
	if _, changes := differ(wanted, g.subs); changes {
		g.subs = wanted
		c.changedLocked(g)
	}
}

// end takes a member out unless it is out.
func (c *Coordinator) end(m *Membership, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(m, err)
}

func (c *Coordinator) endLocked(m *Membership, err error) {
	if m.err != nil {
		return
	}
	m.err = err
	m.unbind()
	g := m.g
	delete(g.members, m.member.ID)
	m.seat.fence()
	for _, h := range m.held {
		if h.stage == offered {
			continue
		}
		if m.leaving {
			m.undrained++
		}
		c.tellLostLocked(h)
	}
	for _, h := range m.held {
		c.freeLocked(h)
	}
	m.given, m.revoked, m.lost = nil, nil, nil
	close(m.done)
	c.tellLocked(Event{Kind: Left, Group: g.name, Member: m.member.ID, Err: err})
	if len(g.members) == 0 {
		delete(c.mu.groups, g.name)
		delete(c.mu.retries, g)
		g.version++
		return
	}
	c.agreeLocked(g)
	c.changedLocked(g)
}

func (m *Membership) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}
