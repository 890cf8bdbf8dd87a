package schedule

import (
	"math"

	ids "github.com/embermq/embermq/internal/ident"
	"github.com/google/btree"
)

// key orders pending timers: by due time in milliseconds, then by position.
// Neither number is negative.
type key struct{ due, pos int64 }

var maxKey = key{math.MaxInt64, math.MaxInt64}

func (k key) less(o key) bool { return k.due < o.due || k.due == o.due && k.pos < o.pos }

// succ is the first key behind k.
func (k key) succ() key {
	if k.pos == math.MaxInt64 {
		return key{due: k.due + 1}
	}
	return key{k.due, k.pos + 1}
}

// firstAfter is the first key that is not due at ms.
func firstAfter(ms int64) key {
	if ms == math.MaxInt64 {
		return maxKey
	}
	return key{due: max(0, ms+1)}
}

func minOf(a, b key) key {
	if b.less(a) {
		return b
	}
	return a
}

// ident stands for an id in memory and on disk.
type ident = ids.ID

// place says which structure holds a timer.
type place uint8

const (
	nowhere place = iota // ended, or forgotten because its row is on disk
	inTree               // in the tree of the lane that its key belongs to
	inFar                // in the far tree, or listed for it
	isBusy               // in busy: an append decides about it, or it is parked
)

// Flags of a timer, stored in its row. On disk. Do not change.
const (
	flagLevel  uint8 = 1 << iota // delayed by level: has no handle
	flagHashed                   // its ident does not spell its id

	flagsRow = flagLevel | flagHashed
)

// Marks of a timer in memory.
const (
	markStored  uint8 = 1 << iota // its row is on disk
	markMaybe                     // its row may be on disk: a save that failed may have written it
	markNamed                     // it is in Schedule.mu.ids
	markUnnamed                   // it is listed in Schedule.mu.unnamed
	markFar                       // it is listed in Schedule.mu.newFar
)

// timer is one pending timer in memory. Key, id, topic, size and flags never
// change; a save reads them without a lock. The rest is guarded by Schedule.mu.
// There may be very many, so it is kept at 64 bytes.
type timer struct {
	key
	id    ident
	topic *topic
	next  *timer // another one with the same ident
	size  int32
	at    int32  // index in fresh, while isFresh
	epoch uint32 // the freeze that will save it, or did
	place place
	flags uint8 // flagsRow
	// marks without markStored say that the timer is in fresh (epoch is the
	// schedule's) or in a freeze that is being saved.
	marks uint8
}

// topic is the state of one real topic. Guarded by Schedule.mu, but for name.
type topic struct {
	name    string
	count   int64 // pending timers
	floor   int64 // timers of records below it died with the topic
	dropped int64 // how many the last deletion dropped
	dirty   bool  // is in dirtyTopics
}

// stored says that the row is on disk.
func (t *timer) stored() bool { return t.marks&markStored != 0 }

func (t *timer) alive() bool { return t.pos >= t.topic.floor }

type item struct {
	key
	t *timer
}

type tree = btree.BTreeG[item]

// newTree makes an ordered set. It is used under Schedule.mu alone.
func newTree() *tree {
	return btree.NewG(32, func(a, b item) bool { return a.key.less(b.key) })
}
