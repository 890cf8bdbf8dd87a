package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/embermq/embermq/message"
)

// DefaultDrainLimit is how long a member may keep a revoked queue.
const DefaultDrainLimit = 15 * time.Minute

// Clock tells the time and wakes its caller later.
type Clock interface {
	Now() time.Time
	// After delivers one value after d; stop releases it early.
	After(d time.Duration) (c <-chan time.Time, stop func())
}

// Options of New. Queues and Clock are needed.
type Options struct {
	// Queues returns how many queues of a topic can be read: 0 to n-1. Zero is
	// for a topic that does not exist; Refresh tells when that changes. It is
	// called without a lock.
	Queues func(topic string) int
	// Epoch returns a group's epoch; nil is always 0. It is called without a
	// lock. Whoever raises an epoch calls Fence afterwards.
	Epoch func(group string) uint64
	Clock Clock
	// DrainLimit is how long a member may keep a revoked queue before it loses
	// it; 15 minutes.
	DrainLimit time.Duration
	// Logger hears of strategies and listeners that fail; silent when nil.
	Logger *slog.Logger
}

func (o *Options) normalise() error {
	var errs []error
	if o.Queues == nil {
		errs = append(errs, errors.New("group: options: Queues is missing"))
	}
	if o.Clock == nil {
		errs = append(errs, errors.New("group: options: Clock is missing"))
	}
	if o.DrainLimit < 0 {
		errs = append(errs, errors.New("group: options: DrainLimit is negative"))
	}
	if o.DrainLimit == 0 {
		o.DrainLimit = DefaultDrainLimit
	}
	if o.Epoch == nil {
		o.Epoch = func(string) uint64 { return 0 }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

// Coordinator knows the members of all groups and what each may work on.
type Coordinator struct {
	o       Options
	refused atomic.Int64 // stale claims that were turned away

	ended   chan struct{} // closed by Close
	kick    chan struct{} // the drain goroutine looks at its list again
	workers sync.WaitGroup

	mu struct {
		sync.Mutex
		closed bool
		groups map[string]*group // only those with members
		// generation is the last one given to a claim.
		generation uint64
		names      uint64 // members that were named by the coordinator

		// draining holds what has a drain limit, and retries what has failed
		// plans; waiting tells that a goroutine looks after both.
		draining map[*holding]struct{}
		retries  map[*group]time.Time
		waiting  bool

		news  news
		count counts
	}
}

// group is one group with members. It is guarded by Coordinator.mu.
type group struct {
	name     string
	mode     Mode
	strategy string
	// subs is in force: what the members joined with, or agreed on since. It is
	// replaced, never changed.
	subs    map[string]string
	members map[string]*Membership

	// target is the plan in force, holders what is true now. A reconcile makes
	// the second follow the first as far as drains allow.
	// Invariant: a holding that is not gone stands in holders under its slot,
	// so a slot with a holder is never given.
	target  map[slot]*Membership
	holders map[slot]*holding
	slots   int // queues that the plan looked at

	// version counts what makes a plan in the making worthless.
	version  uint64
	dirty    bool // a plan is wanted
	planning bool // a goroutine makes plans
	// frozen stops giving from the moment the epoch may have risen until a plan
	// has read it again.
	frozen   bool
	epoch    uint64
	failures int // plans in a row with a topic that failed
}

// New returns a coordinator without members.
func New(o Options) (*Coordinator, error) {
	if err := o.normalise(); err != nil {
		return nil, err
	}
	c := &Coordinator{o: o, ended: make(chan struct{}), kick: make(chan struct{}, 1)}
	c.mu.groups = make(map[string]*group)
	c.mu.draining = make(map[*holding]struct{})
	c.mu.retries = make(map[*group]time.Time)
	return c, nil
}

// Join takes a member into its group. The seat lasts until Leave, Abandon or
// the end of ctx; when ctx ends, the member loses everything at once and without
// a drain, so handlers that should finish need Leave. What the member may work
// on arrives through Next.
//
// The first member that is no guest decides the group's mode, strategy and
// subscriptions. One that differs gets a *ConflictError, one whose ID is taken
// message.ErrExists.
func (c *Coordinator) Join(ctx context.Context, w Member) (*Membership, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := w.normalise(); err != nil {
		return nil, err
	}
	strategy, err := strategyName(w.Strategy)
	if err != nil {
		return nil, err
	}
	if w.DrainLimit == 0 {
		w.DrainLimit = c.o.DrainLimit
	}
	epoch := c.o.Epoch(w.Group)

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil, message.ErrClosed
	}
	g := c.mu.groups[w.Group]
	if w.ID == "" {
		w.ID = c.nameLocked(g)
	}
	if g == nil {
		g = &group{
			name: w.Group, mode: w.Mode, strategy: strategy, subs: w.Subscriptions,
			members: make(map[string]*Membership),
			target:  make(map[slot]*Membership), holders: make(map[slot]*holding),
		}
		c.mu.groups[g.name] = g
	} else if err := g.accepts(&w, strategy); err != nil {
		return nil, err
	}
	m := &Membership{
		c: c, g: g, member: w, joined: c.o.Clock.Now(), subs: w.Subscriptions,
		held: make(map[message.Queue]*holding), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	c.seatLocked(m, epoch)
	g.members[w.ID] = m
	// The function runs in a goroutine of its own, never inside this lock.
	m.unbind = context.AfterFunc(ctx, func() {
		c.end(m, fmt.Errorf("group: member %s of %s: %w", w.ID, w.Group, context.Cause(ctx)))
	})
	c.tellLocked(Event{Kind: Joined, Group: g.name, Member: w.ID})
	c.changedLocked(g)
	return m, nil
}

func (c *Coordinator) nameLocked(g *group) string {
	for {
		c.mu.names++
		id := "member-" + strconv.FormatUint(c.mu.names, 10)
		if g == nil || g.members[id] == nil {
			return id
		}
	}
}

// accepts compares a member with the group it wants to join, unless it may decide
// what the group is.
func (g *group) accepts(w *Member, strategy string) error {
	if g.members[w.ID] != nil {
		return fmt.Errorf("group: member %s of %s: %w", w.ID, g.name, message.ErrExists)
	}
	if w.Guest {
		return nil
	}
	e := &ConflictError{Group: g.name, Member: w.ID, Other: g.anyone("")}
	if e.Other == "" { // nobody but guests
		g.mode, g.strategy, g.subs = w.Mode, strategy, w.Subscriptions
		return nil
	}
	if g.mode != w.Mode {
		e.What, e.Want, e.Have = "mode", w.Mode.String(), g.mode.String()
		return e
	}
	if g.strategy != strategy {
		e.What, e.Want, e.Have = "strategy", strategy, g.strategy
		return e
	}
	if topic, found := differ(w.Subscriptions, g.subs); found {
		e.What, e.Want, e.Have = "subscription to "+topic, w.Subscriptions[topic], g.subs[topic]
		return e
	}
	return nil
}

// anyone returns the first member in order besides one, and no guest.
func (g *group) anyone(besides string) string {
	first := ""
	for id, m := range g.members {
		if id != besides && !m.member.Guest && (first == "" || id < first) {
			first = id
		}
	}
	return first
}

// Refresh looks at the number of queues of topics again, or of all topics when
// none is named. Whoever creates a topic or changes its queues calls it. It
// returns before the new plans are made.
func (c *Coordinator) Refresh(topics ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.mu.groups {
		wanted := len(topics) == 0
		for _, topic := range topics {
			_, reads := g.subs[topic]
			wanted = wanted || reads
		}
		if wanted {
			c.planLocked(g)
		}
	}
}

// Fence ends every claim of a group at once, without a drain, because its epoch
// was raised: nothing that was claimed before may be settled any more. The
// members are told through Change.Lost and get their queues again, under the new
// epoch, once they have released them or the drain limit has passed.
func (c *Coordinator) Fence(group string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.mu.groups[group]
	if g == nil {
		return
	}
	g.frozen = true
	for _, h := range g.holders {
		c.loseLocked(h)
	}
	for _, m := range g.members {
		m.seat.fence()
	}
	c.changedLocked(g)
}

// Close ends every membership without a drain and waits for the goroutines, a
// running strategy or listener included, so neither may call it. Next and Join
// return message.ErrClosed afterwards. A second Close returns nil too.
func (c *Coordinator) Close() error {
	c.mu.Lock()
	if !c.mu.closed {
		c.mu.closed = true
		close(c.ended)
		for _, g := range c.mu.groups {
			for _, m := range g.members {
				c.endLocked(m, message.ErrClosed)
			}
		}
		clear(c.mu.retries)
	}
	c.mu.Unlock()
	c.workers.Wait()
	return nil
}
