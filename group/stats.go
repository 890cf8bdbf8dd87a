package group

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// MemberInfo is a snapshot of one member.
type MemberInfo struct {
	ID       string
	Mode     Mode
	Strategy string // empty unless clustering
	// Subscriptions are those in force, which may differ from what the member
	// asked for in Resubscribe.
	Subscriptions map[string]string
	Joined        time.Time
	Leaving       bool
	Guest         bool
	Claims        []Claim // sorted by queue; those that drain included
	Draining      int     // how many of them were revoked and not released
}

// Stats is a snapshot of a Coordinator.
type Stats struct {
	Groups, Members int
	Held            int // claims on queues, those that drain included
	Draining        int
	Unassigned      int // queues that a plan gives to nobody, or whose giving waits

	// Counted since New.
	Plans, Given, Revoked, Released int64
	// Lost are claims that ended without a release, Refused the uses of claims
	// that were over.
	Lost, Refused int64
	// Failures are topics that a strategy failed for; LastFailure is the latest.
	Failures    int64
	LastFailure error
	// ListenerPanics were caught; Unheard events came faster than listeners
	// took them.
	ListenerPanics, Unheard int64
}

type counts struct {
	plans, given, revoked, released, lost, failures, panics, unheard int64
	lastFailure                                                      error
}

// Groups returns the names of the groups that have members, sorted.
func (c *Coordinator) Groups() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.mu.groups))
}

// Members returns a group's members, sorted by ID.
func (c *Coordinator) Members(group string) []MemberInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.mu.groups[group]
	if g == nil {
		return nil
	}
	infos := make([]MemberInfo, 0, len(g.members))
	for _, m := range g.members {
		i := MemberInfo{
			ID: m.member.ID, Mode: g.mode, Strategy: g.strategy, Subscriptions: maps.Clone(g.subs),
			Joined: m.joined, Leaving: m.leaving, Guest: m.member.Guest,
		}
		for _, h := range m.held {
			i.Claims = append(i.Claims, h.public())
			if h.stage == draining {
				i.Draining++
			}
		}
		slices.SortFunc(i.Claims, func(a, b Claim) int { return compare(a.Queue, b.Queue) })
		infos = append(infos, i)
	}
	slices.SortFunc(infos, func(a, b MemberInfo) int { return strings.Compare(a.ID, b.ID) })
	return infos
}

// Stats returns a snapshot.
func (c *Coordinator) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &c.mu.count
	s := Stats{
		Groups: len(c.mu.groups), Draining: len(c.mu.draining),
		Plans: n.plans, Given: n.given, Revoked: n.revoked, Released: n.released,
		Lost: n.lost, Refused: c.refused.Load(), Failures: n.failures, LastFailure: n.lastFailure,
		ListenerPanics: n.panics, Unheard: n.unheard,
	}
	for _, g := range c.mu.groups {
		s.Members += len(g.members)
		s.Held += len(g.holders)
		s.Unassigned += max(0, g.slots-len(g.holders))
	}
	return s
}
