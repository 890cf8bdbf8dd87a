package crash

import "slices"

// inode is a file or a folder with both of its images.
type inode struct {
	own   uint64 // token of the Sim that may change it in place
	dir   bool
	path  string // its newest name, for hooks, patterns and errors
	links int    // names in the cache

	// Files.
	cache, disk image
	dirty       []dirtyPage // sorted by idx
	sizes       []sizeEvent // length changes since the last sync
	// reserved says that the cache has reserved room since the last sync.
	reserved bool
	// lost says that a failed sync has left bytes in the cache that are not dirty
	// and not on the disk.
	lost bool
	// errs counts failed write-backs; seen says that some open file has reported
	// the newest, so that a file opened from now on will not.
	errs uint32
	seen bool

	// Folders.
	names, diskNames []dirent // sorted by name
	pending          []nameOp // name changes since the last sync, in order
}

// dirtyPage holds the stores to one page since the last good sync.
type dirtyPage struct {
	idx int64
	// base is the cache's page before the first store. It differs from the disk's
	// after a failed sync: a later write-back takes the lost bytes along.
	base *page
	// fresh: there was no room on the disk before, so if the store is lost, the
	// room may hold garbage.
	fresh  bool
	stores []delta
}

// delta is one store, or with cut >= 0 the effect of a truncation: everything
// from off on is zero.
type delta struct {
	seq  int64
	data []byte
	off  int
	cut  int // index into sizes, or -1
}

type sizeEvent struct{ size int64 }

// clean says that a power cut has no choice about the inode.
func (n *inode) clean() bool {
	return len(n.dirty) == 0 && len(n.sizes) == 0 && !n.lost && !n.reserved && len(n.pending) == 0
}

// clone returns a copy for token. Slices that are only appended to are shared
// with their capacity cut off; slices that are changed in place are copied.
func (n *inode) clone(token uint64) *inode {
	c := *n
	c.own = token
	c.sizes = slices.Clip(c.sizes)
	c.pending = slices.Clip(c.pending)
	c.dirty = slices.Clone(c.dirty)
	for i := range c.dirty {
		c.dirty[i].stores = slices.Clip(c.dirty[i].stores)
	}
	c.names = slices.Clone(c.names)
	c.diskNames = slices.Clone(c.diskNames)
	return &c
}

// touch returns the dirty page idx, made when the page was clean.
func (n *inode) touch(idx int64, r *ref, fresh bool) *dirtyPage {
	i, ok := n.findDirty(idx)
	if !ok {
		n.dirty = slices.Insert(n.dirty, i, dirtyPage{idx: idx, base: r.p, fresh: fresh})
		r.own = 0 // base holds on to it
	}
	return &n.dirty[i]
}

func (n *inode) findDirty(idx int64) (int, bool) {
	if k := len(n.dirty); k == 0 || n.dirty[k-1].idx < idx {
		return k, false
	}
	return slices.BinarySearchFunc(n.dirty, idx, func(d dirtyPage, idx int64) int {
		return int(min(1, max(-1, d.idx-idx)))
	})
}

// writable returns the page of r for changing in place.
func (r *ref) writable(s *Sim) *page {
	if r.own != s.token {
		r.p, r.own = s.copyPage(r.p), s.token
	}
	return r.p
}

func (n *inode) write(s *Sim, p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	data := s.copyBytes(p)
	end := off + int64(len(p))
	n.cache.edit(s.token)
	for len(data) > 0 {
		o := int(off % pageSize)
		k := min(len(data), pageSize-o)
		r, fresh := n.cache.at(off / pageSize)
		d := n.touch(r.idx, r, fresh)
		d.stores = append(d.stores, delta{seq: s.seq, data: data[:k], off: o, cut: -1})
		copy(r.writable(s)[o:], data[:k])
		data, off = data[k:], off+int64(k)
	}
	if end > n.cache.size {
		n.cache.size = end
		n.sizes = append(n.sizes, sizeEvent{size: end})
	}
}

