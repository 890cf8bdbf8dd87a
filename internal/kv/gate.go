package kv

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/plant"
)

// phase is the part of its life that a DB is in. It only moves forward.
type phase int32

const (
	opening phase = iota // failures are returned to Pebble, and its Open ends with them
	serving              // failures poison, a full disk is waited out
	closing              // Pebble's Close is at work, and failures are returned to it
	dead                 // no call reaches a file
)

// gate is the seam between Pebble and the files. Its rule for a failed write is
// in fail.
type gate struct {
	fs       fs.FS
	poison   *poison
	room     room
	readOnly bool
	phase    atomic.Int32

	// Every call to fs or to one of its files holds this shared; fence holds it
	// exclusively, so that none is under way when it returns.
	calls sync.RWMutex

	// Pebble's Open has begun to write a table out of the log. From then on it may
	// not fail any more: it would close its cache of tables below the goroutine
	// that collects their statistics, which panics.
	replaying atomic.Bool

	// Changes of names in the DB's folder, counted, and how many of them are
	// durable. Invariant: named >= namesSynced.
	named, namesSynced atomic.Int64

	mu struct {
		sync.Mutex
		open  map[io.Closer]struct{} // files and locks
		first error                  // first failed write while opening or closing
	}
}

func newGate(fsys fs.FS, p *poison, c clock.Clock, readOnly bool) *gate {
	g := &gate{fs: fsys, poison: p, readOnly: readOnly}
	g.mu.open = map[io.Closer]struct{}{}
	g.room.init(g, c)
	return g
}

func (g *gate) in(p phase) bool { return phase(g.phase.Load()) == p }

// ending reports whether Pebble's Close has begun.
func (g *gate) ending() bool { return phase(g.phase.Load()) >= closing }

// to moves to a later phase. From closing on nothing waits for room.
func (g *gate) to(p phase) {
	g.phase.Store(int32(p))
	if p >= closing {
		g.room.stop()
	}
}

// errFenced is what a call gets that came too late to reach a file.
var errFenced = errors.New("kv: files are closed")

// call runs op unless the files are out of reach.
func (g *gate) call(op func() error) error {
	g.calls.RLock()
	defer g.calls.RUnlock()
	if g.in(dead) || g.poison.Err() != nil {
		return errFenced
	}
	return op()
}

// read runs an operation that changes nothing. Its error is the caller's: a
// failed read ends one query, and nothing was lost by it.
func (g *gate) read(op func() error) error {
	err := g.call(op)
	if err != nil && err != io.EOF && !benign(err) && g.in(opening) && g.replaying.Load() {
		g.condemn(err)
	}
	return err
}

// write runs an operation that may be repeated, until it succeeds. A full disk
// is waited out.
func (g *gate) write(op func() error) error {
	if g.readOnly {
		return ErrReadOnly
	}
	for {
		err := g.call(op)
		if err == nil {
			return nil
		}
		if fs.IsFull(err) && !(plant.Enabled && plant.Is(plant.KVFullIsFatal)) && g.room.wait() {
			continue
		}
		return g.fail(err)
	}
}

// sync runs a sync, which is never repeated: after a failed one the kernel may
// have dropped the pages and marked them clean, and the next would succeed
// without them.
func (g *gate) sync(op func() error) error {
	if g.readOnly {
		return nil
	}
	if err := g.call(op); err != nil {
		return g.fail(err)
	}
	return nil
}

// syncNames is sync for a folder. Pebble panics when this fails, on whatever
// goroutine that happens, so the failure never reaches it in any phase.
func (g *gate) syncNames(op func() error) error {
	if g.readOnly {
		return nil
	}
	if err := g.call(op); err != nil {
		g.condemn(err)
	}
	return nil
}

// settle makes all names durable that were made so far. Each name in a folder
// becomes durable by itself and in any order, so it comes before a change that
// must not overtake them.
func (g *gate) settle() {
	if plant.Enabled && plant.Is(plant.KVNamesAnyOrder) {
		return
	}
	if n := g.named.Load(); n > g.namesSynced.Load() {
		_ = g.syncNames(func() error { return g.fs.SyncDir(".") }) // it does not return a failure
		g.durable(n)
	}
}

// name is write for a change of names.
func (g *gate) name(op func() error) error {
	defer g.named.Add(1) // also when it failed: it may have been done in part
	return g.write(op)
}

// tidy removes what nobody needs any more. What stays is found again by the next
// Open, so a failure is no reason to stop.
//
// Pebble moves its markers by making the new file, removing the old one, and
// only then syncing the folder: without settle a power cut could leave neither,
// and the database would be taken for a new one.
func (g *gate) tidy(op func() error) error {
	if g.readOnly {
		return ErrReadOnly
	}
	g.settle()
	err := g.call(op)
	if errors.Is(err, errFenced) {
		g.condemn(err)
	}
	return err
}

// durable notes that the first n changes of names are.
func (g *gate) durable(n int64) {
	for {
		old := g.namesSynced.Load()
		if old >= n || g.namesSynced.CompareAndSwap(old, n) {
			return
		}
	}
}

// fail decides what a failed write means. It returns only while Pebble's Open or
// Close is at work, which hand the error on. Elsewhere Pebble panics with some
// errors, and while it has lent a lock back: the deferred unlock is then the end
// of the process, which no recover prevents.
func (g *gate) fail(err error) error {
	if errors.Is(err, errFenced) || g.in(serving) || g.in(dead) || g.in(opening) && g.replaying.Load() {
		g.condemn(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.first == nil {
		g.mu.first = err
	}
	return err
}

// condemn latches the poison, unless the DB was fenced without it, and parks.
func (g *gate) condemn(err error) {
	if !errors.Is(err, errFenced) {
		g.poison.latch(err)
	}
	park()
}

// failed is the first write or sync that failed while the DB was opening or
// closing. Pebble passes over some of them.
func (g *gate) failed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.first
}

// hold remembers an open file or lock for fence.
func (g *gate) hold(c io.Closer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.open[c] = struct{}{}
}

// release closes a file or lock that is held, once. What had to be durable was
// synced before, so a failure is a sign of a dying disk and no more; but Pebble
// panics when its log does not close. After fence there is nothing left to do.
func (g *gate) release(c io.Closer) error {
	err := g.call(func() error {
		g.mu.Lock()
		_, ok := g.mu.open[c]
		delete(g.mu.open, c)
		g.mu.Unlock()
		if !ok {
			return nil
		}
		return c.Close()
	})
	if err == nil || errors.Is(err, errFenced) {
		return nil
	}
	return g.fail(err)
}

// fence waits for the calls that are inside the kernel, closes everything that
// is still open and lets no call through afterwards.
func (g *gate) fence() error {
	g.to(dead)
	g.calls.Lock()
	defer g.calls.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for c := range g.mu.open {
		if err := c.Close(); err != nil {
			errs = append(errs, fmt.Errorf("kv: close: %w", err))
		}
	}
	clear(g.mu.open)
	return errors.Join(errs...)
}
