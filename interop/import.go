package interop

import (
	"context"
	"errors"

	"github.com/embermq/embermq/store"
)

// Import takes a directory over from RocketMQ. One that EmberMQ never had becomes
// a store; in one that it had, RocketMQ's progress replaces ours: committed
// offsets, delivered delayed messages, decided transactions. No broker may have
// the directory open. What was taken over and what was not stands in the result,
// which is durable when Import returns. options are those of store.Open; a
// directory with an index of an unusual shape needs store.WithIndexSizes.
//
// The error is that of store.Open: ErrUnsupported for topics with batch queues
// and for queues in RocksDB, ErrLocked, *CorruptError.
func Import(ctx context.Context, dir string, options ...store.Option) (store.Import, error) {
	if err := ctx.Err(); err != nil {
		return store.Import{}, err
	}
	s, err := store.Open(dir, append(options, store.WithImport())...)
	if err != nil {
		return store.Import{}, err
	}
	im := s.Stats().Recovery.Import
	return *im, errors.Join(s.Sync(ctx), s.Close())
}
