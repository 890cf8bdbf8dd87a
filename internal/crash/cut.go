package crash

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// PowerCut returns the machine after a power cut now and a restart. The Sim
// itself goes on as if nothing had happened.
func (s *Sim) PowerCut(mode Mode, sub uint64) *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.random(sub)
	p := picker{mode: mode, r: &r, p: float64(mode-chance) / 1000}
	switch mode {
	case OnlyNewestPage:
		p.seq = s.newest()
	case AllButOneSector:
		p.sector = s.oneSector(&r)
	}
	return s.cut(mode, sub, &p)
}

// cut builds an image by p's choices.
func (s *Sim) cut(mode Mode, sub uint64, p *picker) *Sim {
	c := s.forkLocked(mode, sub)
	named := false
	for i, n := range c.inodes {
		switch {
		case n == nil || n.clean():
		case n.dir:
			named = true
		default:
			c.inodes[i] = c.cutFile(n, p)
		}
	}
	if named {
		c.cutNames(p)
	}
	if named || s.removed > 0 {
		c.collect()
	}
	return c
}

// cutFile returns n as the disk has it after the cut.
func (s *Sim) cutFile(n *inode, p *picker) *inode {
	events := p.size(n)
	size := n.disk.size
	if events > 0 {
		size = n.sizes[events-1].size
	}
	if events < len(n.sizes) {
		s.outcome.SizesOld++
	} else if events > 0 {
		s.outcome.SizesNew++
	}
	refs := make([]ref, 0, len(n.disk.refs)+len(n.dirty))
	old := n.disk.refs
	for i := range n.dirty {
		d := &n.dirty[i]
		for len(old) > 0 && old[0].idx < d.idx {
			refs, old = append(refs, old[0]), old[1:]
		}
		r := ref{idx: d.idx}
		onDisk := len(old) > 0 && old[0].idx == d.idx
		if onDisk {
			r.p, old = old[0].p, old[1:]
		}
		if r.p = s.cutPage(n, d, r.p, events, p); r.p != nil || onDisk {
			refs = append(refs, r)
		}
	}
	refs = append(refs, old...)
	for i := range refs {
		refs[i].own = 0
	}
	im := image{size: size, refs: trim(refs, size)}
	return &inode{path: n.path, links: n.links, cache: im, disk: im}
}

// cutPage returns d's page as the disk has it after the cut; old is what it had
// before. The stores before a truncation that was kept are gone for certain, and
// so are the ones behind a truncation that was lost.
func (s *Sim) cutPage(n *inode, d *dirtyPage, old *page, events int, p *picker) *page {
	lo, hi := 0, len(d.stores)
	for i, st := range d.stores {
		if st.cut >= events && st.cut >= 0 {
			hi = i
			break
		}
		if st.cut >= 0 {
			lo = i + 1
		}
	}
	if lo > 0 {
		old = d.version(s, old, lo)
	}
	k, sectors := p.page(n, d, lo, hi)
	switch {
	case lo == hi:
		return old
	case k == lo || sectors == 0:
		s.outcome.PagesOld++
		if k == lo && lo == 0 && d.fresh && s.garbage != GarbageZero {
			return s.garble(n, d, p)
		}
		return old
	}
	var now *page
	if i, ok := n.cache.find(d.idx); ok && k == len(d.stores) {
		now = n.cache.refs[i].p
	} else {
		now = d.version(s, d.base, k)
	}
	if sectors == allSectors {
		if k == hi {
			s.outcome.PagesNew++
		} else {
			s.outcome.PagesPrefix++
		}
		return now
	}
	s.outcome.PagesTorn++
	torn := s.copyPage(old)
	for i := range sectorsPerPage {
		if sectors&(1<<i) != 0 {
			copy(torn[i*sectorSize:(i+1)*sectorSize], now[i*sectorSize:])
		}
	}
	return torn
}

const (
	sectorsPerPage = pageSize / sectorSize
	allSectors     = 1<<sectorsPerPage - 1
)

// version is base after the first k stores.
func (d *dirtyPage) version(s *Sim, base *page, k int) *page {
	p := s.copyPage(base)
	for _, st := range d.stores[:k] {
		if st.cut >= 0 {
			clear(p[st.off:])
		} else {
			copy(p[st.off:], st.data)
		}
	}
	return p
}

