package kv

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/embermq/embermq/internal/fs"
)

// DB is an ordered map from keys to values in one folder.
type DB struct {
	requests sync.Pool // *request

	gate   *gate
	poison *poison
	vfs    *pebbleFS
	pdb    *pebble.DB
	o      Options

	closing chan struct{} // closed when Close begins
	closed  chan struct{} // closed when Close is done
	result  error         // of Close; set before closed is closed
	target  chan struct{} // one place: the checkpoint that is being taken

	mu struct {
		sync.Mutex
		closing bool
		queue   []*request
		running bool // a committer is at work
		dirty   bool // something was applied since the last Flush
		calls   int  // goroutines inside Pebble on behalf of a caller
		idle    chan struct{}
		scans   map[*scan]struct{}
	}
}

// Open opens the database in the folder that fsys is rooted at, and makes both
// when they are missing, unless the options say otherwise. The folder's own name
// is durable only when the caller syncs the folder above it. The FS stays the
// caller's and must outlive the DB.
//
// Nothing waits for room during Open: a full disk, with no ballast left, is an
// error that matches ErrDiskFull. Others match ErrCorrupt, ErrMissing, or
// fs.ErrLockHeld; ErrPoisoned means that the failure left parked goroutines
// behind.
func Open(fsys fs.FS, o Options) (*DB, error) {
	o = o.withDefaults()
	if err := plausible(fsys); err != nil {
		return nil, err
	}
	p := newPoison()
	g := newGate(fsys, p, o.Clock, o.ReadOnly)
	d := &DB{
		gate: g, poison: p, vfs: &pebbleFS{gate: g}, o: o,
		closing: make(chan struct{}), closed: make(chan struct{}), target: make(chan struct{}, 1),
	}
	d.mu.scans = map[*scan]struct{}{}
	if !o.ReadOnly {
		if err := g.room.ballast.find(); err != nil {
			return nil, typed("open", err)
		}
	}
	pdb, err := d.openPebble()
	if err != nil {
		// Whatever Pebble left open is closed, its lock above all. Its error says
		// why; a failed close adds nothing to it.
		_ = g.fence()
		return nil, typedOpen(err)
	}
	d.pdb = pdb
	if !o.ReadOnly {
		size := int64(ballastSmall)
		if o.LargeBallast {
			size = ballastLarge
		}
		g.room.ballast.restore(size)
	}
	return d, nil
}

type opened struct {
	pdb *pebble.DB
	err error
}

// openPebble gives up on Pebble's Open when the poison is latched, because then
// it hangs.
func (d *DB) openPebble() (*pebble.DB, error) {
	done := make(chan opened, 1)
	s := newScheduler()
	go func() {
		var r opened
		defer func() {
			if v := recover(); v != nil {
				r = opened{err: panicked(v)}
			}
			done <- r
		}()
		r.pdb, r.err = pebble.Open(".", d.o.pebbleOptions(d.vfs, &fatal{poison: d.poison, gate: d.gate}, s))
	}()
	var r opened
	select {
	case r = <-done:
	case <-d.poison.done:
		return nil, d.poison.Err()
	}
	if r.err != nil {
		return nil, r.err
	}
	// Pebble may have passed over a failed write, but what it wrote afterwards
	// may rest on it.
	if err := d.gate.failed(); err != nil {
		d.gate.to(closing)
		_ = d.closePebble(r.pdb)
		return nil, err
	}
	d.gate.to(serving)
	s.start()
	return r.pdb, nil
}

// Poison is nil, or the error with which every call fails since a write failed.
func (d *DB) Poison() error { return d.poison.Err() }

// RoomFreed tells writes that wait for room to try again at once. They do so by
// themselves a few times a second.
func (d *DB) RoomFreed() {
	d.gate.room.wake()
	d.restoreBallast(0)
}

// Grow makes the ballast as large as a large store needs it.
func (d *DB) Grow() { d.restoreBallast(ballastLarge) }

func (d *DB) restoreBallast(atLeast int64) {
	if !d.o.ReadOnly && d.gate.in(serving) && d.gate.room.waiters() == 0 {
		d.gate.room.ballast.restore(atLeast)
	}
}

// Stats says how the DB is doing.
type Stats struct {
	Waiting    int   // writes of Pebble's that wait for room on the disk
	Ballast    int64 // bytes that can be given back to a full disk
	BallastErr error // why the ballast could not be laid down last time
}

// Stats is a snapshot. It does not ask Pebble, which may be stuck.
func (d *DB) Stats() Stats {
	s := Stats{Waiting: d.gate.room.waiters()}
	s.Ballast, s.BallastErr = d.gate.room.ballast.size()
	return s
}