func (n *inode) truncate(s *Sim, size int64) {
	if size == n.cache.size {
		return
	}
	if size < n.cache.size {
		n.cache.edit(s.token)
		i, _ := n.cache.find(size / pageSize)
		kept := n.cache.refs[:i]
		for _, r := range n.cache.refs[i:] {
			o := int(max(0, size-r.idx*pageSize))
			d := n.touch(r.idx, &r, false)
			d.stores = append(d.stores, delta{seq: s.seq, off: o, cut: len(n.sizes)})
			if o > 0 {
				if r.p != nil {
					clear(r.writable(s)[o:])
				}
				kept = append(kept, r)
			}
		}
		clear(n.cache.refs[len(kept):])
		n.cache.refs = kept
	}
	n.cache.size = size
	n.sizes = append(n.sizes, sizeEvent{size: size})
}

// reserve takes room without changing what is read.
func (n *inode) reserve(token uint64, off, k int64) {
	n.cache.edit(token)
	n.reserved = true
	for idx := off / pageSize; idx*pageSize < off+k; idx++ {
		n.cache.at(idx)
	}
}

// needsSize says that the dirty bytes cannot be read at the disk's length.
func (n *inode) needsSize() bool {
	if len(n.sizes) == 0 {
		return false
	}
	for i := range n.dirty {
		d := &n.dirty[i]
		cut := false
		for _, s := range d.stores {
			if s.cut >= 0 {
				cut = true
			} else if cut || d.idx*pageSize+int64(s.off+len(s.data)) > n.disk.size {
				return true
			}
		}
	}
	return false
}

// sync moves the dirty pages, and with meta (or when it must) the length, to the
// disk. pick, when not nil, chooses the pages: a sync that is interrupted.
func (n *inode) sync(token uint64, meta bool, pick func() bool) {
	meta = meta || n.needsSize()
	if len(n.dirty) > 0 {
		n.cache.edit(token)
		n.disk.edit(token)
	}
	kept := n.dirty[:0]
	for _, d := range n.dirty {
		i, ok := n.cache.find(d.idx)
		switch {
		case pick != nil && (d.hasCut() || !pick()):
			kept = append(kept, d)
		case ok:
			n.commit(&n.cache.refs[i])
		case meta:
			if j, ok := n.disk.find(d.idx); ok {
				n.disk.refs = slices.Delete(n.disk.refs, j, j+1)
			}
		default: // cut off, and the cut is not durable yet
			d.dropStores()
			kept = append(kept, d)
		}
	}
	clear(n.dirty[len(kept):])
	n.dirty = kept
	if meta && pick == nil {
		n.disk.size = n.cache.size
		n.sizes = nil
		if n.reserved {
			n.reserved = false
			n.disk.edit(token)
			for _, r := range n.cache.refs {
				n.disk.at(r.idx)
			}
		}
	}
}

func (n *inode) commit(r *ref) {
	d, _ := n.disk.at(r.idx)
	d.prev, d.p, d.own = d.p, r.p, 0
	r.own = 0
}

func (d *dirtyPage) hasCut() bool {
	for _, s := range d.stores {
		if s.cut >= 0 {
			return true
		}
	}
	return false
}

// dropStores keeps only truncations: they are changes of the inode, not data.
func (d *dirtyPage) dropStores() {
	var cuts []delta
	for _, s := range d.stores {
		if s.cut >= 0 {
			cuts = append(cuts, s)
		}
	}
	d.stores = cuts
}

// failSync is a write-back that the disk refused: the pages are marked clean,
// the disk stays old. With revert the cache takes the disk's content too.
func (n *inode) failSync(token uint64, revert bool) {
	n.cache.edit(token)
	kept := n.dirty[:0]
	for _, d := range n.dirty {
		if i, ok := n.cache.find(d.idx); ok {
			r := &n.cache.refs[i]
			r.own = 0
			if revert {
				r.p = n.disk.page(d.idx)
			}
		}
		n.lost = true
		if d.dropStores(); len(d.stores) > 0 {
			kept = append(kept, d)
		}
	}
	clear(n.dirty[len(kept):])
	n.dirty = kept
	if revert {
		n.cache.refs = trim(n.cache.refs, n.cache.size)
	}
}