// garble returns what a lost page reads as that had no room on the disk before.
// Only bytes behind the old length can be garbage.
func (s *Sim) garble(n *inode, d *dirtyPage, p *picker) *page {
	from := max(0, n.disk.size-d.idx*pageSize)
	if from >= pageSize || !p.garble() {
		return nil
	}
	s.outcome.PagesGarbage++
	g := s.copyPage(nil)
	if s.garbage == GarbageStale {
		if stale := s.anyPage(p.r); stale != nil {
			copy(g[from:], stale[from:])
			return g
		}
	}
	for i := int(from); i+8 <= pageSize; i += 8 {
		binary.LittleEndian.PutUint64(g[i:], p.r.next())
	}
	return g
}

// anyPage returns a page of some file, whether it has a name still or not.
func (s *Sim) anyPage(r *random) *page {
	for range 8 {
		n := s.inodes[r.below(len(s.inodes))]
		if n == nil || len(n.disk.refs) == 0 {
			continue
		}
		ref := &n.disk.refs[r.below(len(n.disk.refs))]
		if ref.prev != nil && r.coin() {
			return ref.prev
		}
		return ref.p
	}
	return nil
}

// nameChoice is a change of a name in a cut.
type nameChoice struct {
	nameOp
	dir  int
	kept bool
}

// cutNames chooses a prefix of the changes of each name.
func (s *Sim) cutNames(p *picker) {
	ops := s.pendingNames()
	for i := 0; i < len(ops); {
		j := i + 1
		for j < len(ops) && ops[j].dir == ops[i].dir && ops[j].name == ops[i].name {
			j++
		}
		for k := range p.name(j - i) {
			ops[i+k].kept = true
		}
		i = j
	}
	keepNewNames(ops)
	for i, n := range s.inodes {
		if n != nil && n.dir && !n.clean() {
			d := s.edit(i)
			d.pending = nil
			d.names = slices.Clone(d.diskNames)
		}
	}
	for _, op := range ops {
		if !op.kept {
			s.outcome.NamesOld++
			continue
		}
		s.outcome.NamesNew++
		d := s.inodes[op.dir]
		d.names = setName(d.names, op.name, op.ino)
		d.diskNames = setName(d.diskNames, op.name, op.ino)
	}
	s.relink()
}

// pendingNames returns the changes that are not durable, by folder, name and age.
func (s *Sim) pendingNames() []nameChoice {
	var ops []nameChoice
	for i, n := range s.inodes {
		if n == nil || !n.dir {
			continue
		}
		for _, op := range n.pending {
			ops = append(ops, nameChoice{nameOp: op, dir: i})
		}
	}
	slices.SortFunc(ops, func(a, b nameChoice) int {
		return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.name, b.name), cmp.Compare(a.seq, b.seq))
	})
	return ops
}

// keepNewNames takes back the removal of an old name whose new name is lost,
// and with it all later changes of the old name, until nothing more follows.
func keepNewNames(ops []nameChoice) {
	for again := true; again; {
		again = false
		for i := range ops {
			if !ops[i].kept || ops[i].needs.seq == 0 {
				continue
			}
			k := slices.IndexFunc(ops, func(o nameChoice) bool { return o.seq == ops[i].needs.seq })
			if k < 0 || ops[k].kept {
				continue // durable already, or kept
			}
			for j := i; j < len(ops) && ops[j].dir == ops[i].dir && ops[j].name == ops[i].name; j++ {
				ops[j].kept = false
			}
			again = true
		}
	}
}

// relink counts names and corrects paths from the root after names have changed.
func (s *Sim) relink() {
	links := make([]int, len(s.inodes))
	links[0] = 1
	var visit func(dir int)
	visit = func(dir int) {
		for _, e := range s.inodes[dir].names {
			n := s.inodes[e.ino]
			links[e.ino]++
			if p := join(s.inodes[dir].path, e.name); n.path != p {
				n = s.edit(e.ino)
				n.path = p
			}
			if n.dir {
				visit(e.ino)
			}
		}
	}
	visit(0)
	for i, n := range s.inodes {
		if n != nil && n.links != links[i] {
			s.edit(i).links = links[i]
		}
	}
}
