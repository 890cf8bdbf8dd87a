package txn

import (
	"strconv"
	"strings"

	ids "github.com/embermq/embermq/internal/ident"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// Apply learns from the next record of the log what is prepared, decided,
// carried forward or dropped with its topic.
func (c *Coordinator) Apply(r *message.Record) {
	switch topic := r.Topic(); topic {
	case message.TopicHalf:
		c.applyHalf(r)
	case message.TopicOpHalf:
		c.applyVerdict(r)
	case message.TopicCheckMax:
		c.applyAside(r)
	case message.TopicTopics:
		if name, ok := r.OwnValue(message.PropDeletes); ok {
			c.applyDeletion(name, r.Position())
		}
	default:
		// RocketMQ writes the copy first and its op record later: a crash between
		// the two leaves only this sign.
		if r.SysFlag()&message.FlagRollback == message.FlagCommit && !message.IsSystemTopic(topic) {
			c.applyCopy(r)
		}
	}
}

// parseLocked reads what a record in the half topic, or aside, says.
func (c *Coordinator) parseLocked(r *message.Record) (h *half, ok bool) {
	h = &half{row: row{pos: r.Position(), offset: r.Offset(), born: max(0, r.BornAt().UnixMilli()), shield: -1, size: int32(r.Size())}, fresh: -1}
	topic, queue, text := "", "", ""
	// One walk over the properties: all who wait for a sync wait for this.
	for name, value := range r.Properties() {
		switch name {
		case message.PropRealTopic:
			topic = value
		case message.PropRealQueue:
			queue = value
		case message.PropProducerGroup:
			h.group = value
		case message.PropUniqKey:
			text = value
		case message.PropCheckImmunity:
			h.shield = -1
			if n, err := strconv.ParseInt(value, 10, 32); err == nil && n >= 0 {
				h.shield = n * 1000
			}
		case message.PropTranChecks:
			h.checks = 0
			if n, err := strconv.ParseInt(value, 10, 32); err == nil && n > 0 {
				h.checks = int32(n)
			}
		}
	}
	if topic == "" || len(topic) > 1<<15 || message.IsSystemTopic(topic) {
		return nil, false
	}
	n, err := strconv.ParseInt(queue, 10, 32)
	if err != nil || n < 0 {
		return nil, false
	}
	h.real = message.Queue{Topic: c.internLocked(topic), ID: int32(n)}
	if text == "" {
		text = "@" + message.Hex16(h.pos)
	}
	var hashed bool
	if h.id, hashed = ids.Of(text); hashed {
		h.text = strings.Clone(text)
	}
	return h, true
}

func (c *Coordinator) applyHalf(r *message.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.parseLocked(r)
	if !ok {
		c.counts.ignored.Add(1)
		return
	}
	c.metLocked(h)
	old, own := carried(r)
	switch {
	case own:
		if c.takesLocked(old.pos, h) {
			c.counts.carried.Add(1)
		}
		return
	case c.o.Foreign != nil && !c.o.Foreign(r):
		c.counts.ignored.Add(1)
		return
	case c.mu.ids[h.id] != nil:
		// RocketMQ appends a half again whenever it asks about it.
		c.replaceLocked(c.mu.ids[h.id], h)
		return
	}
	c.counts.prepared.Add(1)
	c.addLocked(h)
	c.dirtyLocked(h)
}

// metLocked forgets a half that is about to be read from the same record again. A
// save that a crash has cut off leaves rows in front of its mark.
func (c *Coordinator) metLocked(h *half) {
	if was := c.mu.at[h.pos]; was != nil {
		h.stored, was.stored = was.stored, false
		c.removeLocked(was)
		c.buryLocked(was)
	}
}

// takesLocked puts h in the place of the half that it carries forward. That one is
// pending: nothing else is appended for a half that is being carried. It is not
// known when its record is gone from a log that is read anew; and it is dead if
// its topic was deleted meanwhile.
func (c *Coordinator) takesLocked(old int64, h *half) bool {
	if was := c.mu.at[old]; was != nil {
		c.replaceLocked(was, h)
		return true
	}
	if old < c.mu.floors[h.real.Topic] {
		return false
	}
	c.addLocked(h)
	c.dirtyLocked(h)
	return true
}

// replaceLocked puts h in the place of was. What is known of was stays known.
func (c *Coordinator) replaceLocked(was, h *half) {
	h.checks = max(h.checks, was.checks)
	if h.state == givenUp && was.state == pending {
		c.counts.givenUp.Add(1)
	}
	next, due := was.next, was.due || was.busy != nil
	c.removeLocked(was)
	c.buryLocked(was)
	c.addLocked(h)
	if h.state == pending {
		if a := was.asked; a != nil {
			was.asked, h.asked, a.h = nil, a, h
			c.notDueLocked(h)
		} else if due {
			c.dueLocked(h, next)
		}
	}
	c.dirtyLocked(h)
}

// carries is what EMBER_CARRIES says.
type carries struct{ pos, offset int64 }

func carried(r *message.Record) (was carries, own bool) {
	v, ok := r.OwnValue(message.PropCarries)
	if !ok || len(v) != 16 && len(v) != 32 {
		return was, false
	}
	was.offset = -1
	if was.pos, ok = message.ParseHex16(v[:16]); !ok {
		return was, false
	}
	if len(v) == 32 {
		if was.offset, ok = message.ParseHex16(v[16:]); !ok {
			return was, false
		}
	}
	return was, true
}

// applyVerdict ends the halves that an op record names: ours by position, others
// by their offsets in the half topic.
func (c *Coordinator) applyVerdict(r *message.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, own := r.OwnValue(message.PropVerdict); own {
		how, pos, ok := parseVerdict(v)
		if h := c.mu.at[pos]; ok && h != nil && how != message.GivenUp {
			c.verdictLocked(h, how)
		}
		return
	}
	if r.Tag() != "d" {
		return
	}
	for s := range strings.SplitSeq(string(r.Body()), ",") {
		offset, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			continue
		}
		for _, h := range c.mu.at { // only a log that RocketMQ wrote has these
			if h.offset == offset && h.state == pending && h.pos < r.Position() {
				c.verdictLocked(h, message.RolledBack)
				break
			}
		}
	}
}

