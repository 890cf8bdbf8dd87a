package kv

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
)

// Operations that change the disk, and those that make a change durable.
const (
	changes = fs.OpCreate | fs.OpWrite | fs.OpTruncate | fs.OpPreallocate | fs.OpRename | fs.OpLink | fs.OpRemove | fs.OpMkdir
	durably = fs.OpSync | fs.OpSyncData | fs.OpSyncDir | fs.OpSyncFS
)

// faultSession is a short life in which Pebble does everything that it does to
// files: it makes the database, rolls logs, flushes, rotates the MANIFEST,
// compacts, deletes, replays, and takes a checkpoint.
func (p *progress) faultSession(f fs.FS) error {
	const part = 8
	for i := range 2 {
		d, err := Open(f.Sub("meta"), small())
		if err != nil {
			return err
		}
		err = p.work(d, i*part+1, i*part+part/2)
		for j := i*part + part/2 + 1; err == nil && j <= i*part+part; j++ {
			if err = p.work(d, j, j); err == nil {
				err = d.Flush(ctx)
			}
		}
		if err == nil {
			p.durable.Store(int64(i*part + part))
			_, err = scanAll(d, nil, nil)
		}
		if err != nil {
			_ = d.Close()
			return err
		}
		if err := d.Close(); err != nil {
			return err
		}
	}
	return nil
}

// TestEveryOperationFails fails the n-th operation, once and for ever, until the
// session gets through without meeting it.
func TestEveryOperationFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		ops   fs.Op
		times int
	}{
		{"changes once", changes, 1},
		{"changes for ever", changes, -1},
		{"syncs once", durably, 1},
		{"syncs for ever", durably, -1},
		{"reads once", fs.OpOpen | fs.OpRead | fs.OpList | fs.OpStat | fs.OpSize | fs.OpLock | fs.OpUsage, 1},
		{"closes once", fs.OpClose, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			seed := newSeed(t)
			poisoned, failed := 0, 0
			n := 0
			for ; ; n++ {
				sim := crash.New(seed)
				f := fs.NewFaulty(sim.FS())
				f.Fail(fs.Fault{Ops: c.ops, After: n, Times: c.times})
				var p progress
				err := p.faultSession(f)
				fired := f.Fired() > 0
				what := fmt.Sprintf("operation %d: %v", n, err)
				switch {
				case errors.Is(err, ErrPoisoned):
					require.ErrorIs(t, err, fs.ErrInjected, what)
					poisoned++
				case err != nil:
					require.ErrorIs(t, err, fs.ErrInjected, what)
					failed++
				}
				// Close has given everything back, lock included, and nothing is written
				// any more by what stays behind.
				require.Zero(t, sim.OpenFiles(), what)
				f.Heal()
				verify(t, sim.FS().Sub("meta"), p.durable.Load(), p.begun.Load(), what)
				if !fired {
					require.NoError(t, err)
					break
				}
			}
			t.Logf("%d operations: %d poisoned, %d returned", n, poisoned, failed)
			require.Greater(t, n, 3)
		})
	}
}

// TestNothingReachesTheFilesAfterClose counts what a poisoned and an unpoisoned
// DB do after Close, when all their goroutines have had reason to go on.
func TestNothingReachesTheFilesAfterClose(t *testing.T) {
	for _, pattern := range []string{"none", "*.log", "*.sst", "MANIFEST-*"} {
		t.Run(pattern, func(t *testing.T) {
			sim := crash.New(newSeed(t))
			f := fs.NewFaulty(sim.FS())
			d := mustOpen(t, f, small())
			f.Fail(fs.Fault{Ops: changes | durably, Name: pattern, Times: -1, After: 1})
			var p progress
			_ = p.work(d, 1, batches)
			_ = d.Close()
			var late atomic.Int64
			f.Before(func(fs.Op, string) error { late.Add(1); return nil })
			f.Heal()
			d.RoomFreed()
			d.Grow()
			require.ErrorIs(t, d.Apply(ctx, workBatch(1), true), ErrClosed)
			require.ErrorIs(t, d.Flush(ctx), ErrClosed)
			_, _, err := d.Get([]byte("last"))
			require.ErrorIs(t, err, ErrClosed)
			// Another DB in the same place makes time pass for the parked ones.
			verify(t, sim.FS(), p.durable.Load(), p.begun.Load(), pattern)
			require.Zero(t, late.Load())
		})
	}
}

