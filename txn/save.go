package txn

import (
	"context"
	"errors"
	"fmt"

	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

// frozen is what one save writes.
type frozen struct {
	halves []*half
	rows   []row // of halves, as they were
	dead   map[int64]struct{}
	floors map[string]int64
	pages  map[int][]remembered
	mark   markRow
	done   bool // it is on disk; guarded by Coordinator.mu
}

// Freeze takes what changed up to m and returns the function that saves it. One
// save runs at a time. A freeze whose save failed, or never ran, is part of the
// next one.
func (c *Coordinator) Freeze(m message.Mark) func() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restoreLocked()
	f := &frozen{halves: c.mu.fresh, dead: c.mu.dead, floors: make(map[string]int64), pages: make(map[int][]remembered)}
	for _, h := range f.halves {
		h.fresh, h.stored = -1, true
		f.rows = append(f.rows, h.row)
	}
	for name := range c.mu.sunk {
		f.floors[name] = c.mu.floors[name]
	}
	o := &c.mu.outcomes
	for n := range o.dirty {
		f.pages[n] = o.page(n)
	}
	clear(o.dirty)
	f.mark = markRow{mark: m, most: o.most, count: len(o.ring), next: o.next()}
	c.mu.fresh, c.mu.dead, c.mu.sunk = nil, make(map[int64]struct{}), make(map[string]bool)
	c.mu.frozen = f
	return func() error { return c.save(f) }
}

// restoreLocked takes back a freeze that is not on disk. Parts of it may be.
func (c *Coordinator) restoreLocked() {
	f := c.mu.frozen
	if f == nil || f.done {
		return
	}
	c.mu.frozen = nil
	for _, h := range f.halves {
		if c.mu.at[h.pos] == h {
			c.dirtyLocked(h)
		}
	}
	for pos := range f.dead {
		c.mu.dead[pos] = struct{}{}
	}
	for name := range f.floors {
		c.mu.sunk[name] = true
	}
	for n := range f.pages {
		c.mu.outcomes.dirty[n] = true
	}
}

var errSuperseded = errors.New("txn: save: a later freeze has taken this one back")

// save writes a freeze. Mostly it is one batch. A very large one goes in several,
// of which the last has the mark. Rows that a crash leaves in front of the mark do
// no harm: the replay meets their records again.
func (c *Coordinator) save(f *frozen) error {
	c.saving.Lock()
	defer c.saving.Unlock()
	c.mu.Lock()
	current := c.mu.frozen == f
	c.mu.Unlock()
	if !current {
		return errSuperseded
	}
	err := c.write(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.restoreLocked()
		return fmt.Errorf("txn: save: %w", err)
	}
	f.done = true
	c.mu.saved, c.mu.isNew = f.mark.mark, false
	if c.mu.frozen == f {
		c.mu.frozen = nil
	}
	return nil
}

func (c *Coordinator) write(f *frozen) error {
	b := new(kv.Batch)
	var kb, vb []byte
	full := func() error {
		if b.Size() < c.o.saveBytes {
			return nil
		}
		err := c.db.Apply(context.Background(), b, false)
		b.Reset()
		return err
	}
	for pos := range f.dead {
		kb = halfKey(kb[:0], pos)
		b.Delete(kb)
		if err := full(); err != nil {
			return err
		}
	}
	for i := range f.rows {
		kb, vb = halfKey(kb[:0], f.rows[i].pos), f.rows[i].append(vb[:0])
		b.Set(kb, vb)
		if err := full(); err != nil {
			return err
		}
	}
	for name, floor := range f.floors {
		kb, vb = append(append(kb[:0], prefixGone...), name...), appendFloor(vb[:0], floor)
		b.Set(kb, vb)
	}
	for n, p := range f.pages {
		kb, vb = pageKey(kb[:0], n), appendPage(vb[:0], p)
		b.Set(kb, vb)
		if err := full(); err != nil {
			return err
		}
	}
	b.Set([]byte(keyMark), f.mark.append(vb[:0]))
	return c.db.Apply(context.Background(), b, true)
}

// Reset forgets everything, on disk too. A replay from the log's start follows.
func (c *Coordinator) Reset() error {
	c.saving.Lock()
	defer c.saving.Unlock()
	b := new(kv.Batch)
	b.DeleteRange([]byte(prefixAll), end(prefixAll))
	if err := c.db.Apply(context.Background(), b, true); err != nil {
		return fmt.Errorf("txn: reset: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clearLocked()
	return nil
}

// load reads what was saved. State that cannot be read is no state: the view is
// then rebuilt.
func (c *Coordinator) load() error {
	var mark markRow
	found := false
	var bad error
	read := func(from string, to []byte, f func(k, v []byte) error) error {
		for r, err := range c.db.Scan([]byte(from), to) {
			if err != nil {
				return fmt.Errorf("txn: load: %w", err)
			}
			if err := f(r.Key, r.Value); err != nil {
				bad = errors.Join(bad, err)
				return nil
			}
		}
		return nil
	}
	var ring []remembered
	for _, part := range []struct {
		from string
		to   []byte
		row  func(k, v []byte) error
	}{
		{keyMark, []byte(keyMark + "\x00"), func(k, v []byte) (err error) {
			found = true
			mark, err = parseMark(k, v)
			return err
		}},
		{prefixGone, end(prefixGone), func(k, v []byte) error {
			topic, floor, err := parseFloor(k, v)
			c.mu.floors[topic] = floor
			return err
		}},
		{prefixHalf, end(prefixHalf), func(k, v []byte) error {
			r, err := parseHalf(k, v)
			if err != nil {
				return err
			}
			r.real.Topic = c.internLocked(r.real.Topic)
			h := &half{row: r, fresh: -1, stored: true}
			c.addLocked(h)
			return nil
		}},
		{prefixPage, end(prefixPage), func(k, v []byte) error {
			if mark.most != c.o.Remember || len(ring) >= mark.count {
				return nil // another size of the ring, or what is left of one
			}
			n, p, err := parsePage(k, v)
			if err != nil {
				return err
			}
			if n*pageLen != len(ring) {
				return damage(k, "a page is missing")
			}
			ring = append(ring, p...)
			return nil
		}},
	} {
		if err := read(part.from, part.to, part.row); err != nil {
			return err
		}
	}
	if bad == nil && found && mark.most == c.o.Remember && mark.count > len(ring) {
		bad = damage([]byte(prefixPage), "a page is missing")
	}
	if bad != nil || !found {
		if bad != nil {
			c.o.Logger.Error("saved halves cannot be read; they are rebuilt", "error", bad)
		}
		c.clearLocked()
		return nil
	}
	c.mu.saved, c.mu.isNew = mark.mark, false
	if mark.most == c.o.Remember {
		c.mu.outcomes.load(ring[:mark.count], mark.next)
	}
	return nil
}