// enter registers a goroutine that works in Pebble for a caller.
func (d *DB) enter() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.closing {
		return ErrClosed
	}
	if err := d.poison.Err(); err != nil {
		return err
	}
	d.mu.calls++
	return nil
}

func (d *DB) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.calls--
	d.signalIdleLocked()
}

func (d *DB) signalIdleLocked() {
	if d.mu.idle != nil && d.mu.calls == 0 && !d.mu.running {
		close(d.mu.idle)
		d.mu.idle = nil
	}
}

// run calls f on a goroutine of its own and leaves it behind when the poison is
// latched: f may then hang on one of Pebble's locks. So f must share nothing
// with the caller that the caller touches after an error.
func (d *DB) run(f func() error) error {
	if err := d.enter(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer d.leave()
		done <- d.guard(f)
	}()
	select {
	case err := <-done:
		return err
	case <-d.poison.done:
		return d.poison.Err()
	}
}

// guard turns a panic of Pebble into poison: its locks may be in any state.
func (d *DB) guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			d.poison.latch(panicked(v))
			err = d.poison.Err()
		}
	}()
	return f()
}

// panicked keeps the error that Pebble panicked with.
func panicked(v any) error {
	if err, ok := v.(error); ok {
		return fmt.Errorf("kv: pebble: %w", err)
	}
	return fmt.Errorf("kv: pebble: %v", v)
}

// Close waits for the calls in flight, ends open scans with ErrClosed, moves the
// memtable into a table so that the next Open has nothing to replay, and makes
// everything durable. Batches that were not begun are refused with ErrClosed.
// It does not wait for room: without it, Close returns an error that matches
// ErrDiskFull, and unsynced batches may be lost. After a poison it abandons
// Pebble and returns the cause. In every case the files are closed when it
// returns and no later call reaches them. Further calls return the same.
func (d *DB) Close() error {
	d.mu.Lock()
	if d.mu.closing {
		d.mu.Unlock()
		<-d.closed
		return d.result
	}
	d.mu.closing = true
	close(d.closing)
	queue := d.mu.queue
	d.mu.queue = nil
	idle := make(chan struct{})
	d.mu.idle = idle
	d.signalIdleLocked()
	d.mu.Unlock()

	for _, r := range queue {
		r.done <- ErrClosed
	}
	err := d.shut(idle)
	d.result = typed("close", errors.Join(err, d.gate.fence()))
	close(d.closed)
	return d.result
}

// shut ends Pebble in order, or not at all once the poison is latched.
func (d *DB) shut(idle <-chan struct{}) error {
	select {
	case <-idle:
	case <-d.poison.done:
		return d.poison.Err()
	case <-d.gate.room.stuck():
		select {
		case <-idle: // only Pebble's background work waits, and its Close can end that
		default:
			return d.giveUp()
		}
	}
	if err := d.abandonable(d.endScans); err != nil {
		return err
	}
	if !d.o.ReadOnly && d.mu.dirty && d.gate.room.waiters() == 0 && d.roomToFlush() {
		if err := d.lastFlush(); err != nil {
			return err
		}
	}
	d.gate.to(closing)
	if err := d.closePebble(d.pdb); err != nil {
		return err
	}
	return d.gate.failed()
}

// giveUp ends the waits for room outside Pebble's Close, and so by poison.
func (d *DB) giveUp() error {
	d.gate.room.stop()
	<-d.poison.done
	return d.poison.Err()
}

// lastFlush stops waiting when the disk is full after all.
func (d *DB) lastFlush() error {
	type result struct {
		flushed <-chan struct{}
		err     error
	}
	rotated := make(chan result, 1)
	go func() {
		var r result
		r.err = d.guard(func() (err error) {
			r.flushed, err = d.pdb.AsyncFlush()
			return err
		})
		rotated <- r
	}()
	var r result
	select {
	case r = <-rotated:
	case <-d.poison.done:
		return d.poison.Err()
	case <-d.gate.room.stuck():
		return d.giveUp()
	}
	if r.err != nil {
		return r.err
	}
	select {
	case <-r.flushed:
	case <-d.gate.room.stuck(): // Pebble's Close ends the flush; the log has it all
	case <-d.poison.done:
		return d.poison.Err()
	}
	return nil
}

// roomToFlush keeps Close from starting a flush that a full disk would break
// off: the log has it all, and the next Open flushes.
func (d *DB) roomToFlush() bool {
	u, err := d.gate.fs.Usage()
	return err != nil || u.Free > 4*int64(d.o.MemTable)
}

func (d *DB) closePebble(pdb *pebble.DB) error { return d.abandonable(pdb.Close) }

// abandonable is run without the accounting, for Close itself.
func (d *DB) abandonable(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- d.guard(f) }()
	select {
	case err := <-done:
		return err
	case <-d.poison.done:
		return d.poison.Err()
	}
}
