package crash

import "fmt"

// Mode says what a power cut keeps of what was not synced.
type Mode uint16

const (
	// KeepNone keeps nothing.
	KeepNone Mode = iota
	// KeepAll keeps everything: the luckiest disk.
	KeepAll
	// OnlyNewestPage keeps the page that was written last, and all lengths and names.
	OnlyNewestPage
	// AllButOneSector keeps everything except one sector that some store changed.
	AllButOneSector
	// LastStoreOfEachFile keeps, of each file's bytes, only the sectors of its
	// last store, and all lengths and names: the end without what led to it.
	LastStoreOfEachFile

	kill       // in names only
	enumerated // in names only
	chance     // first of 1001
)

// Random keeps each page and name with probability p: half of the kept ones
// wholly, else a random prefix of the stores; a quarter of the kept pages is torn
// between sectors. A length is kept, lost, or one between.
func Random(p float64) Mode { return chance + Mode(min(1, max(0, p))*1000) }

// Modes is one of each, for loops over all.
var Modes = [...]Mode{KeepNone, KeepAll, Random(0.1), Random(0.5), Random(0.9), OnlyNewestPage, AllButOneSector, LastStoreOfEachFile}

// String is the mode as Name prints it.
func (m Mode) String() string {
	switch m {
	case KeepNone:
		return "none"
	case KeepAll:
		return "all"
	case OnlyNewestPage:
		return "newest-page"
	case AllButOneSector:
		return "all-but-one-sector"
	case LastStoreOfEachFile:
		return "last-stores"
	case kill:
		return "kill"
	case enumerated:
		return "enumerated"
	}
	return fmt.Sprintf("random(%.3f)", float64(m-chance)/1000)
}

// Garbage says what appended bytes read as when they were lost below a length
// that was kept.
type Garbage uint8

const (
	// GarbageRandom gives zeros or random bytes.
	GarbageRandom Garbage = iota
	// GarbageZero gives zeros, as file systems that order data before lengths do.
	GarbageZero
	// GarbageStale gives zeros, or a page that some file has or had: blocks that
	// were freed and not cleared. Only ext4 in its writeback mode does this.
	GarbageStale
)

// SetGarbage chooses it for this Sim and the images made from it.
func (s *Sim) SetGarbage(g Garbage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.garbage = g
}

// Outcome counts what one power cut did, so that a campaign can prove that it
// has met every kind.
type Outcome struct {
	PagesNew     int // dirty pages kept wholly
	PagesOld     int // dirty pages lost wholly
	PagesPrefix  int // some of the stores kept, in order
	PagesTorn    int // old and new sectors in one page
	PagesGarbage int // lost pages that read as garbage
	SizesOld     int // changed lengths that were lost wholly or in part
	SizesNew     int
	NamesOld     int // changes of names that were lost
	NamesNew     int
}

// Outcome returns what the power cut that made this image did.
func (s *Sim) Outcome() Outcome { return s.outcome }
