package crash

import (
	"fmt"
	iofs "io/fs"
)

// Rot damages what a file has, in the cache and on the disk alike, as a bad
// medium would that is found out at the next read. It is no operation: it counts
// nothing and needs no open file. It is meant for bytes that were synced.

// FlipBit flips one bit (0 to 7) of the byte at off.
func (s *Sim) FlipBit(name string, off int64, bit int) error {
	return s.rot(name, off, 1, func(b []byte) { b[0] ^= 1 << (bit & 7) })
}

// ZeroSector clears the sector of 512 bytes that holds off.
func (s *Sim) ZeroSector(name string, off int64) error {
	return s.rot(name, off, sectorSize, func(b []byte) { clear(b) })
}

// StaleSector gives the sector that holds off the content that the disk had
// before its page was last synced: a write that the disk lost.
func (s *Sim) StaleSector(name string, off int64) error {
	s.mu.Lock()
	ino, ok := s.lookup(name)
	var prev *page
	if ok {
		if i, found := s.inodes[ino].disk.find(off / pageSize); found {
			prev = s.inodes[ino].disk.refs[i].prev
		}
	}
	s.mu.Unlock()
	o := off % pageSize / sectorSize * sectorSize
	return s.rot(name, off, sectorSize, func(b []byte) {
		clear(b)
		if prev != nil {
			copy(b, prev[o:])
		}
	})
}

// SwapSectors exchanges the sectors that hold a and b: two writes that went to
// each other's place.
func (s *Sim) SwapSectors(name string, a, b int64) error {
	var x, y [sectorSize]byte
	for _, err := range []error{
		s.rot(name, a, sectorSize, func(p []byte) { copy(x[:], p) }),
		s.rot(name, b, sectorSize, func(p []byte) { copy(y[:], p); copy(p, x[:]) }),
		s.rot(name, a, sectorSize, func(p []byte) { copy(p, y[:]) }),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// rot runs fn on the k-aligned k bytes that hold off, in both images.
func (s *Sim) rot(name string, off, k int64, fn func(b []byte)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ino, ok := s.lookup(name)
	if !ok || s.inodes[ino].dir {
		return fmt.Errorf("crash: rot %s: %w", name, iofs.ErrNotExist)
	}
	n := s.edit(ino)
	if off < 0 || off >= n.cache.size && off >= n.disk.size {
		return fmt.Errorf("crash: rot %s at %d: %w", name, off, iofs.ErrInvalid)
	}
	o := off % pageSize / k * k
	for _, im := range []*image{&n.cache, &n.disk} {
		if off >= im.size {
			continue
		}
		im.edit(s.token)
		r, _ := im.at(off / pageSize)
		r.own = 0 // the images and the stores share pages, so each gets its own
		p := r.writable(s)
		fn(p[o : o+k])
		if end := im.size - r.idx*pageSize; end < pageSize {
			clear(p[end:])
		}
		r.own = 0
	}
	s.remap(ino)
	return nil
}
