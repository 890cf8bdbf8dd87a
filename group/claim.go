package group

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/embermq/embermq/message"
)

// Claim is a member's right to one queue of a group, or, with no queue, to its
// seat in the group. Whoever settles or leases messages shows one. It is a value
// and may be copied and compared; its generation is never given twice by one
// coordinator, and of two claims on a queue the later one has the higher.
type Claim struct {
	Group      string
	Member     string
	Queue      message.Queue // zero for a claim on the seat
	Generation uint64
	// Epoch is the group's when the claim was given. A reset raises it.
	Epoch uint64

	// h saves the search; a claim that was taken apart and put together again
	// has none and is looked up.
	h *holding
}

// String names everything but the epoch.
func (k Claim) String() string {
	s := k.Group + "/" + k.Member + " #" + strconv.FormatUint(k.Generation, 10)
	if k.Queue != (message.Queue{}) {
		s += " on " + k.Queue.String()
	}
	return s
}

// FencedError names a claim that counts no more. It is message.ErrFenced for
// errors.Is.
type FencedError struct{ Claim Claim }

// Error names the claim.
func (e *FencedError) Error() string {
	return fmt.Sprintf("group: claim %s: %s", e.Claim, message.ErrFenced)
}

// Is reports whether target is message.ErrFenced.
func (e *FencedError) Is(target error) bool { return target == message.ErrFenced }

// slot is what at most one claim at a time is valid for: a queue in a
// clustering group, a queue of one member in the other modes.
type slot struct {
	queue  message.Queue
	member string // empty in a clustering group
}

// stage is how far a holding has come. It only rises.
type stage uint8

const (
	offered  stage = iota // waits for the member's Next, which has not seen it
	held                  // the member knows
	draining              // revoked or fenced, not released yet
	gone
)

// holding is a claim with its fate. Everything but gate, live and what never
// changes is guarded by Coordinator.mu.
type holding struct {
	claim Claim // without h
	slot  slot
	m     *Membership

	stage stage
	due   time.Time // when a draining one is lost
	told  bool      // stands in the member's lost list, or did

	gate sync.RWMutex // Do holds it shared, fence exclusively
	// live tells whether the claim is valid. Invariant: once false it stays so,
	// and it turns only while gate is held exclusively.
	live atomic.Bool
}

// fence ends the claim's validity. It waits for functions that run under it.
func (h *holding) fence() {
	h.gate.Lock()
	h.live.Store(false)
	h.gate.Unlock()
}

func (h *holding) public() Claim {
	k := h.claim
	k.h = h
	return k
}

// Valid returns nil while the claim counts and a *FencedError, which is
// counted, once it does not. It takes no lock and allocates nothing for a valid
// claim that came from Next. The claim may be over by the time Valid has
// returned; whoever must exclude that uses Do.
func (c *Coordinator) Valid(k Claim) error {
	if h := c.find(k); h != nil && h.live.Load() {
		return nil
	}
	return c.refuse(k)
}

// Do runs f while the claim counts: nobody else is given the queue before f has
// returned. A claim that is over gets a *FencedError, which is counted, and f
// does not run. f works in memory only, briefly, and calls nothing of this
// package: a rebalance waits for it under the coordinator's lock.
func (c *Coordinator) Do(k Claim, f func() error) error {
	h := c.find(k)
	if h == nil {
		return c.refuse(k)
	}
	h.gate.RLock()
	defer h.gate.RUnlock()
	if !h.live.Load() {
		return c.refuse(k)
	}
	return f()
}

func (c *Coordinator) refuse(k Claim) error {
	c.refused.Add(1)
	return &FencedError{Claim: k}
}

// find returns the holding of exactly this claim, or nil. The fields are
// compared because a caller can change them in its copy.
func (c *Coordinator) find(k Claim) *holding {
	h := k.h
	if h == nil {
		h = c.lookUp(k)
	}
	k.h = nil
	if h == nil || h.m.c != c || h.claim != k {
		return nil
	}
	return h
}

func (c *Coordinator) lookUp(k Claim) *holding {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.mu.groups[k.Group]
	if g == nil || g.members[k.Member] == nil {
		return nil
	}
	m := g.members[k.Member]
	if k.Queue == (message.Queue{}) {
		return m.seat
	}
	return m.held[k.Queue]
}
