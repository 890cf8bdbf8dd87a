package group

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/embermq/embermq/message"
)

// EventKind says what an Event tells.
type EventKind uint8

const (
	// Joined: a member has a seat.
	Joined EventKind = iota + 1
	// Left: a member's seat is over; Err says why.
	Left
	// Given: queues were given to a member.
	Given
	// Revoked: a member was asked to drain queues.
	Revoked
	// Released: a member gave queues back.
	Released
	// Lost: a member's claims on queues were fenced.
	Lost
	// Failed: the strategy failed for a topic, whose old assignment stays.
	Failed
)

// String returns the name of the constant.
func (k EventKind) String() string {
	names := []string{"Joined", "Left", "Given", "Revoked", "Released", "Lost", "Failed"}
	if k >= Joined && int(k) <= len(names) {
		return names[k-1]
	}
	return "EventKind(" + strconv.Itoa(int(k)) + ")"
}

// Event is what listeners hear. Its slices may be kept.
type Event struct {
	Kind   EventKind
	Group  string
	Member string          // empty for Failed
	Topic  string          // for Failed
	Queues []message.Queue // sorted
	Err    error
}

// newsMost bounds what a slow listener can make the coordinator remember.
const newsMost = 1 << 14

// news is what listeners have not heard yet.
type news struct {
	listeners map[uint64]func(Event)
	added     uint64
	waiting   []Event
	telling   bool // a goroutine tells

	// gathered joins what happens to many queues of a member in one go into one
	// event of this kind.
	gathered map[*Membership][]message.Queue
	kind     EventKind
}

// Listen calls f for every event from now on, in order, one at a time. f may
// call the coordinator, but not wait for it; while it works other listeners
// wait, and when more than 16,384 events wait, new ones are dropped and counted.
// A panic of f is caught and counted. stop ends it; an event that is being told
// may still arrive.
func (c *Coordinator) Listen(f func(Event)) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &c.mu.news
	if n.listeners == nil {
		n.listeners = make(map[uint64]func(Event))
	}
	n.added++
	id := n.added
	n.listeners[id] = f
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(n.listeners, id)
	}
}

// tellQueueLocked gathers; whatever else is told comes after it.
func (c *Coordinator) tellQueueLocked(k EventKind, m *Membership, q message.Queue) {
	n := &c.mu.news
	if len(n.listeners) == 0 {
		return
	}
	if n.kind != k {
		c.gatheredLocked()
		n.kind, n.gathered = k, make(map[*Membership][]message.Queue)
	}
	n.gathered[m] = append(n.gathered[m], q)
	c.startTellingLocked()
}

// gatheredLocked turns what was gathered into events.
func (c *Coordinator) gatheredLocked() {
	n := &c.mu.news
	ms := slices.SortedFunc(maps.Keys(n.gathered), func(a, b *Membership) int {
		return cmp.Or(strings.Compare(a.member.Group, b.member.Group), strings.Compare(a.member.ID, b.member.ID))
	})
	k, gathered := n.kind, n.gathered
	n.kind, n.gathered = 0, nil
	for _, m := range ms {
		qs := gathered[m]
		slices.SortFunc(qs, compare)
		c.putLocked(Event{Kind: k, Group: m.member.Group, Member: m.member.ID, Queues: qs})
	}
}

func (c *Coordinator) tellLocked(e Event) {
	if len(c.mu.news.listeners) == 0 {
		return
	}
	c.gatheredLocked()
	c.putLocked(e)
	c.startTellingLocked()
}

func (c *Coordinator) putLocked(e Event) {
	n := &c.mu.news
	if len(n.waiting) >= newsMost {
		c.mu.count.unheard++
		return
	}
	n.waiting = append(n.waiting, e)
}

func (c *Coordinator) startTellingLocked() {
	n := &c.mu.news
	// Close's own events are told too: it waits for this goroutine after it has
	// let go of the lock.
	if !n.telling {
		n.telling = true
		c.workers.Go(c.tellAll)
	}
}

func (c *Coordinator) tellAll() {
	for {
		es, fs := c.takeNews()
		if len(es) == 0 {
			return
		}
		for _, e := range es {
			for _, f := range fs {
				own := e
				own.Queues = slices.Clone(e.Queues)
				c.call(f, own)
			}
		}
	}
}

func (c *Coordinator) takeNews() (es []Event, fs []func(Event)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gatheredLocked()
	n := &c.mu.news
	if es, n.waiting = n.waiting, nil; len(es) == 0 {
		n.telling = false
		return nil, nil
	}
	for _, id := range slices.Sorted(maps.Keys(n.listeners)) {
		fs = append(fs, n.listeners[id])
	}
	return es, fs
}

func (c *Coordinator) call(f func(Event), e Event) {
	defer func() {
		if p := recover(); p != nil {
			c.o.Logger.Warn("group: a listener panicked", "event", e.Kind, "panic", fmt.Sprint(p))
			c.mu.Lock()
			defer c.mu.Unlock()
			c.mu.count.panics++
		}
	}()
	f(e)
}
