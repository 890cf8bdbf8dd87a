package kv

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/embermq/embermq/internal/fs"
)

// Checkpoint writes a database with everything that was applied before it into
// the folder that to is rooted at, which must be missing or empty. It is durable
// when Checkpoint returns nil, except for the folder's own name. Calls go on
// meanwhile. A failure of the target is only this call's error, and what was
// written there is removed. ctx bounds the wait for another checkpoint to end,
// not the work.
func (d *DB) Checkpoint(ctx context.Context, to fs.FS) error {
	if d.o.ReadOnly {
		return ErrReadOnly
	}
	select {
	case d.target <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-d.closing:
		return ErrClosed
	}
	return d.run(func() error {
		defer func() { <-d.target }()
		a := newAway(to)
		d.vfs.away.Store(a)
		defer d.vfs.away.Store(nil)
		return typed("checkpoint", errors.Join(d.checkpoint(a), a.end()))
	})
}

// checkpoint gives Pebble's panic on a failed sync of a folder its error back.
func (d *DB) checkpoint(a *away) (err error) {
	defer func() {
		first := a.first.Load()
		if first == nil {
			return // a panic, if there is one, is not the target's
		}
		if v := recover(); v != nil {
			// Pebble's deferred calls have run, so it is whole again.
			_ = d.vfs.RemoveAll(awayDir)
		}
		if err == nil || !errors.Is(err, *first) {
			err = errors.Join(*first, err)
		}
	}()
	return d.pdb.Checkpoint(awayDir, pebble.WithFlushedWAL())
}
