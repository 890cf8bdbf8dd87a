package index

import (
	"context"
	"encoding/binary"
	"errors"
)

// Check reads all index files and reports what does not fit; it changes nothing.
// verify says whether the record at a position has a key with the hash; nil skips
// that. report gets the place of the damage. Entries that are only in memory are
// not looked at. The error is ctx's or the file system's.
func (x *Index) Check(ctx context.Context, verify func(position int64, hash int32) error, report func(path string, off int64, reason string)) error {
	if err := x.await(ctx, x.loaded.Load); err != nil && !isCorrupt(err) {
		return err
	}
	if damage := x.Damaged(); damage != nil {
		report(x.Path(), 0, damage.Error())
	}
	list := *x.files.Load()
	if err := x.checkFolder(list, report); err != nil {
		return err
	}
	for _, f := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := checker{x: x, ctx: ctx, f: f, verify: verify, report: report}
		if err := c.run(); err != nil && !errors.Is(err, errGone) {
			return err
		}
	}
	return nil
}

// checkFolder reports what is not an index file, and what is one and not ours.
func (x *Index) checkFolder(list []*file, report func(path string, off int64, reason string)) error {
	entries, err := x.fsys.List(".")
	if err != nil && !isNotExist(err) {
		return err
	}
	first := int64(0)
	known := make(map[string]bool, len(list))
	for i, f := range list {
		known[f.name] = true
		if i == 0 {
			first = f.number
		}
	}
	x.buildMu.Lock()
	newest := x.number
	x.buildMu.Unlock()
	for _, e := range entries {
		n, ok := parseName(e.Name)
		switch {
		case !ok || e.Dir || e.Link:
			report(x.fsys.Path(e.Name), 0, "stray file")
		case !known[e.Name] && !x.o.ReadOnly && n >= first && n <= newest:
			report(x.fsys.Path(e.Name), 0, "file that the index does not know")
		case known[e.Name] && e.Size != x.g.size():
			report(x.fsys.Path(e.Name), e.Size, "file has the wrong length")
		}
	}
	return nil
}

type checker struct {
	x      *Index
	ctx    context.Context
	f      *file
	verify func(int64, int32) error
	report func(string, int64, string)
	slots  []uint32
}

func (c *checker) run() error {
	x, f := c.x, c.f
	x.buildMu.Lock()
	head, next, created, stored, crc, slotsCRC := f.head, f.written, f.created, f.stored, f.entriesCRC, f.slotsCRC
	x.buildMu.Unlock()
	if !created {
		return nil
	}
	c.slots = make([]uint32, f.g.slots)
	err := c.entries(next, stored, crc)
	if err == nil && stored {
		err = c.table(head, slotsCRC)
	}
	if isCorrupt(err) {
		c.report(x.fsys.Path(f.name), 0, err.Error())
		return nil
	}
	return err
}

// entries checks every entry and computes the slots. What cannot be believed ends
// the walk: the chains behind it are not known.
func (c *checker) entries(next int64, stored bool, want uint32) error {
	last := int64(-1)
	sum, err := c.x.eachEntry(c.f, next, func(k int64, e Entry) error {
		if k%pieceEntries == 0 && c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		if reason := follows(c.f.g, c.slots, k, e, last); reason != "" {
			return c.x.corrupt(c.f, c.f.g.entryAt(k), reason, nil)
		}
		last = e.Position
		c.slots[c.f.g.slotOf(e.Hash)] = uint32(k)
		if c.verify == nil {
			return nil
		}
		if err := c.verify(e.Position, e.Hash); err != nil {
			c.report(c.x.fsys.Path(c.f.name), c.f.g.entryAt(k), err.Error())
		}
		return nil
	})
	if err == nil && stored && sum != want {
		c.report(c.x.fsys.Path(c.f.name), c.f.g.entryAt(0), "entries do not match their checksum")
	}
	return err
}

// table compares header and slots with what the entries say.
func (c *checker) table(head Header, want uint32) error {
	path := c.x.fsys.Path(c.f.name)
	var b [HeaderSize]byte
	if err := c.x.readAt(c.f, b[:], 0); err != nil {
		return err
	}
	if DecodeHeader(b[:]) != head || int32(binary.BigEndian.Uint32(b[36:])) != head.Next {
		c.report(path, 0, "header is not what was written")
	}
	bad := int64(-1)
	crc, err := c.x.readSlots(c.f, func(s int64, v uint32) {
		if v != c.slots[s] && bad < 0 {
			bad = s
		}
	})
	if err != nil {
		return err
	}
	if bad >= 0 || crc != want {
		c.report(path, c.f.g.slotAt(max(bad, 0)), "slot does not lead to its newest entry")
	}
	return nil
}
