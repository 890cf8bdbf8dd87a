package txn

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// Coordinator knows which halves are pending, writes the verdicts on them, and
// asks for verdicts that do not come.
type Coordinator struct {
	db     DB
	o      Options
	saving sync.Mutex // held by a save; taken before mu
	counts counts

	background context.Context
	stop       context.CancelFunc
	appends    sync.WaitGroup // the driver, and verdicts whose caller has left
	workers    sync.WaitGroup // goroutines in which deciders are asked
	wake       chan struct{}

	mu struct {
		sync.Mutex
		closed, started, driving bool

		// Invariant: every half is in at and in ids. It is in its group's tree
		// unless it was given up, or is busy, or somebody is asked about it.
		at     map[int64]*half // by position
		ids    map[ident]*half
		groups map[string]*group
		// reserved are ids of halves that are being prepared.
		reserved map[ident]bool
		names    map[string]string // of real topics, each once

		// floors are where topics were deleted: halves for them below are dead.
		floors map[string]int64

		fresh    []*half         // changed since the last freeze
		sunk     map[string]bool // floors that changed since
		dead     map[int64]struct{}
		frozen   *frozen
		saved    message.Mark
		isNew    bool // nothing usable was saved
		outcomes outcomes
		sleeping int64 // the driver sleeps until then; an earlier half wakes it
	}
}

// New reads what was saved. Nothing is written. If Saved reports false, Reset
// and a replay from the log's start follow, otherwise a replay from the mark;
// then Start.
func New(db DB, o Options) (*Coordinator, error) {
	if err := o.normalise(); err != nil {
		return nil, err
	}
	c := &Coordinator{db: db, o: o, wake: make(chan struct{}, 1)}
	c.background, c.stop = context.WithCancel(context.Background())
	c.clearLocked()
	if err := c.load(); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// clearLocked makes the empty state. Deciders stay.
func (c *Coordinator) clearLocked() {
	m := &c.mu
	m.at, m.ids = make(map[int64]*half), make(map[ident]*half)
	if m.groups == nil {
		m.groups, m.reserved = make(map[string]*group), make(map[ident]bool)
	}
	for _, g := range m.groups {
		g.due, g.halves = newTree(), 0
	}
	m.names = make(map[string]string)
	m.floors, m.sunk = make(map[string]int64), make(map[string]bool)
	m.fresh, m.dead, m.frozen = nil, make(map[int64]struct{}), nil
	m.saved, m.isNew = message.Mark{}, true
	m.outcomes = newOutcomes(c.o.Remember)
	m.sleeping = never
	c.counts.pending.Store(0)
	c.counts.aside.Store(0)
}

// Name is the view's name.
func (c *Coordinator) Name() string { return "halves" }

// Saved is the mark of the last save, false if there is nothing usable.
func (c *Coordinator) Saved() (message.Mark, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.saved, !c.mu.isNew
}

// Start ends the replay: from now on deciders are asked.
func (c *Coordinator) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.started = true
	c.driveLocked()
}

// Close takes no more calls, ends the driver and waits for appends under way. It
// ends the contexts of the deciders that are being asked and waits for them until
// ctx ends; an answer that comes later is lost, and asked for again after the
// next Open. It saves nothing: the store's last checkpoint follows. The error is
// ctx's if a decider did not return.
func (c *Coordinator) Close(ctx context.Context) error {
	c.mu.Lock()
	c.mu.closed = true
	for _, g := range c.mu.groups {
		for _, d := range g.deciders {
			d.wake.Broadcast()
		}
	}
	c.mu.Unlock()
	c.stop()
	c.appends.Wait()
	done := make(chan struct{})
	go func() {
		c.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	default:
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("txn: close: a checker does not return: %w", ctx.Err())
	}
}

func (c *Coordinator) groupLocked(name string) *group {
	if g := c.mu.groups[name]; g != nil {
		return g
	}
	g := &group{name: strings.Clone(name), due: newTree()}
	c.mu.groups[g.name] = g
	return g
}

// maxGroups is how many groups are kept that nothing speaks of any more: making
// one anew for every half is slow.
const maxGroups = 1024

func (c *Coordinator) leaveLocked(g *group) {
	if len(c.mu.groups) > maxGroups && g.halves == 0 && len(g.deciders) == 0 && c.mu.groups[g.name] == g {
		delete(c.mu.groups, g.name)
	}
}

// internLocked keeps one copy of a topic's name. The text may be lent.
func (c *Coordinator) internLocked(name string) string {
	if s, ok := c.mu.names[name]; ok {
		return s
	}
	if len(c.mu.names) >= 1<<16 {
		clear(c.mu.names)
	}
	name = strings.Clone(name)
	c.mu.names[name] = name
	return name
}

// addLocked makes a half known. Its group is h.group.
func (c *Coordinator) addLocked(h *half) {
	h.of = c.groupLocked(h.group)
	h.group = h.of.name
	h.of.halves++
	c.mu.at[h.pos], c.mu.ids[h.id] = h, h
	if h.state == givenUp {
		c.counts.aside.Add(1)
		return
	}
	c.counts.pending.Add(1)
	wait := c.o.Timeout.Milliseconds()
	if h.shield >= 0 {
		wait = h.shield
	}
	c.dueLocked(h, h.born+wait)
}

// removeLocked takes a half out of memory.
func (c *Coordinator) removeLocked(h *half) {
	c.notDueLocked(h)
	delete(c.mu.at, h.pos)
	if c.mu.ids[h.id] == h {
		delete(c.mu.ids, h.id)
	}
	if h.state == givenUp {
		c.counts.aside.Add(-1)
	} else {
		c.counts.pending.Add(-1)
	}
	h.of.halves--
	c.leaveLocked(h.of)
}

// dueLocked has a half asked about at a time.
func (c *Coordinator) dueLocked(h *half, at int64) {
	c.notDueLocked(h)
	h.next, h.due = at, true
	h.of.due.ReplaceOrInsert(item{h.next, h.pos, h})
	if at < c.mu.sleeping && len(h.of.deciders) > 0 {
		c.nudgeLocked()
	}
}

func (c *Coordinator) notDueLocked(h *half) {
	if h.due {
		h.of.due.Delete(item{next: h.next, pos: h.pos})
		h.due = false
	}
}

func (c *Coordinator) nudgeLocked() {
	c.mu.sleeping = 0
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// dirtyLocked has a half saved by the next freeze.
func (c *Coordinator) dirtyLocked(h *half) {
	if h.fresh < 0 {
		h.fresh = int32(len(c.mu.fresh))
		c.mu.fresh = append(c.mu.fresh, h)
	}
}

// endLocked ends a half with a verdict, or without when how is Undecided.
func (c *Coordinator) endLocked(h *half, how message.Decision) {
	c.removeLocked(h)
	c.buryLocked(h)
	if how != message.Undecided {
		c.mu.outcomes.add(h.id, how)
	}
}

// buryLocked has the row of a half that is removed.
func (c *Coordinator) buryLocked(h *half) {
	if h.fresh >= 0 {
		f := c.mu.fresh
		last := f[len(f)-1]
		f[h.fresh], last.fresh = last, h.fresh
		f[len(f)-1] = nil
		c.mu.fresh, h.fresh = f[:len(f)-1], -1
	}
	if h.stored && !(plant.Enabled && plant.Is(plant.HalfKeepsRow)) {
		c.mu.dead[h.pos] = struct{}{}
	}
}

func (c *Coordinator) now() int64 { return c.o.Clock.Now().UnixMilli() }

func timeOf(ms int64) time.Time { return time.UnixMilli(ms) }
