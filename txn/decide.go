package txn

import (
	"context"
	"fmt"
	"sync"

	ids "github.com/embermq/embermq/internal/ident"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// answer is what a verdict came to.
type answer struct {
	receipt message.Receipt
	how     message.Decision
	err     error
}

// work is the memory that one verdict needs, or one new half.
type work struct {
	op      op
	group   Group
	copies  [2]Copy
	record  message.Record
	buf     []byte
	verdict opRecord
	half    [8]message.Property // of a new half
}

// keptBuffer is the largest buffer that is kept for the next verdict.
const keptBuffer = 64 << 10

var works = sync.Pool{New: func() any { return new(work) }}

func (w *work) free() {
	buf := w.buf
	if cap(buf) > keptBuffer {
		buf = nil
	}
	*w = work{buf: buf}
	works.Put(w)
}

// decide gives a verdict on a half unless there is one: it claims the half under
// the lock, appends without it, and learns from Apply like everyone else. With
// recover the half is one that was given up.
func (c *Coordinator) decide(ctx context.Context, id message.HalfID, want message.Decision, recover bool) answer {
	w := works.Get().(*work)
	h, a := c.claim(ctx, id, &w.op, recover)
	if h == nil {
		w.free()
		return a
	}
	if ctx.Done() == nil {
		return c.end(h, w, want)
	}
	// The append must be seen to its end, or nobody would know whether the half is
	// pending. So it outlives a caller that leaves.
	back := make(chan answer, 1)
	go func() { back <- c.end(h, w, want) }()
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
	i, _ := ids.Of(string(id))
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
			wait := h.busy.waitLocked()
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

// end appends the verdict on a half that is busy with w.op, and takes w back.
func (c *Coordinator) end(h *half, w *work, want message.Decision) (a answer) {
	defer c.appends.Done()
	defer func() { c.unclaim(h, w, a.err == nil && want != message.GivenUp) }()
	a = answer{receipt: message.Receipt{Offset: -1}}
	g := &w.group
	g.Copies = w.copies[:0]
	if want == message.RolledBack {
		g.Copies = append(g.Copies, w.verdict.copy(h, letterRollback))
	} else {
		var err error
		if w.buf, err = c.o.Read(h.pos, int(h.size), w.buf, &w.record); err != nil {
			a.err = fmt.Errorf("txn: read half %s: %w", h.handle(), err)
			return a
		}
		switch want {
		case message.Committed:
			g.Copies = append(g.Copies, visible(h, &w.record), w.verdict.copy(h, letterCommit))
			if plant.Enabled && plant.Is(plant.HalfCommitUnmarked) {
				g.Copies[0].Envelope.SysFlag = 0
				g.Copies = g.Copies[:1]
			}
		case message.GivenUp:
			g.Copies = append(g.Copies, aside(h, &w.record), w.verdict.copy(h, letterGiveUp))
		}
	}
	if err := c.o.Appender.Append(context.Background(), g); err != nil {
		a.err = fmt.Errorf("txn: half %s: %w", h.handle(), err)
		return a
	}
	a.how = want
	if want == message.Committed {
		a.receipt = g.Copies[0].Receipt
	}
	return a
}

// unclaim gives a half back after an append. If it was written the half is gone by
// now, or was replaced. After ErrPoisoned nobody knows, and no verdict succeeds.
func (c *Coordinator) unclaim(h *half, w *work, settled bool) {
	c.mu.Lock()
	c.unclaimLocked(h, &w.op)
	w.op.doneLocked()
	if settled {
		c.settledLocked(h)
	}
	c.mu.Unlock()
	w.free()
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
