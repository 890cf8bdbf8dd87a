package crash

import (
	"github.com/embermq/embermq/internal/fs"
)

// SyncFault says what a sync that fails leaves behind.
type SyncFault uint8

const (
	// SyncDropped: the dirty pages are marked clean, the cache keeps their bytes,
	// the disk has the old ones, and the sync reports it (ext4, XFS).
	SyncDropped SyncFault = iota
	// SyncReverted: as SyncDropped, but the cache has the old bytes as well (Btrfs).
	SyncReverted
	// SyncLate: as SyncDropped, but the sync succeeds and the next one reports it.
	SyncLate
)

type syncFault struct {
	pattern string
	fault   SyncFault
}

// FailSync makes the next sync of a file that matches pattern (see fs.Match),
// and that has dirty pages, fail with EIO. Each call arms one failure. Every
// file that was open at that time reports it once, and afterwards syncs succeed
// without writing what was lost. Images do not inherit armed failures.
func (s *Sim) FailSync(pattern string, fault SyncFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncFaults = append(s.syncFaults, syncFault{pattern, fault})
}

// syncFile syncs one file or lets it fail as was armed.
func (s *Sim) syncFile(ino int, meta bool, pick func() bool) error {
	n := s.inodes[ino]
	if len(n.dirty) > 0 {
		for i, sf := range s.syncFaults {
			if !fs.Match(sf.pattern, n.path) {
				continue
			}
			s.syncFaults = append(s.syncFaults[:i:i], s.syncFaults[i+1:]...)
			n = s.edit(ino)
			n.failSync(s.token, sf.fault == SyncReverted)
			n.errs++
			n.seen = false
			s.remap(ino)
			if sf.fault == SyncLate {
				return nil
			}
			return errIO
		}
	}
	if !n.clean() {
		s.edit(ino).sync(s.token, meta, pick)
	}
	if s.onSync != nil && pick == nil {
		s.onSync(n.path)
	}
	return nil
}

// remap shows a reverted cache in the mappings.
func (s *Sim) remap(ino int) {
	for _, m := range s.mappings[ino] {
		im := &s.inodes[ino].cache
		im.readAt(m.b[:min(int64(len(m.b)), im.size)], 0)
	}
}

// SetCapacity sets the size of the disk in bytes; 0 (as from the start) means no
// limit. Room is taken in pages of 4 KiB by writes into holes and by
// Preallocate; a write that finds none left is done in part and fails with
// ENOSPC. Names take no room.
func (s *Sim) SetCapacity(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capacity = bytes
}

// usedLocked counts the pages of files that have a name or are open.
func (s *Sim) usedLocked() int64 {
	var pages int64
	for ino, n := range s.inodes {
		if n != nil && (n.links > 0 || s.handles[ino] > 0) {
			pages += int64(len(n.cache.refs))
		}
	}
	return pages * pageSize
}

// roomLocked returns how many of k bytes at off of n find room.
func (s *Sim) roomLocked(n *inode, off int64, k int) int {
	if s.capacity == 0 || k == 0 {
		return k
	}
	free := (s.capacity - s.usedLocked()) / pageSize
	end := off + int64(k)
	for idx := off / pageSize; idx*pageSize < end; idx++ {
		if _, ok := n.cache.find(idx); ok {
			continue
		}
		if free <= 0 {
			return int(max(0, idx*pageSize-off))
		}
		free--
	}
	return k
}
