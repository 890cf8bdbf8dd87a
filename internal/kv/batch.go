package kv

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"
)

// MaxBatch is the most that one batch may hold, in bytes of keys and values.
const MaxBatch = 64 << 20

// Batch is a list of changes for Apply, in order: a later one of the same key
// wins. The zero value is empty and ready. It copies what it is given. One
// goroutine may use it at a time; when Apply has returned, whatever the error,
// it is the caller's again.
type Batch struct {
	b    pebble.Batch
	n    int
	size int
	err  error // the first change that could not be taken; Apply returns it
}

// Set stores value under key.
func (b *Batch) Set(key, value []byte) {
	if b.room(len(key) + len(value)) {
		b.done(b.b.Set(key, value, nil))
	}
}

// Delete removes key, if it is there.
func (b *Batch) Delete(key []byte) {
	if b.room(len(key)) {
		b.done(b.b.Delete(key, nil))
	}
}

// DeleteRange removes all keys k with from <= k < to. Unlike in Scan a nil to
// is not the end of all keys but an empty range.
func (b *Batch) DeleteRange(from, to []byte) {
	if bytes.Compare(from, to) < 0 && b.room(len(from)+len(to)) {
		b.done(b.b.DeleteRange(from, to, nil))
	}
}

// Len is the number of changes.
func (b *Batch) Len() int { return b.n }

// Size is the number of bytes of keys and values.
func (b *Batch) Size() int { return b.size }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.b.Reset()
	b.n, b.size, b.err = 0, 0, nil
}

// room keeps the batch so small that Pebble, which panics beyond 4 GiB, takes it.
func (b *Batch) room(n int) bool {
	if n > MaxBatch-b.size {
		b.done(ErrTooLarge)
	}
	if b.err != nil {
		return false
	}
	b.n++
	b.size += n
	return true
}

func (b *Batch) done(err error) {
	if b.err == nil {
		b.err = err
	}
}

// Writer takes changes. A Batch is one.
type Writer interface {
	Set(key, value []byte)
	Delete(key []byte)
	DeleteRange(from, to []byte)
}

// Replay gives the batch's changes to w in their order. Keys and values are lent
// for one call.
func (b *Batch) Replay(w Writer) error {
	if b.err != nil {
		return b.err
	}
	for r := b.b.Reader(); len(r) > 0; {
		kind, key, value, _, err := r.Next()
		if err != nil {
			return err
		}
		switch kind {
		case pebble.InternalKeyKindSet:
			w.Set(key, value)
		case pebble.InternalKeyKindDelete:
			w.Delete(key)
		case pebble.InternalKeyKindRangeDelete:
			w.DeleteRange(key, value)
		}
	}
	return nil
}
