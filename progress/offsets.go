package progress

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

// Commit records the next offset to consume of one or many queues. Either all
// of them take effect at once or, with an error, none. An offset below the
// committed one is ignored, because members finish out of order and a late
// commit is no wish to go back; Reset goes back. The first commit of a queue
// counts whatever it is.
//
// Commit returns when the offsets are in memory; they are on disk at most
// Options.FlushEvery later, or when Commit returns with Options.DurableSettle.
// Then, and for a group's first commit, ctx bounds the wait; if it ends during
// the wait for the disk the offsets count and become durable later.
//
// Commit creates an unknown group unless Options.NoAutoCreate is set, which
// makes it message.ErrNotFound. A group name that is not allowed is a
// *message.NameError, an offset below zero or beyond the queue's end a
// *message.RangeError.
func (p *Progress) Commit(ctx context.Context, group string, offsets map[message.Queue]int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for q, offset := range offsets {
		if err := p.checkOffset(q, offset); err != nil {
			return err
		}
	}
	now := p.o.Clock.Now()
	for !p.commit(group, offsets, now) {
		if err := p.ensure(ctx, group); err != nil {
			return err
		}
	}
	if p.o.DurableSettle {
		return p.Flush(ctx)
	}
	return nil
}

// commit reports false when there is no such group, or no open Progress.
func (p *Progress) commit(group string, offsets map[message.Queue]int64, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.mu.groups[group]
	if g == nil || p.mu.closed {
		return false
	}
	for q, offset := range offsets {
		if r := p.rowLocked(g, q); offset > r.offset {
			r.raise(offset)
			p.rowDirtyLocked(r)
		}
	}
	p.seenLocked(g, now)
	return true
}

func (p *Progress) checkOffset(q message.Queue, offset int64) error {
	start, end, err := p.o.Bounds(q)
	if err != nil {
		return fmt.Errorf("progress: bounds of %s: %w", q, err)
	}
	if offset < 0 || offset > end {
		return &message.RangeError{Queue: q, Offset: offset, Start: start, End: end}
	}
	return nil
}

// Committed returns the next offset that the group consumes from the queue. It
// is how a member fetches its place, so it counts as a sign of life; Offsets
// does not.
func (p *Progress) Committed(group string, q message.Queue) (offset int64, ok bool) {
	now := p.o.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.mu.groups[group]
	if g == nil {
		return 0, false
	}
	p.seenLocked(g, now)
	if r := g.findRow(q); r != nil {
		return r.offset, true
	}
	return 0, false
}

// Offsets returns all committed offsets of a group, nil when there are none.
// The caller owns the map.
func (p *Progress) Offsets(group string) map[message.Queue]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.mu.groups[group]
	if g == nil || len(g.topics) == 0 {
		return nil
	}
	all := make(map[message.Queue]int64)
	for _, t := range g.topics {
		for id, r := range t.rows {
			all[message.Queue{Topic: t.name, ID: id}] = r.offset
		}
	}
	return all
}

// Reset sets the group's offsets of the queues named, forwards or backwards,
// and raises the group's epoch, which fences what members of the old epoch
// still hold. All of it is on disk when Reset returns. Other queues keep their
// offsets; an empty map only raises the epoch.
//
// The errors are those of Commit, and message.ErrUnsupported for a broadcasting
// group, whose members keep their own places. After any other error that comes
// from the disk or from ctx the old offsets count, and are written again; a
// crash before that may leave either.
func (p *Progress) Reset(ctx context.Context, name string, offsets map[message.Queue]int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for q, offset := range offsets {
		if err := p.checkOffset(q, offset); err != nil {
			return err
		}
	}
	if err := p.ensure(ctx, name); err != nil {
		return err
	}
	var g *group
	var epoch uint64
	return p.change(ctx, name, edit{
		topics: topicsOf(offsets),
		raises: true,
		prepare: func(b *kv.Batch) (err error) {
			if g, err = p.movableLocked(name); err != nil {
				return err
			}
			epoch = p.raiseLocked(b, g)
			for q, offset := range offsets {
				setOffset(b, g.name, q.Topic, q.ID, offset)
			}
			return nil
		},
		apply: func() {
			p.raisedLocked(g, epoch)
			for q, offset := range offsets {
				p.setLocked(g, q, offset)
			}
		},
	})
}

