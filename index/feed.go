package index

import (
	"sync"

	"github.com/embermq/embermq/message"
)

// item is one key of one record on its way into a file.
type item struct {
	hash             int32
	size             int32 // of the record
	position, stored int64
}

const (
	itemBytes  = 24
	chunkItems = 1024
	chunkBytes = chunkItems * itemBytes
	keptChunks = 64
)

// chunk is a run of items in log order.
type chunk struct {
	items []item
	end   int64        // behind the last record of which all keys are in
	epoch uint64       // of the freeze that ended the chunk, or 0
	mark  message.Mark // of that freeze, or of a scan when marked is set
	// marked says that mark is good to save.
	marked bool
}

// feed is what has been applied and not been built. It covers the log without a
// gap from where the builder is, unless gap is set: then everything between the
// builder and gapEnd has been dropped and is read from the log.
type feed struct {
	mu      sync.Mutex
	chunks  []*chunk // in log order; the last one is being filled
	free    []*chunk
	held    int64 // bytes of chunks that are filled or being built
	applied int64
	epoch   uint64
	gap     bool
	gapEnd  int64
	filling bool // the builder reads a gap from the log
	idle    bool // the builder sleeps

	drops int64
}

// keys calls add with the hash of each key that the record is found by, in
// RocketMQ's order: the unique id, then the parts of KEYS. A rollback has none.
func (x *Index) keys(r *message.Record, add func(hash int32)) {
	const mask, rollback = message.FlagCommit | message.FlagPrepared, message.FlagCommit | message.FlagPrepared
	if r.SysFlag()&mask == rollback || x.o.Skip != nil && x.o.Skip(r) {
		return
	}
	h := prefix(r.Topic())
	if !x.o.NoUniqueID {
		if id := r.UniqueID(); id != "" {
			add(fold(extend(h, id)))
		}
	}
	for k := range r.Keys() {
		add(fold(extend(h, k)))
	}
}

// Apply takes the next record. It touches memory only, does not wait and does not
// fail. A record below what was applied already is left alone.
func (x *Index) Apply(r *message.Record) {
	f := &x.feed
	position, size := r.Position(), int32(r.Size())
	f.mu.Lock()
	defer f.mu.Unlock()
	if position < f.applied {
		return
	}
	it := item{size: size, position: position}
	x.keys(r, func(hash int32) {
		if it.stored == 0 {
			it.stored = r.StoredAtMillis()
		}
		it.hash = hash
		x.addLocked(it)
	})
	f.applied = position + int64(size)
	if f.held > x.o.FeedBytes && x.o.Scan != nil {
		f.dropLocked()
		x.wakeLocked()
	}
}

func (x *Index) addLocked(it item) {
	f := &x.feed
	n := len(f.chunks)
	if n == 0 || len(f.chunks[n-1].items) == chunkItems || f.chunks[n-1].epoch != 0 {
		if n > 0 {
			// A record may go on in the next chunk: this one ends where it begins.
			f.chunks[n-1].end = f.applied
			x.wakeLocked()
		}
		f.chunks = append(f.chunks, f.newLocked())
		n++
	}
	c := f.chunks[n-1]
	c.items = append(c.items, it)
}

func (f *feed) newLocked() *chunk {
	f.held += chunkBytes
	if n := len(f.free); n > 0 {
		c := f.free[n-1]
		f.free = f.free[:n-1]
		return c
	}
	return &chunk{items: make([]item, 0, chunkItems)}
}

// recycleLocked gives a chunk's memory back.
func (f *feed) recycleLocked(c *chunk) {
	f.held -= chunkBytes
	*c = chunk{items: c.items[:0]}
	if len(f.free) < keptChunks {
		f.free = append(f.free, c)
	}
}

// dropLocked empties the feed; the builder reads the log up to here.
func (f *feed) dropLocked() {
	for i, c := range f.chunks {
		f.recycleLocked(c)
		f.chunks[i] = nil
	}
	f.chunks = f.chunks[:0]
	f.gap, f.gapEnd = true, f.applied
	f.drops++
}

// take returns what the builder does next: a gap to read from the log, or a
// chunk, or, when both are empty, the position up to which everything is built.
// Something that is taken is the builder's until it is done.
func (f *feed) take() (c *chunk, gapEnd int64, applied int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gap {
		f.gap, f.filling = false, true
		return nil, f.gapEnd, f.applied
	}
	if len(f.chunks) == 0 {
		return nil, -1, f.applied
	}
	c = f.chunks[0]
	last := len(f.chunks) - 1
	copy(f.chunks, f.chunks[1:])
	f.chunks[last] = nil
	f.chunks = f.chunks[:last]
	if last == 0 && c.epoch == 0 {
		c.end = f.applied
	}
	return c, -1, f.applied
}

// wakeLocked wakes the builder if it sleeps.
func (x *Index) wakeLocked() {
	if x.feed.idle {
		x.feed.idle = false
		select {
		case x.wake <- struct{}{}:
		default:
		}
	}
}

// Kick wakes the builder. The store may call it when the log has synced more, so
// that entries which waited for that reach their file.
func (x *Index) Kick() {
	x.feed.mu.Lock()
	defer x.feed.mu.Unlock()
	x.wakeLocked()
}
