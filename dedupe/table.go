package dedupe

// entry is what is kept of one key.
type entry struct {
	position int64
	hash     uint32
	second   uint32 // store time in seconds, rounded down
}

const chunkLen = 4096

type chunk [chunkLen]entry

// ring holds the entries in log order. An entry is named by its sequence number,
// which counts from the first one ever. Entries do not change once they are there,
// so a save reads chunks beside pushes.
//
// Invariant: chunks[0] holds head, unless the ring is empty.
type ring struct {
	chunks     []*chunk
	head, tail uint64 // [head, tail)
}

func (r *ring) len() int { return int(r.tail - r.head) }

func (r *ring) at(seq uint64) *entry {
	return &r.chunks[seq/chunkLen-r.head/chunkLen][seq%chunkLen]
}

func (r *ring) push(e entry) (seq uint64) {
	seq = r.tail
	if seq/chunkLen-r.head/chunkLen == uint64(len(r.chunks)) {
		r.chunks = append(r.chunks, new(chunk))
	}
	r.tail++
	*r.at(seq) = e
	return seq
}

func (r *ring) pop() {
	r.head++
	if r.head%chunkLen == 0 {
		r.chunks[0] = nil
		r.chunks = r.chunks[1:]
	}
}

const (
	tableParts = 1024
	firstSlots = 8
	seqBits    = 31
	seqMask    = 1<<seqBits - 1
)

// table finds entries by hash: open addressing with linear probing. A slot is 0
// or one more than the low bits of a sequence number. Several entries may have
// the same hash.
type table struct {
	ring  *ring
	parts [tableParts]part
}

type part struct {
	slots []uint32 // a power of two
	used  int
}

func slotOf(seq uint64) uint32 { return uint32(seq&seqMask) + 1 }

func (t *table) seq(slot uint32) uint64 {
	return t.ring.head + (uint64(slot-1)-t.ring.head)&seqMask
}

func (t *table) part(hash uint32) *part { return &t.parts[hash>>22] }

func (t *table) insert(seq uint64, hash uint32) {
	p := t.part(hash)
	if 4*(p.used+1) > 3*len(p.slots) {
		t.resize(p, max(firstSlots, 2*len(p.slots)))
	}
	p.put(slotOf(seq), hash)
	p.used++
}

func (p *part) put(slot, hash uint32) {
	mask := uint32(len(p.slots) - 1)
	i := hash & mask
	for p.slots[i] != 0 {
		i = (i + 1) & mask
	}
	p.slots[i] = slot
}

func (t *table) resize(p *part, n int) {
	old := p.slots
	p.slots = make([]uint32, n)
	for _, slot := range old {
		if slot != 0 {
			p.put(slot, t.ring.at(t.seq(slot)).hash)
		}
	}
}

// find calls f with the entries that have this hash, in no order.
func (t *table) find(hash uint32, f func(e *entry)) {
	p := t.part(hash)
	if p.used == 0 {
		return
	}
	mask := uint32(len(p.slots) - 1)
	for i := hash & mask; p.slots[i] != 0; i = (i + 1) & mask {
		if e := t.ring.at(t.seq(p.slots[i])); e.hash == hash {
			f(e)
		}
	}
}

// remove takes out an entry that is there, and closes the gap: what is behind it
// moves up unless it stands nearer to its place already.
func (t *table) remove(seq uint64, hash uint32) {
	p := t.part(hash)
	mask := uint32(len(p.slots) - 1)
	i := hash & mask
	for want := slotOf(seq); p.slots[i] != want; {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; p.slots[j] != 0; j = (j + 1) & mask {
		home := t.ring.at(t.seq(p.slots[j])).hash & mask
		if (j-home)&mask >= (j-i)&mask {
			p.slots[i], i = p.slots[j], j
		}
	}
	p.slots[i] = 0
	p.used--
	if len(p.slots) > firstSlots && 8*p.used < len(p.slots) {
		t.resize(p, len(p.slots)/2)
	}
}