// Clone gives group to what group from has settled in the topic, in place
// of its own there. It is a reset of to: durable before it returns, under a new
// epoch, and it creates to as Commit would. The error is message.ErrNotFound
// when from has no offset in the topic and message.ErrUnsupported when to is
// broadcasting.
func (p *Progress) Clone(ctx context.Context, from, to, topic string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if from == to {
		return nil
	}
	// Nothing is created for a source that is not there. It is looked at again
	// below: it may go while the target is made.
	p.mu.Lock()
	_, err := p.sourceLocked(from, topic)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if err := p.ensure(ctx, to); err != nil {
		return err
	}
	var g *group
	var epoch uint64
	var places map[message.Queue]place
	return p.change(ctx, to, edit{
		topics: []string{topic},
		raises: true,
		prepare: func(b *kv.Batch) (err error) {
			if g, err = p.movableLocked(to); err != nil {
				return err
			}
			if places, err = p.sourceLocked(from, topic); err != nil {
				return err
			}
			epoch = p.raiseLocked(b, g)
			b.DeleteRange(topicRange(g.name, topic))
			for q, pl := range places {
				b.Set(appendOffsetKey(nil, g.name, q.Topic, q.ID), appendPlace(nil, &pl))
			}
			return nil
		},
		apply: func() {
			p.raisedLocked(g, epoch)
			p.forgetLocked(g, topic)
			for q, pl := range places {
				p.setLocked(g, q, pl.offset)
				g.findRow(q).settled = pl.settled
			}
		},
	})
}

// sourceLocked copies what a group has settled in one topic.
func (p *Progress) sourceLocked(group, topic string) (map[message.Queue]place, error) {
	g := p.mu.groups[group]
	if g == nil {
		return nil, unknownGroup(group)
	}
	t := g.topics[topic]
	if t == nil {
		return nil, fmt.Errorf("progress: group %q: offsets in topic %q: %w", group, topic, message.ErrNotFound)
	}
	places := make(map[message.Queue]place, len(t.rows))
	for id, r := range t.rows {
		pl := r.placeNow()
		pl.holds = nil // attempts and leases are the other group's own
		places[message.Queue{Topic: t.name, ID: id}] = pl
	}
	return places, nil
}

// movableLocked returns a group whose offsets may be set.
func (p *Progress) movableLocked(name string) (*group, error) {
	g := p.mu.groups[name]
	if g == nil {
		return nil, unknownGroup(name)
	}
	if g.settings.Broadcast {
		return nil, fmt.Errorf("progress: group %q is broadcasting: %w", name, message.ErrUnsupported)
	}
	return g, nil
}

// raiseLocked writes the group with a new epoch, which counts once the batch is
// applied.
func (p *Progress) raiseLocked(b *kv.Batch, g *group) uint64 {
	r := g.row()
	r.epoch = p.nextEpochLocked(b)
	b.Set(groupKey(g.name), encodeGroup(r))
	return r.epoch
}

func (p *Progress) raisedLocked(g *group, epoch uint64) {
	g.epoch, p.mu.epoch = epoch, epoch
}

// setLocked is the memory side of an offset that is on disk already. It is
// written once more by the next batch, because the topic may have been dropped
// meanwhile, and that batch would drop what was just written.
func (p *Progress) setLocked(g *group, q message.Queue, offset int64) {
	r := p.rowLocked(g, q)
	r.place(offset)
	r.stored = true
	p.rowDirtyLocked(r)
}

// DropTopic forgets all groups' offsets in a deleted topic; the groups stay.
// It takes effect at once and reaches the disk with the next batch. It drops
// what is there when it is called: whoever replays a topic's deletion calls it
// only if the topic was not created again since, or members start over.
func (p *Progress) DropTopic(topic string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return
	}
	for g := range p.mu.topics[topic] {
		p.forgetLocked(g, topic)
		p.mu.dirty.drop(g.name, topic)
		p.changedLocked()
	}
}

// Clamp sets every offset beyond its queue's end to the end, durably before it
// returns, and says how many there were. Offsets of queues that bounds does not
// know stay. The store calls it once, before it serves: were the log to grow
// first, an offset beyond the end would come to lie inside and skip messages.
func (p *Progress) Clamp(ctx context.Context, bounds func(q message.Queue) (start, end int64, ok bool)) (changed int, err error) {
	type found struct {
		r   *row
		end int64
	}
	p.mu.Lock()
	if p.mu.closed {
		p.mu.Unlock()
		return 0, message.ErrClosed
	}
	var all []*row
	for _, g := range p.mu.groups {
		for _, t := range g.topics {
			all = slices.AppendSeq(all, maps.Values(t.rows))
		}
	}
	p.mu.Unlock()
	var beyond []found
	for _, r := range all {
		if _, end, ok := bounds(message.Queue{Topic: r.t.name, ID: r.id}); ok {
			beyond = append(beyond, found{r, max(end, 0)})
		}
	}
	p.mu.Lock()
	for _, f := range beyond {
		if !f.r.dead && f.r.cut(f.end) {
			p.rowDirtyLocked(f.r)
			changed++
		}
	}
	p.mu.Unlock()
	if changed == 0 {
		return 0, nil
	}
	return changed, p.Flush(ctx)
}

func setOffset(b *kv.Batch, group, topic string, id int32, offset int64) {
	b.Set(appendOffsetKey(nil, group, topic, id), appendOffset(nil, offset))
}

func topicsOf(offsets map[message.Queue]int64) []string {
	var names []string
	for q := range offsets {
		if !slices.Contains(names, q.Topic) {
			names = append(names, q.Topic)
		}
	}
	return names
}
