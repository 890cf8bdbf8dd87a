package txn

import (
	"hash/maphash"

	"github.com/embermq/embermq/message"
)

// pageLen is how many verdicts one row holds. On disk. Do not change.
const pageLen = 1024

// outcomes remembers the last verdicts: so many and no more. They are found by
// chains that lead from a table of hashes through the ring, the newest first: a
// verdict that leaves the ring need not be looked up to leave them too.
type outcomes struct {
	most  int
	ring  []remembered
	given int   // verdicts so far; number n, from 0, lies at n%most while it is one of the last
	heads []int // by hash, a power of two of them: 1 more than the newest verdict's number, or 0
	older []int // beside ring: the next one in the chain, in the same way
	seed  maphash.Seed
	dirty map[int]bool // pages that changed since the last freeze
}

type remembered struct {
	id  ident
	how message.Decision
}

func newOutcomes(most int) outcomes {
	return outcomes{most: most, heads: make([]int, 64), seed: maphash.MakeSeed(), dirty: make(map[int]bool)}
}

func (o *outcomes) add(i ident, how message.Decision) {
	at := o.given % o.most
	if at == len(o.ring) {
		o.ring, o.older = append(o.ring, remembered{}), append(o.older, 0)
	}
	o.ring[at] = remembered{i, how}
	o.given++
	if len(o.ring) > len(o.heads) {
		o.heads = make([]int, 2*len(o.heads))
		o.chain(o.given - len(o.ring))
	} else {
		o.chain(o.given - 1)
	}
	if page := at / pageLen; !o.dirty[page] {
		o.dirty[page] = true
	}
}

// chain makes the verdicts from a number on findable.
func (o *outcomes) chain(from int) {
	for n := from; n < o.given; n++ {
		head := o.head(o.ring[n%o.most].id)
		o.older[n%o.most], *head = *head, n+1
	}
}

func (o *outcomes) head(i ident) *int {
	return &o.heads[maphash.Comparable(o.seed, i)&uint64(len(o.heads)-1)]
}

func (o *outcomes) get(i ident) message.Decision {
	// One that is no longer among the last was overwritten, and all behind it.
	for next := *o.head(i); next > o.given-len(o.ring); next = o.older[(next-1)%o.most] {
		if r := &o.ring[(next-1)%o.most]; r.id == i {
			return r.how
		}
	}
	return message.Undecided
}

// next is where the next verdict goes.
func (o *outcomes) next() int { return o.given % o.most }

// page is a copy of one page.
func (o *outcomes) page(n int) []remembered {
	from := min(n*pageLen, len(o.ring))
	return append([]remembered(nil), o.ring[from:min(from+pageLen, len(o.ring))]...)
}

// load fills the ring from saved pages. next is where it goes on.
func (o *outcomes) load(ring []remembered, next int) {
	o.ring, o.older, o.given = ring, make([]int, len(ring)), len(ring)
	if len(ring) == o.most { // the oldest lies at next
		o.given += next
	}
	for len(o.heads) < len(ring) {
		o.heads = append(o.heads, o.heads...) // all are empty
	}
	o.chain(o.given - len(ring))
}