// TestPoisonWakesEveryone has calls of all kinds in flight while a sync hangs
// and then fails.
func TestPoisonWakesEveryone(t *testing.T) {
	for _, c := range []struct {
		name string
		op   fs.Op
	}{{"*.log", fs.OpSyncData}, {"*.sst", fs.OpSync | fs.OpSyncData}, {"MANIFEST-*", fs.OpSync | fs.OpSyncData}, {".", fs.OpSyncDir}} {
		t.Run(c.name, func(t *testing.T) {
			f := fs.NewFaulty(crash.New(newSeed(t)).FS())
			d := mustOpen(t, f, small())
			require.NoError(t, d.Apply(ctx, workBatch(1), true))
			hang, hanging := make(chan struct{}), make(chan struct{})
			var once sync.Once
			f.Before(func(op fs.Op, name string) error {
				if op&c.op == 0 || !fs.Match(c.name, name) {
					return nil
				}
				once.Do(func() { close(hanging) })
				<-hang
				return fs.ErrInjected
			})
			calls := []func() error{
				func() error { return d.Apply(ctx, workBatch(2), true) },
				func() error { return d.Flush(ctx) },
				func() error { return d.Apply(ctx, workBatch(3), true) },
				func() error { return d.Flush(ctx) },
			}
			errs := make(chan error, len(calls))
			for _, call := range calls {
				go func() { errs <- call() }()
			}
			<-hanging
			_, ok, err := d.Get([]byte("last")) // reads go on while the disk hangs
			require.NoError(t, err)
			require.True(t, ok)
			close(hang)
			poisoned := 0
			for range calls {
				if err := <-errs; err != nil {
					require.ErrorIs(t, err, ErrPoisoned)
					require.ErrorIs(t, err, fs.ErrInjected)
					poisoned++
				}
			}
			require.Positive(t, poisoned)
			require.ErrorIs(t, d.Poison(), ErrPoisoned)
			_, _, err = d.Get([]byte("last"))
			require.ErrorIs(t, err, ErrPoisoned)
			_, err = scanAll(d, nil, nil)
			require.ErrorIs(t, err, ErrPoisoned)
			require.ErrorIs(t, d.Apply(ctx, workBatch(4), false), ErrPoisoned)
			require.ErrorIs(t, d.Flush(ctx), ErrPoisoned)
			require.ErrorIs(t, d.Checkpoint(ctx, crash.New(1).FS()), ErrPoisoned)
			require.ErrorIs(t, d.Close(), ErrPoisoned)
			require.ErrorIs(t, d.Close(), ErrPoisoned)
			_, _, err = d.Get([]byte("last"))
			require.ErrorIs(t, err, ErrClosed)
		})
	}
}

// TestScanEndsByPoison begins to iterate before the poison is latched.
func TestScanEndsByPoison(t *testing.T) {
	f := fs.NewFaulty(crash.New(newSeed(t)).FS())
	d := mustOpen(t, f, small())
	require.NoError(t, d.Apply(ctx, set("a", "1", "b", "2", "c", "3"), true))
	f.Fail(fs.Fault{Ops: durably, Times: -1})
	var last error
	n := 0
	for _, err := range d.Scan(nil, nil) {
		if err != nil {
			last = err
			break
		}
		n++
		require.ErrorIs(t, d.Apply(ctx, set("d", "4"), true), ErrPoisoned)
	}
	require.Equal(t, 1, n)
	require.ErrorIs(t, last, ErrPoisoned)
	require.ErrorIs(t, d.Close(), ErrPoisoned)
}

