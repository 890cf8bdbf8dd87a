package txn

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	ids "github.com/embermq/embermq/internal/ident"
	"github.com/embermq/embermq/message"
)

// Halves is what users see of a Coordinator. Its methods may be called from
// several goroutines.
type Halves struct{ c *Coordinator }

// Halves returns the users' side.
func (c *Coordinator) Halves() *Halves { return &Halves{c} }

// Prepare stores a message that nobody sees until it is committed. It is on disk
// when Prepare returns, whatever m.Durability says. group is the producer group
// whose checkers or resource are asked when no verdict comes. The receipt has the
// queue that the message is for, and -1 as offset.
//
// The half's id is m.UniqueID, or a new one. An id that another half has or had,
// as far as that is remembered, is message.ErrExists.
//
// The error is an *InvalidError for a message with a delay and *NameError for a
// group that cannot be one; otherwise it is what a put of the message would
// return. When ctx ends first the half may be stored all the same: it is then
// decided like one whose process died here.
func (t *Halves) Prepare(ctx context.Context, m *message.Message, group string, o message.HalfOptions) (message.Receipt, message.HalfID, error) {
	none := message.Receipt{Offset: -1}
	switch {
	case m == nil:
		return none, "", &message.InvalidError{Field: "Message", Reason: "is nil"}
	case m.DelayLevel != 0 || m.Delay != 0 || !m.DeliverAt.IsZero():
		return none, "", &message.InvalidError{Field: "Delay", Reason: "a half message cannot be delayed"}
	case o.Immunity < 0:
		return none, "", &message.InvalidError{Field: "Immunity", Reason: "negative"}
	case o.Immunity > maxImmunity:
		return none, "", &message.InvalidError{Field: "Immunity", Reason: "over a year"}
	}
	if err := message.CheckGroup(group); err != nil {
		return none, "", err
	}
	id := m.UniqueID
	if id == "" {
		id = t.c.o.NewID()
	}
	done, err := t.c.reserve(id, m.UniqueID != "")
	if err != nil {
		return none, "", err
	}
	defer done()
	w := works.Get().(*work)
	defer w.free()
	w.copies[0] = newHalf(m, group, id, o.Immunity, w.half[:0])
	w.group = Group{Copies: w.copies[:1], New: true}
	if err := t.c.o.Appender.Append(ctx, &w.group); err != nil {
		return none, "", err
	}
	r := w.copies[0].Receipt
	r.Queue, r.Offset = w.copies[0].Real, -1
	return r, message.HalfID(id), nil
}

const maxImmunity = 366 * 24 * time.Hour

func nothing() {}

// reserve keeps an id that a user chose from being used twice at once.
func (c *Coordinator) reserve(id string, chosen bool) (done func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil, fmt.Errorf("txn: %w", message.ErrClosed)
	}
	if !chosen {
		return nothing, nil
	}
	i, _ := ids.Of(id)
	if c.mu.ids[i] != nil || c.mu.outcomes.get(i) != message.Undecided || c.mu.reserved[i] {
		return nil, fmt.Errorf("txn: half %q: %w", id, message.ErrExists)
	}
	c.mu.reserved[i] = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.mu.reserved, i)
	}, nil
}

// Commit puts a half's message into its queue, unless there is a verdict: the
// first one wins, and how tells what it was, here or in any later call. With
// Committed by this call the receipt is that of the message; with an earlier
// verdict its offset is -1. It is on disk when Commit returns.
//
// The error matches message.ErrNotFound for an id that is unknown: it never was
// one, its topic was deleted, or its verdict was given so long ago that nobody
// remembers. ctx bounds the waiting alone: when it ends first the outcome is
// unknown, and Commit may be called again. With any other error the half is still
// pending, except that after message.ErrPoisoned and ErrClosed the next Open
// knows.
func (t *Halves) Commit(ctx context.Context, id message.HalfID) (r message.Receipt, how message.Decision, err error) {
	a := t.c.decide(ctx, id, message.Committed, false)
	return a.receipt, a.how, a.err
}

// Rollback ends a half without delivering its message, under the same promises as
// Commit.
func (t *Halves) Rollback(ctx context.Context, id message.HalfID) (how message.Decision, err error) {
	a := t.c.decide(ctx, id, message.RolledBack, false)
	return a.how, a.err
}

