package consumequeue

import (
	"sync"
	"sync/atomic"
)

// chunkEntries are the sizes a tail grows through: a queue that gets one record
// an hour costs 80 bytes, a busy one takes 256 entries at a time.
var chunkEntries = [...]int64{4, 16, 64, 256}

const (
	largestClass = len(chunkEntries) - 1
	// nominalTail is the number of entries that makes a tail due for its file.
	nominalTail = 256
	// chunkOverhead is what a chunk costs besides its entries.
	chunkOverhead = 64
)

// chunk is a run of consecutive entries in their encoded form. Entries are
// added at the end and never change, so that an image may hold a chunk while
// the queue goes on appending to it.
//
// Invariant: bytes below n*EntrySize of data are immutable while refs > 0.
type chunk struct {
	data  []byte // nil: n pre-blank entries that take no memory
	base  int64  // offset of the first entry
	n     int64  // guarded by the queue's mu
	refs  atomic.Int32
	class int8
}

func (c *chunk) full() bool { return (c.n+1)*EntrySize > int64(len(c.data)) }

// entry decodes the entry at an offset the chunk holds.
func (c *chunk) entry(offset int64) Entry {
	if c.data == nil {
		return Blank
	}
	return Decode(c.data[(offset-c.base)*EntrySize:])
}

// copyTo encodes the entries [from, to) into b.
func (c *chunk) copyTo(b []byte, from, to int64) {
	if c.data == nil {
		fillBlank(b[:(to-from)*EntrySize])
		return
	}
	copy(b, c.data[(from-c.base)*EntrySize:(to-c.base)*EntrySize])
}

// chunkPool hands chunks out and counts the memory of all of them.
type chunkPool struct {
	classes [len(chunkEntries)]sync.Pool
	bytes   atomic.Int64
}

func (p *chunkPool) get(class int, base int64) *chunk {
	c, _ := p.classes[class].Get().(*chunk)
	if c == nil {
		c = &chunk{data: make([]byte, chunkEntries[class]*EntrySize), class: int8(class)}
	}
	c.base, c.n = base, 0
	c.refs.Store(1)
	p.bytes.Add(int64(len(c.data)) + chunkOverhead)
	return c
}

// gap makes a chunk of n pre-blank entries.
func (p *chunkPool) gap(base, n int64) *chunk {
	c := &chunk{base: base, n: n, class: -1}
	c.refs.Store(1)
	p.bytes.Add(chunkOverhead)
	return c
}

// release gives up one reference; the last one returns the chunk to its pool.
func (p *chunkPool) release(c *chunk) {
	if c.refs.Add(-1) > 0 {
		return
	}
	p.bytes.Add(-int64(len(c.data)) - chunkOverhead)
	if c.class >= 0 {
		p.classes[c.class].Put(c)
	}
}

// find returns the index of the chunk that holds offset; the tail must hold it.
func find(chunks []*chunk, offset int64) int {
	lo, hi := 0, len(chunks)-1
	for lo < hi {
		mid := int(uint(lo+hi+1) >> 1)
		if chunks[mid].base <= offset {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// piece is the part [from, to) of a chunk that an image holds.
type piece struct {
	c        *chunk
	from, to int64
}
