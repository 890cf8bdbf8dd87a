package txn

import "github.com/embermq/embermq/message"

// pageLen is how many verdicts one row holds. On disk. Do not change.
const pageLen = 1024

// outcomes remembers the last verdicts: so many and no more.
type outcomes struct {
	most  int
	ring  []remembered
	next  int // index of the next one, when ring is full
	how   map[ident]place
	dirty map[int]bool // pages that changed since the last freeze
}

type remembered struct {
	id  ident
	how message.Decision
}

type place struct {
	at  int32 // index in ring; an older place of the same id does not count
	how message.Decision
}

func newOutcomes(most int) outcomes {
	return outcomes{most: most, how: make(map[ident]place), dirty: make(map[int]bool)}
}

func (o *outcomes) add(i ident, how message.Decision) {
	at := len(o.ring)
	if at < o.most {
		o.ring = append(o.ring, remembered{})
	} else {
		at = o.next
		if old := o.ring[at].id; o.how[old].at == int32(at) {
			delete(o.how, old)
		}
	}
	o.next = (at + 1) % o.most
	o.ring[at] = remembered{i, how}
	o.how[i] = place{int32(at), how}
	o.dirty[at/pageLen] = true
}

func (o *outcomes) get(i ident) message.Decision { return o.how[i].how }

// page is a copy of one page.
func (o *outcomes) page(n int) []remembered {
	from := min(n*pageLen, len(o.ring))
	return append([]remembered(nil), o.ring[from:min(from+pageLen, len(o.ring))]...)
}

// load fills the ring from saved pages. next is where it goes on.
func (o *outcomes) load(ring []remembered, next int) {
	o.ring, o.next = ring, next
	for k := range ring {
		at := k
		if len(ring) == o.most { // the oldest first
			at = (next + k) % o.most
		}
		o.how[ring[at].id] = place{int32(at), ring[at].how}
	}
}
