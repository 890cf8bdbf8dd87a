package dedupe

import (
	"context"
	"iter"

	"github.com/embermq/embermq/internal/kv"
)

// disk is how this package sees the key-value store. A kv.Batch cannot be read
// back, so the model tests have a disk of their own.
type disk interface {
	batch() batch
	apply(b batch, sync bool) error
	Scan(from, to []byte) iter.Seq2[kv.KV, error]
}

type batch interface {
	Set(key, value []byte)
	DeleteRange(from, to []byte)
	Size() int
	Reset()
}

type kvDisk struct{ DB }

func (d kvDisk) batch() batch { return new(kv.Batch) }

func (d kvDisk) apply(b batch, sync bool) error {
	return d.Apply(context.Background(), b.(*kv.Batch), sync)
}
