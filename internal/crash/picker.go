package crash

// picker makes the choices of one power cut.
type picker struct {
	mode   Mode
	r      *random
	p      float64
	seq    int64  // OnlyNewestPage: the page that holds this store
	sector sector // AllButOneSector: the one that is lost
	// digits are the choices of an enumerated image, in the order in which the cut
	// asks; next is the first that was not asked for, bases is how many choices
	// each had.
	digits []int
	bases  []int
	next   int
}

// sector is one sector of a dirty page.
type sector struct {
	n   *inode
	idx int64
	bit int
}

// size returns how many of n's length changes are kept.
func (p *picker) size(n *inode) int {
	k := len(n.sizes)
	if k == 0 {
		return 0
	}
	switch {
	case p.mode == KeepNone:
		return 0
	case p.mode == enumerated:
		return p.digit(k + 1)
	case p.mode < kill:
		return k
	}
	return p.prefix(k)
}

// name returns how many of k changes of one name are kept.
func (p *picker) name(k int) int {
	switch {
	case p.mode == KeepNone:
		return 0
	case p.mode == enumerated:
		return p.digit(k + 1)
	case p.mode < kill:
		return k
	}
	return p.prefix(k)
}

// prefix keeps all or some of k with probability p.
func (p *picker) prefix(k int) int {
	if !p.r.chance(p.p) {
		return 0
	}
	if k == 1 || p.r.coin() {
		return k
	}
	return 1 + p.r.below(k)
}

// page returns how many of d's stores reached the disk, in [lo, hi], and which
// sectors did.
func (p *picker) page(n *inode, d *dirtyPage, lo, hi int) (k int, sectors uint) {
	if lo == hi {
		return lo, 0
	}
	switch p.mode {
	case KeepNone:
		return lo, 0
	case KeepAll:
		return hi, allSectors
	case enumerated:
		return lo + p.digit(hi-lo+1), allSectors
	case OnlyNewestPage:
		if d.stores[hi-1].seq == p.seq {
			return hi, allSectors
		}
		return lo, 0
	case AllButOneSector:
		if p.sector.n == n && p.sector.idx == d.idx {
			return hi, allSectors &^ (1 << p.sector.bit)
		}
		return hi, allSectors
	case LastStoreOfEachFile:
		return hi, d.sectorsOf(n.lastStore(), hi)
	}
	k = lo + p.prefix(hi-lo)
	sectors = allSectors
	if k > lo && p.r.next()&3 == 0 {
		sectors = uint(p.r.next() & allSectors)
	}
	return k, sectors
}

// garble says whether a lost page that may read as garbage does.
func (p *picker) garble() bool { return p.mode >= chance && p.r.next()&3 == 0 }

// digit returns the next choice out of base of an enumerated image.
func (p *picker) digit(base int) int {
	if p.next == len(p.digits) {
		p.digits = append(p.digits, 0)
		p.bases = append(p.bases, base)
	}
	p.bases[p.next] = base
	p.next++
	return p.digits[p.next-1]
}

// newest returns the last store that is not durable.
func (s *Sim) newest() int64 {
	var seq int64
	for _, n := range s.inodes {
		if n != nil {
			seq = max(seq, n.lastStore())
		}
	}
	return seq
}

// lastStore returns n's last store that is not durable, or 0.
func (n *inode) lastStore() int64 {
	var seq int64
	for i := range n.dirty {
		for _, st := range n.dirty[i].stores {
			if st.cut < 0 {
				seq = max(seq, st.seq)
			}
		}
	}
	return seq
}

// sectorsOf returns the sectors that store seq changed, if it is below hi.
func (d *dirtyPage) sectorsOf(seq int64, hi int) (sectors uint) {
	for _, st := range d.stores[:hi] {
		if st.seq == seq && st.cut < 0 {
			for b := st.off / sectorSize; b*sectorSize < st.off+len(st.data); b++ {
				sectors |= 1 << b
			}
		}
	}
	return sectors
}

// oneSector chooses a sector that some store changed.
func (s *Sim) oneSector(r *random) (chosen sector) {
	seen := 0
	for _, n := range s.inodes {
		if n == nil {
			continue
		}
		for i := range n.dirty {
			d := &n.dirty[i]
			var touched uint
			for _, st := range d.stores {
				touched |= d.sectorsOf(st.seq, len(d.stores))
			}
			for b := range sectorsPerPage {
				if touched&(1<<b) == 0 {
					continue
				}
				if seen++; r.below(seen) == 0 {
					chosen = sector{n: n, idx: d.idx, bit: b}
				}
			}
		}
	}
	return chosen
}