// Recover decides about a half that was given up: Committed puts it into its real
// queue, exactly once, RolledBack drops it. A half that is still pending gives
// message.ErrBusy. Otherwise it answers like Commit.
func (t *Halves) Recover(ctx context.Context, id message.HalfID, want message.Decision) (r message.Receipt, how message.Decision, err error) {
	if want != message.Committed && want != message.RolledBack {
		return message.Receipt{Offset: -1}, message.Undecided, fmt.Errorf("txn: recover: %v is no verdict: %w", want, message.ErrUnsupported)
	}
	a := t.c.decide(ctx, id, want, true)
	return a.receipt, a.how, a.err
}

// State is what has become of a half: Undecided while it is pending. The error
// matches message.ErrNotFound for an id that is unknown, as for Commit.
func (t *Halves) State(id message.HalfID) (message.Decision, error) {
	i, _ := ids.Of(string(id))
	c := t.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.mu.ids[i]; h != nil {
		if h.state == givenUp {
			return message.GivenUp, nil
		}
		return message.Undecided, nil
	}
	if how := c.mu.outcomes.get(i); how != message.Undecided {
		return how, nil
	}
	return message.Undecided, fmt.Errorf("txn: half %q: %w", id, message.ErrNotFound)
}

// Len is the number of pending halves; those that were given up are not pending.
func (t *Halves) Len() int64 { return t.c.counts.pending.Load() }

// GivenUp is the number of halves that wait for somebody who recovers them.
func (t *Halves) GivenUp() int64 { return t.c.counts.aside.Load() }

// Count is the number of halves for a topic, those included that were given up.
func (t *Halves) Count(topic string) (n int64) {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	for _, h := range t.c.mu.at {
		if h.real.Topic == topic {
			n++
		}
	}
	return n
}

// All yields the halves without a final verdict, those included that were given
// up, the oldest record first, as they were when the loop began. Their messages
// are left out; see Get.
func (t *Halves) All() iter.Seq[message.Half] {
	return func(yield func(message.Half) bool) {
		for _, h := range t.c.list() {
			if !yield(h) {
				return
			}
		}
	}
}

func (c *Coordinator) list() []message.Half {
	now := c.o.Clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]message.Half, 0, len(c.mu.at))
	for _, h := range c.mu.at {
		out = append(out, h.show(now))
	}
	slices.SortFunc(out, func(a, b message.Half) int { return int(a.Position - b.Position) })
	return out
}

func (h *half) show(now time.Time) message.Half {
	born := timeOf(h.born)
	return message.Half{ID: message.HalfID(h.handle()), Group: h.group, Queue: h.real, Position: h.pos, BornAt: born,
		Age: max(0, now.Sub(born)), Checks: int(h.checks), GivenUp: h.state == givenUp}
}

// Get reads a half that has no final verdict, with its message.
func (t *Halves) Get(id message.HalfID) (message.Half, error) {
	i, _ := ids.Of(string(id))
	c := t.c
	for {
		c.mu.Lock()
		h := c.mu.ids[i]
		c.mu.Unlock()
		if h == nil {
			return message.Half{}, fmt.Errorf("txn: half %q: %w", id, message.ErrNotFound)
		}
		out, err := c.read(h)
		if err == nil {
			return out, nil
		}
		c.mu.Lock()
		same := c.mu.ids[i] == h // else it was carried forward meanwhile
		c.mu.Unlock()
		if same {
			return message.Half{}, err
		}
	}
}

// read makes what a checker gets.
func (c *Coordinator) read(h *half) (message.Half, error) {
	var r message.Record
	if _, err := c.o.Read(h.pos, int(h.size), nil, &r); err != nil {
		return message.Half{}, fmt.Errorf("txn: read half %s: %w", h.handle(), err)
	}
	now := c.o.Clock.Now()
	c.mu.Lock()
	out := h.show(now)
	c.mu.Unlock()
	out.Message = r.Message()
	out.Message.Topic, out.Message.QueueID = strings.Clone(h.real.Topic), h.real.ID
	key, _ := r.Property(message.PropIdempotency)
	out.Message.IdempotencyKey = strings.Clone(key)
	return out, nil
}
