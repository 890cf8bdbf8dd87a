package kv

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// groupSize is how many bytes of batches go into Pebble at once at most, unless
// one batch is larger. Beyond it a sync is cheap per batch anyway.
const groupSize = 256 << 10

// request is what the committer works on: a batch, or a flush when batch is nil.
type request struct {
	batch *Batch
	sync  bool
	done  chan error

	// A flush's result: closed by Pebble when the memtable is in a table. Set
	// before done receives.
	flushed <-chan struct{}
}

// newRequest takes one that was answered, if there is one. One whose caller left
// early is not used again, because its answer may still come. They belong to their
// DB, so that a test in virtual time meets no channel of another test.
func (d *DB) newRequest() *request {
	if r, ok := d.requests.Get().(*request); ok {
		return r
	}
	return &request{done: make(chan error, 1)}
}

// Apply makes the changes of b visible, all at once, after those of every Apply
// that returned before. With sync they are durable when it returns; an empty
// batch with sync makes all earlier ones durable. Batches that wait at the same
// time share one sync.
//
// ctx bounds the wait, not the write: when it ends while the batch is being
// written, the outcome is unknown. The same holds for every error that matches
// ErrPoisoned. ErrClosed means that nothing was applied, as do ErrTooLarge and
// ErrReadOnly.
func (d *DB) Apply(ctx context.Context, b *Batch, sync bool) error {
	if b.err != nil {
		return b.err
	}
	if b.n == 0 && !sync {
		return d.usable()
	}
	r := d.newRequest()
	r.batch, r.sync, r.flushed = b, sync, nil
	answered, err := d.submit(ctx, r)
	if answered {
		r.batch = nil
		d.requests.Put(r)
	}
	return err
}

// Flush moves everything that was applied before it from the log into tables, so
// that the next Open need not replay it. What it moved is durable when it
// returns nil. ctx bounds the wait.
func (d *DB) Flush(ctx context.Context) error {
	r := &request{done: make(chan error, 1)}
	if _, err := d.submit(ctx, r); err != nil {
		return err
	}
	if r.flushed != nil {
		select {
		case <-r.flushed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-d.closing:
			return ErrClosed
		case <-d.poison.done:
			return d.poison.Err()
		}
	}
	d.restoreBallast(0)
	return nil
}

// usable is the error of a call that has nothing to do.
func (d *DB) usable() error {
	select {
	case <-d.closing:
		return ErrClosed
	default:
	}
	if d.o.ReadOnly {
		return ErrReadOnly
	}
	return d.poison.Err()
}

// submit queues r, starts a committer if none is at work, and waits for the
// answer. When it returns, nobody reads r.batch any more.
func (d *DB) submit(ctx context.Context, r *request) (answered bool, err error) {
	if err := ctx.Err(); err != nil {
		return true, context.Cause(ctx)
	}
	if err := d.usable(); err != nil {
		return true, err
	}
	d.mu.Lock()
	if d.mu.closing {
		d.mu.Unlock()
		return true, ErrClosed
	}
	d.mu.queue = append(d.mu.queue, r)
	if !d.mu.running {
		d.mu.running = true
		go d.commitLoop()
	}
	d.mu.Unlock()

	select {
	case err := <-r.done:
		return true, err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-d.poison.done:
		err = d.poison.Err()
	}
	d.forget(r)
	select {
	case err := <-r.done: // it was answered at the same moment
		return true, err
	default:
		return false, err
	}
}

// forget takes r out of the queue. A committer that has taken it out before has
// also copied its batch, under the same lock.
func (d *DB) forget(r *request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, q := range d.mu.queue {
		if q == r {
			d.mu.queue = append(d.mu.queue[:i], d.mu.queue[i+1:]...)
			return
		}
	}
}

// commitLoop works while there are requests. It is the only goroutine that
// writes through Pebble, and may be parked in it for ever.
func (d *DB) commitLoop() {
	var group []*request
	for {
		d.mu.Lock()
		if len(d.mu.queue) == 0 || d.poison.Err() != nil {
			d.mu.running = false
			d.signalIdleLocked()
			d.mu.Unlock()
			return
		}
		var pb *pebble.Batch
		var err error
		group, pb, err = d.takeLocked(group[:0])
		d.mu.Unlock()
		d.serve(group, pb, err)
		clear(group)
	}
}

// takeLocked takes a flush, or as many batches as make a group, out of the
// queue. The copy is made under the lock, so that a caller who gives up may use
// its batch again.
func (d *DB) takeLocked(group []*request) ([]*request, *pebble.Batch, error) {
	n := 0
	defer func() {
		rest := copy(d.mu.queue, d.mu.queue[n:])
		clear(d.mu.queue[rest:])
		d.mu.queue = d.mu.queue[:rest]
	}()
	if d.mu.queue[0].batch == nil {
		n = 1
		return append(group, d.mu.queue[0]), nil, nil
	}
	pb := d.pdb.NewBatch()
	size := 0
	for _, r := range d.mu.queue {
		if r.batch == nil || n > 0 && size+r.batch.size > groupSize {
			break
		}
		n++
		size += r.batch.size
		group = append(group, r)
		if err := pb.Apply(&r.batch.b, nil); err != nil {
			return group, pb, err
		}
	}
	d.mu.dirty = true
	return group, pb, nil
}

// serve answers the requests of one group.
func (d *DB) serve(group []*request, pb *pebble.Batch, err error) {
	switch {
	case pb == nil:
		err = d.guard(func() error { return d.flush(group[0]) })
	case err == nil:
		err = d.guard(func() error { return d.commit(group, pb) })
	}
	if err != nil {
		err = typed("apply", err)
	}
	for _, r := range group {
		r.done <- err
	}
}

func (d *DB) commit(group []*request, pb *pebble.Batch) error {
	o := pebble.NoSync
	for _, r := range group {
		if r.sync {
			o = pebble.Sync
			break
		}
	}
	if pb.Empty() {
		return errors.Join(d.pdb.LogData(nil, o), pb.Close())
	}
	return errors.Join(d.pdb.Apply(pb, o), pb.Close())
}

// flush rotates the memtable, unless nothing was applied since the last time:
// an empty one would still cost a new log and a sync.
func (d *DB) flush(r *request) (err error) {
	d.mu.Lock()
	dirty := d.mu.dirty
	d.mu.dirty = false
	d.mu.Unlock()
	if dirty {
		r.flushed, err = d.pdb.AsyncFlush()
	}
	return err
}
