package progress

import (
	"slices"
	"time"

	"github.com/embermq/embermq/message"
)

// openGrace is how long after Open no group counts as forgotten. A store that
// was shut for longer than ForgetAfter must not expire what its groups need in
// the first seconds, before their members could join.
const openGrace = 10 * time.Minute

// Guards returns the lowest offset of the queue that a live group may still
// need; retention keeps everything from there on. A group reads a topic when it
// has an offset in any of its queues; one that has none in this queue needs it
// from the start, so lowest is 0. Broadcasting groups do not guard, nor do
// groups that Stale names.
func (p *Progress) Guards(q message.Queue, now time.Time) (lowest int64, guarded bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for g := range p.mu.topics[q.Topic] {
		if g.settings.Broadcast || g.internal || p.staleLocked(g, now) {
			continue
		}
		r := g.findRow(q)
		if r == nil {
			return 0, true
		}
		if !guarded || r.offset < lowest {
			lowest, guarded = r.offset, true
		}
	}
	return lowest, guarded
}

// Stale returns, sorted, the groups that were not seen for
// Options.ForgetAfter: no commit, no fetch, no Touch. They keep their offsets
// but guard nothing until they are seen again. For ten minutes after Open no
// group is stale.
func (p *Progress) Stale() []string {
	now := p.o.Clock.Now()
	p.mu.Lock()
	var names []string
	for _, g := range p.mu.groups {
		if !g.internal && p.staleLocked(g, now) {
			names = append(names, g.name)
		}
	}
	p.mu.Unlock()
	slices.Sort(names)
	return names
}

// LastSeen returns when the group last committed, fetched or was touched. After
// a kill it may be up to an hour too early.
func (p *Progress) LastSeen(group string) (t time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.mu.groups[group]
	if g == nil {
		return time.Time{}, false
	}
	return time.UnixMilli(g.seen), true
}

func (p *Progress) staleLocked(g *group, now time.Time) bool {
	return now.Sub(p.opened) >= openGrace && now.Sub(time.UnixMilli(g.seen)) > p.o.ForgetAfter
}