func (c *Coordinator) verdictLocked(h *half, how message.Decision) {
	if how == message.Committed {
		c.counts.committed.Add(1)
	} else {
		c.counts.rolledBack.Add(1)
	}
	if plant.Enabled && plant.Is(plant.HalfForgetsVerdict) {
		how = message.Undecided
	}
	c.endLocked(h, how)
}

func parseVerdict(v string) (how message.Decision, pos int64, ok bool) {
	if len(v) != 17 {
		return 0, 0, false
	}
	switch v[0] {
	case letterCommit:
		how = message.Committed
	case letterRollback:
		how = message.RolledBack
	case letterGiveUp:
		how = message.GivenUp
	default:
		return 0, 0, false
	}
	pos, ok = message.ParseHex16(v[1:])
	return how, pos, ok
}

// applyCopy sees a message that was committed.
func (c *Coordinator) applyCopy(r *message.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.mu.at[r.PreparedOffset()]
	if h == nil || h.real.Topic != r.Topic() {
		return
	}
	if id, _ := ids.Of(r.UniqueID()); id != h.id {
		return
	}
	c.verdictLocked(h, message.Committed)
}

// applyAside sees a half that was given up.
func (c *Coordinator) applyAside(r *message.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.parseLocked(r)
	if !ok {
		c.counts.ignored.Add(1)
		return
	}
	h.state = givenUp
	c.metLocked(h)
	was := c.mu.ids[h.id]
	if old, own := carried(r); own {
		if old.offset >= 0 {
			h.offset = old.offset
		}
		if was = c.mu.at[old.pos]; was != nil && was.state == givenUp {
			c.counts.carried.Add(1)
		}
		c.takesLocked(old.pos, h)
		return
	}
	if was != nil {
		c.replaceLocked(was, h)
		return
	}
	c.counts.givenUp.Add(1)
	c.addLocked(h)
	c.dirtyLocked(h)
}

// applyDeletion drops the halves for a topic that is deleted.
func (c *Coordinator) applyDeletion(name string, position int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name = c.internLocked(name)
	c.mu.floors[name], c.mu.sunk[name] = position, true
	for _, h := range c.mu.at {
		if h.real.Topic == name && h.pos < position {
			c.counts.dropped.Add(1)
			c.endLocked(h, message.Undecided)
		}
	}
}
