package crash

import "slices"

const (
	pageSize   = 4096
	sectorSize = 512
)

type page [pageSize]byte

// ref is a page of a file. A nil p is room that was reserved or an image of
// zeros; it reads as a hole.
type ref struct {
	idx int64
	p   *page
	// prev is what the disk had before p, for StaleSector.
	prev *page
	// own is the token of the Sim that may write to *p in place.
	// Invariant: a page that anything else can reach has another token here.
	own uint64
}

// image is the content of a file. Pages that are not in refs are holes.
// Invariant: refs is sorted by idx, all of it below size, and bytes of the last
// page behind size are zero.
type image struct {
	size int64
	refs []ref
	own  uint64 // token of the Sim that may change refs in place
}

// find returns where idx is or belongs.
func (im *image) find(idx int64) (int, bool) {
	n := len(im.refs)
	if n == 0 || im.refs[n-1].idx < idx { // appending
		return n, false
	}
	lo, hi := 0, n
	for lo < hi {
		m := int(uint(lo+hi) / 2)
		if im.refs[m].idx < idx {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo, im.refs[lo].idx == idx
}

func (im *image) page(idx int64) *page {
	if i, ok := im.find(idx); ok {
		return im.refs[i].p
	}
	return nil
}

// edit makes refs this token's own.
func (im *image) edit(token uint64) {
	if im.own != token {
		im.refs = slices.Clone(im.refs)
		im.own = token
	}
}

// at returns the ref of idx, made when it was missing. The caller has called edit.
func (im *image) at(idx int64) (r *ref, fresh bool) {
	i, ok := im.find(idx)
	if !ok {
		im.refs = slices.Insert(im.refs, i, ref{idx: idx})
	}
	return &im.refs[i], !ok
}

// readAt fills p from off; what lies behind size is the caller's affair.
func (im *image) readAt(p []byte, off int64) {
	for len(p) > 0 {
		o := int(off % pageSize)
		n := min(len(p), pageSize-o)
		if pg := im.page(off / pageSize); pg != nil {
			copy(p[:n], pg[o:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// nextData returns the first run of pages at or behind off.
func (im *image) nextData(off int64) (start, end int64, ok bool) {
	i, _ := im.find(off / pageSize)
	for i < len(im.refs) && im.refs[i].p == nil {
		i++
	}
	if i == len(im.refs) || off >= im.size {
		return 0, 0, false
	}
	first := im.refs[i].idx
	last := first
	for i++; i < len(im.refs) && im.refs[i].idx == last+1 && im.refs[i].p != nil; i++ {
		last++
	}
	return max(off, first*pageSize), min(im.size, (last+1)*pageSize), true
}

// trim cuts refs, which nobody else holds, to size.
func trim(refs []ref, size int64) []ref {
	for len(refs) > 0 && refs[len(refs)-1].idx*pageSize >= size {
		refs = refs[:len(refs)-1]
	}
	o := size % pageSize
	if len(refs) == 0 || o == 0 {
		return refs
	}
	r := &refs[len(refs)-1]
	if r.idx != size/pageSize || r.p == nil || isZero(r.p[o:]) {
		return refs
	}
	p := *r.p
	clear(p[o:])
	r.p = &p
	return refs
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
