package txn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/embermq/embermq/message"
)

// Carry appends the halves without a final verdict whose records lie below before
// once more, so that those records may be removed. Every half keeps its id, its
// age and its checks; those that were given up are carried too.
//
// When it returns nil, none is left below and the copies are on disk. After an error
// those that were carried stay carried. A half whose record cannot be read any
// more is an error that matches message.ErrCorrupt; the others are carried all
// the same.
func (c *Coordinator) Carry(ctx context.Context, before int64) (carried int, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return carried, fmt.Errorf("txn: carry: %w", err)
		}
		o := new(op)
		hs, busy, err := c.low(before, o)
		if err != nil {
			return carried, err
		}
		if len(hs) == 0 && busy == nil {
			return carried, nil
		}
		n, err := c.carryAll(hs, o)
		carried += n
		if err != nil {
			return carried, err
		}
		if busy != nil {
			select {
			case <-busy:
			case <-ctx.Done():
			}
		}
	}
}

// low claims the halves below before, and returns what to wait for if one of them
// is busy.
func (c *Coordinator) low(before int64, o *op) (hs []*half, busy <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil, nil, fmt.Errorf("txn: carry: %w", message.ErrClosed)
	}
	for _, h := range c.mu.at {
		switch {
		case h.pos >= before:
		case h.busy != nil:
			busy = h.busy.waitLocked()
		default:
			hs = append(hs, h)
			c.claimLocked(h, o)
		}
	}
	slices.SortFunc(hs, func(a, b *half) int { return cmp.Compare(a.pos, b.pos) })
	return hs, busy, nil
}

// carryAll appends halves that are busy with o, in as many groups as they need.
func (c *Coordinator) carryAll(hs []*half, o *op) (carried int, err error) {
	defer func() {
		c.mu.Lock()
		o.doneLocked()
		for _, h := range hs {
			c.unclaimLocked(h, o)
			c.appends.Done()
		}
		c.mu.Unlock()
	}()
	var damaged error
	for rest := hs; len(rest) > 0; {
		n, done, skipped, err := c.carryGroup(rest)
		carried += done
		damaged = errors.Join(damaged, skipped)
		if err != nil {
			return carried, errors.Join(damaged, err)
		}
		rest = rest[n:]
	}
	return carried, damaged
}

// carryMost is how many halves one group carries.
const carryMost = 256

// carryGroup appends the first of hs that fit one group: n were dealt with, so
// many were carried, and skipped says why the others cannot be.
func (c *Coordinator) carryGroup(hs []*half) (n, carried int, skipped, err error) {
	var g Group
	records := make([]message.Record, min(len(hs), carryMost))
	bytes := int64(0)
	for i, h := range hs[:len(records)] {
		if bytes += int64(h.size) + CommitRoom; bytes > c.o.GroupBytes && i > 0 {
			break
		}
		n++
		if _, err := c.o.Read(h.pos, int(h.size), nil, &records[i]); err != nil {
			if errors.Is(err, message.ErrCorrupt) || errors.Is(err, message.ErrNotFound) {
				skipped = errors.Join(skipped, &message.CorruptError{Offset: h.pos, Reason: "half cannot be carried", Err: err})
				continue
			}
			return 0, 0, nil, fmt.Errorf("txn: carry: %w", err)
		}
		c.mu.Lock()
		g.Copies = append(g.Copies, again(h, &records[i])) // under the lock: it reads the checks
		c.mu.Unlock()
	}
	for len(g.Copies) > 0 {
		err := c.o.Appender.Append(context.Background(), &g)
		bad := (*CopyError)(nil)
		if errors.As(err, &bad) && bad.Index >= 0 && bad.Index < len(g.Copies) {
			if !errors.Is(bad, message.ErrNotFound) { // else its topic is gone, and it too
				skipped = errors.Join(skipped, &message.CorruptError{Offset: g.Copies[bad.Index].Of, Reason: "half cannot be carried", Err: bad})
			}
			g.Copies = append(g.Copies[:bad.Index], g.Copies[bad.Index+1:]...)
			continue
		}
		if err != nil {
			return 0, 0, nil, fmt.Errorf("txn: carry: %w", err)
		}
		return n, len(g.Copies), skipped, nil
	}
	return n, 0, skipped, nil
}
