package crash

import "sync"

// A campaign makes millions of images, and each copies a few pages and is looked
// at once. Where Free is called, they take turns with the same pages.

var pages = sync.Pool{New: func() any { return new(page) }}

// Reuse lets images that are made from now on, and theirs, take their pages
// from those that Free gave back.
func (s *Sim) Reuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reuse = true
}

// Free gives the pages back that an image has taken because of Reuse. Neither it
// nor what was made from it may be used afterwards, open files included. An image
// that is not freed is left to the garbage collector.
func (s *Sim) Free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped, s.inodes, s.chunk = true, nil, nil
	for _, p := range s.taken {
		pages.Put(p)
	}
	s.taken = nil
}

// newPage returns a page with arbitrary content.
func (s *Sim) newPage() *page {
	if !s.take {
		return new(page)
	}
	p := pages.Get().(*page)
	s.taken = append(s.taken, p)
	return p
}

// copyPage returns a copy of p, of zeros if it is nil.
func (s *Sim) copyPage(p *page) *page {
	c := s.newPage()
	if p != nil {
		*c = *p
	} else {
		clear(c[:])
	}
	return c
}

// copyBytes returns a copy of b.
func (s *Sim) copyBytes(b []byte) []byte {
	if !s.take || len(b) > pageSize/4 {
		return append([]byte(nil), b...)
	}
	if len(s.chunk) < len(b) {
		s.chunk = s.newPage()[:]
	}
	c := s.chunk[:len(b):len(b)]
	s.chunk = s.chunk[len(b):]
	copy(c, b)
	return c
}