// TestFailedSyncThenPowerCut has the kernel drop the pages of a failed sync, as
// real ones do: what was acknowledged before must not depend on them, and what a
// reopened DB shows must be durable.
func TestFailedSyncThenPowerCut(t *testing.T) {
	for _, pattern := range []string{"*.log", "*.sst", "MANIFEST-*", "OPTIONS-*"} {
		for _, fault := range []crash.SyncFault{crash.SyncDropped, crash.SyncReverted} {
			for skip := range 4 {
				seed := newSeed(t)
				sim := crash.New(seed)
				what := fmt.Sprintf("%s fault %d skip %d", pattern, fault, skip)
				var p progress
				d := mustOpen(t, sim.FS(), small())
				require.NoError(t, p.work(d, 1, 10*skip+1), what)
				sim.FailSync(pattern, fault)
				err := p.work(d, 10*skip+2, batches)
				if err != nil {
					require.ErrorIs(t, err, ErrPoisoned, what)
				}
				_ = d.Close()
				verify(t, sim.PowerCut(crash.KeepNone, seed).FS(), p.durable.Load(), p.begun.Load(), what)

				// The process starts again on the same kernel, sees the cached bytes, and
				// only then the power goes.
				kill := sim.Kill()
				d = mustOpen(t, kill.FS(), small())
				seen := dump(t, d)
				cut := kill.PowerCut(crash.KeepNone, seed)
				require.NoError(t, d.Close())
				d = mustOpen(t, cut.FS(), small())
				require.Equal(t, seen, dump(t, d), what)
				require.NoError(t, d.Close())
			}
		}
	}
}

// TestCheckpointTargetFails makes every operation at the target fail in turn:
// the DB itself is not touched by it.
func TestCheckpointTargetFails(t *testing.T) {
	noLeak(t)
	seed := newSeed(t)
	d := mustOpen(t, crash.New(seed).FS(), small())
	var p progress
	require.NoError(t, p.work(d, 1, 20))
	n := 0
	for ; ; n++ {
		sim := crash.New(seed)
		f := fs.NewFaulty(sim.FS())
		f.Fail(fs.Fault{Ops: changes | durably, After: n})
		err := d.Checkpoint(ctx, f)
		require.NoError(t, d.Poison())
		require.Zero(t, sim.OpenFiles())
		if f.Fired() == 0 {
			require.NoError(t, err)
			verify(t, sim.FS(), 20, 20, "checkpoint")
			break
		}
		require.ErrorIs(t, err, fs.ErrInjected, "operation %d", n)
		es, err := sim.FS().List(".")
		require.NoError(t, err)
		if n > 0 { // a failed removal of what was written may leave it
			require.LessOrEqual(t, len(es), 1, "operation %d: %v", n, es)
		}
	}
	require.Greater(t, n, 10)
	require.NoError(t, d.Close())
}

// TestEveryOperationOfOpenFails opens what a kill left behind: a log to replay
// and tables to compact.
func TestEveryOperationOfOpenFails(t *testing.T) {
	seed := newSeed(t)
	sim := crash.New(seed)
	d := mustOpen(t, sim.FS(), small())
	var p progress
	for i := 1; i <= 3; i++ { // one table less than starts a compaction
		require.NoError(t, p.work(d, i, i))
		require.NoError(t, d.Flush(ctx))
	}
	require.NoError(t, p.work(d, 4, 30))
	killed := sim.Kill()
	require.NoError(t, d.Close())

	for _, c := range []struct {
		name string
		err  error
		ops  fs.Op
		once int
	}{
		{"changes once", fs.ErrInjected, changes, 1},
		{"changes for ever", fs.ErrInjected, changes, -1},
		{"disk full", syscall.ENOSPC, changes &^ fs.OpRemove, -1},
		{"syncs once", fs.ErrInjected, durably, 1},
		{"syncs for ever", fs.ErrInjected, durably, -1},
		{"anything once", fs.ErrInjected, fs.OpAny, 1},
		{"anything for ever", fs.ErrInjected, fs.OpAny, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, parked := 0, 0
			for ; ; n++ {
				sim := killed.Kill()
				f := fs.NewFaulty(sim.FS())
				f.Fail(fs.Fault{Ops: c.ops, After: n, Times: c.once, Err: c.err})
				d, err := Open(f, small())
				if err == nil {
					err = d.Close()
				} else if errors.Is(err, ErrPoisoned) {
					parked++
				}
				if err != nil {
					require.ErrorIs(t, err, c.err)
					if c.err == syscall.ENOSPC {
						require.ErrorIs(t, err, ErrDiskFull)
					}
				}
				fired := f.Fired() > 0
				require.Zero(t, sim.OpenFiles(), "operation %d", n)
				verify(t, sim.FS(), 30, 30, fmt.Sprintf("operation %d: %v", n, err))
				if !fired {
					require.NoError(t, err)
					break
				}
			}
			t.Logf("%d operations, %d of them left parked goroutines", n, parked)
			require.Greater(t, n, 10)
		})
	}
}
