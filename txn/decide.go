package txn

import (
	"context"
	"fmt"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// answer is what a verdict came to.
type answer struct {
	receipt message.Receipt
	how     message.Decision
	err     error
}

// decide gives a verdict on a half unless there is one: it claims the half under
// the lock, appends without it, and learns from Apply like everyone else. With
// recover the half is one that was given up.
func (c *Coordinator) decide(ctx context.Context, id message.HalfID, want message.Decision, recover bool) answer {
	o := newOp()
	h, a := c.claim(ctx, id, o, recover)
	if h == nil {
		return a
	}
	if ctx.Done() == nil {
		defer c.appends.Done()
		return c.end(h, o, want)
	}
	// The append must be seen to its end, or nobody would know whether the half is
	// pending. So it outlives a caller that leaves.
	back := make(chan answer, 1)
	go func() {
		defer c.appends.Done()
		back <- c.end(h, o, want)
	}()
	select {
	case a := <-back:
		return a
	case <-ctx.Done():
		return answer{err: fmt.Errorf("txn: outcome unknown: %w", ctx.Err())}
	}
}

// claim makes the half of an id busy with o and counts the caller in c.appends. Without a
// half it answers.
func (c *Coordinator) claim(ctx context.Context, id message.HalfID, o *op, recover bool) (*half, answer) {
	none := message.Receipt{Offset: -1}
	if err := ctx.Err(); err != nil {
		return nil, answer{none, message.Undecided, err}
	}
	i, _ := identOf(string(id))
	for {
		c.mu.Lock()
		if c.mu.closed {
			c.mu.Unlock()
			return nil, answer{none, message.Undecided, fmt.Errorf("txn: half %s: %w", id, message.ErrClosed)}
		}
		h := c.mu.ids[i]
		if h == nil {
			how := c.mu.outcomes.get(i)
			c.mu.Unlock()
			if how == message.Undecided {
				return nil, answer{none, how, fmt.Errorf("txn: half %q: %w", id, message.ErrNotFound)}
			}
			return nil, answer{none, how, nil}
		}
		switch {
		case h.busy != nil && !(plant.Enabled && plant.Is(plant.HalfDecidedTwice)):
			wait := h.busy.done
			c.mu.Unlock()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, answer{none, message.Undecided, fmt.Errorf("txn: half %s: wait for the verdict under way: %w", id, ctx.Err())}
			}
		case h.state == givenUp && !recover:
			c.mu.Unlock()
			return nil, answer{none, message.GivenUp, nil}
		case h.state == pending && recover:
			c.mu.Unlock()
			return nil, answer{none, message.Undecided, fmt.Errorf("txn: half %s was not given up: %w", id, message.ErrBusy)}
		}
		c.claimLocked(h, o)
		c.mu.Unlock()
		return h, answer{}
	}
}

// claimLocked makes a half busy. While it is, nobody is asked about it.
func (c *Coordinator) claimLocked(h *half, o *op) {
	h.busy = o
	c.notDueLocked(h)
	c.appends.Add(1)
}

// end appends the verdict on a half that is busy with o.
func (c *Coordinator) end(h *half, o *op, want message.Decision) (a answer) {
	defer close(o.done)
	defer c.unclaim(h, o)
	a = answer{receipt: message.Receipt{Offset: -1}}
	var copies [2]Copy
	g := Group{Copies: copies[:0]}
	if want == message.RolledBack {
		g.Copies = append(g.Copies, verdict(h, letterRollback))
	} else {
		var r message.Record
		if _, err := c.o.Read(h.pos, int(h.size), nil, &r); err != nil {
			a.err = fmt.Errorf("txn: read half %s: %w", h.handle(), err)
			return a
		}
		switch want {
		case message.Committed:
			g.Copies = append(g.Copies, visible(h, &r), verdict(h, letterCommit))
			if plant.Enabled && plant.Is(plant.HalfCommitUnmarked) {
				g.Copies[0].Envelope.SysFlag = 0
				g.Copies = g.Copies[:1]
			}
		case message.GivenUp:
			g.Copies = append(g.Copies, aside(h, &r), verdict(h, letterGiveUp))
		}
	}
	if err := c.o.Appender.Append(context.Background(), &g); err != nil {
		a.err = fmt.Errorf("txn: half %s: %w", h.handle(), err)
		return a
	}
	a.how = want
	c.settled(h)
	if want == message.Committed {
		a.receipt = g.Copies[0].Receipt
	}
	return a
}

// unclaim gives a half back after an append. If it was written the half is gone by
// now, or was replaced. After ErrPoisoned nobody knows, and no verdict succeeds.
func (c *Coordinator) unclaim(h *half, o *op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unclaimLocked(h, o)
}

func (c *Coordinator) unclaimLocked(h *half, o *op) {
	if h.busy != o {
		return
	}
	h.busy = nil
	if c.mu.at[h.pos] == h && h.state == pending && h.asked == nil {
		c.dueLocked(h, max(h.next, c.now()))
	}
}
