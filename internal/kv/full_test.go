package kv

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
)

// fullDisk opens a DB on a small disk and applies synced batches until no page is
// left and a write waits for one. The last two of the applied batches are on
// their way: the second cannot end without more room.
func fullDisk(t *testing.T, o Options) (sim *crash.Sim, d *DB, applied int, onTheWay [2]chan error) {
	t.Helper()
	sim = crash.New(newSeed(t))
	sim.SetCapacity(3 << 20)
	d = mustOpen(t, sim.FS(), o)
	require.EqualValues(t, ballastSmall, d.Stats().Ballast)
	apply := func() chan error {
		applied++
		c, b := make(chan error, 1), bigBatch(applied)
		go func() { c <- d.Apply(ctx, b, true) }()
		return c
	}
	full := func() bool {
		u, err := sim.FS().Usage()
		require.NoError(t, err)
		return u.Free == 0 && d.Stats().Waiting > 0
	}
	for {
		c := apply()
		for len(c) == 0 && !full() {
			runtime.Gosched()
		}
		if full() {
			require.Zero(t, d.Stats().Ballast, "the ballast goes first")
			onTheWay = [2]chan error{c, apply()}
			return sim, d, applied, onTheWay
		}
		require.NoError(t, <-c)
	}
}

func bigBatch(i int) *Batch {
	b := &Batch{}
	// Nothing that compression could make smaller.
	v := make([]byte, 20_000)
	x := uint64(i)*2654435761 + 1
	for j := range v {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		v[j] = byte(x)
	}
	b.Set(fmt.Appendf(nil, "%05d", i), v)
	return b
}

func count(t *testing.T, d *DB) (n int) {
	t.Helper()
	for e, err := range d.Scan(nil, nil) {
		require.NoError(t, err)
		n++
		require.Equal(t, fmt.Sprintf("%05d", n), string(e.Key))
	}
	return n
}

func TestFullDiskWaitsAndResumes(t *testing.T) {
	noLeak(t)
	for _, wake := range []string{"freed", "polled"} {
		t.Run(wake, func(t *testing.T) {
			c := clock.NewManual(time.Unix(0, 0))
			sim, d, applied, onTheWay := fullDisk(t, Options{MemTable: 256 << 10, Clock: c})
			require.Greater(t, applied, 50)

			// Reads go on; so does a caller whose context ends. Whether its batch is
			// stored is not known: it is one that is there.
			_, ok, err := d.Get(fmt.Appendf(nil, "%05d", applied-2))
			require.NoError(t, err)
			require.True(t, ok)
			short, cancel := context.WithCancel(ctx)
			go cancel()
			require.ErrorIs(t, d.Apply(short, bigBatch(1), true), context.Canceled)

			// In vain: there is no more room than before.
			d.RoomFreed()
			c.Advance(roomPoll)
			until(t, func() bool { return d.Stats().Waiting > 0 })
			require.NoError(t, d.Poison())

			sim.SetCapacity(64 << 20)
			if wake == "freed" {
				d.RoomFreed()
			}
			until(t, func() bool {
				if wake == "polled" {
					c.Advance(roomPoll)
				}
				return d.Stats().Waiting == 0
			})
			for _, c := range onTheWay {
				require.NoError(t, <-c)
			}
			require.NoError(t, d.Flush(ctx))
			require.EqualValues(t, ballastSmall, d.Stats().Ballast, "laid down again")
			require.Equal(t, applied, count(t, d))
			require.NoError(t, d.Close())

			d = mustOpen(t, sim.PowerCut(crash.KeepNone, 0).FS(), Options{})
			require.Equal(t, applied, count(t, d))
			require.NoError(t, d.Close())
		})
	}
}

func TestCloseDoesNotWaitForRoom(t *testing.T) {
	sim, d, applied, onTheWay := fullDisk(t, Options{MemTable: 256 << 10})
	err := d.Close()
	require.ErrorIs(t, err, ErrDiskFull)
	require.ErrorIs(t, err, syscall.ENOSPC)
	<-onTheWay[0]
	require.Error(t, <-onTheWay[1])
	require.Zero(t, sim.OpenFiles())

	// The disk is still full, so the state can only be read.
	ro := mustOpen(t, sim.FS(), Options{ReadOnly: true})
	n := count(t, ro)
	require.GreaterOrEqual(t, n, applied-2)
	require.LessOrEqual(t, n, applied)
	require.NoError(t, ro.Close())
	_, err = Open(sim.FS(), Options{})
	require.ErrorIs(t, err, ErrDiskFull)
	require.Zero(t, sim.OpenFiles())

	sim.SetCapacity(0)
	d = mustOpen(t, sim.FS(), Options{MustExist: true})
	require.Equal(t, n, count(t, d))
	require.NoError(t, d.Close())
}

// TestCloseEndsBackgroundWait has a flush wait for room, and no call.
func TestCloseEndsBackgroundWait(t *testing.T) {
	noLeak(t)
	sim := crash.New(newSeed(t))
	f := fs.NewFaulty(sim.FS())
	d := mustOpen(t, f, Options{})
	require.NoError(t, d.Apply(ctx, set("a", "1"), true))
	f.Fail(fs.Fault{Ops: fs.OpWrite, Name: "*.sst", Times: -1, Err: syscall.ENOSPC})
	short, cancel := context.WithCancel(ctx)
	flushed := make(chan error, 1)
	go func() { flushed <- d.Flush(short) }()
	until(t, func() bool { return d.Stats().Waiting > 0 })
	cancel()
	require.ErrorIs(t, <-flushed, context.Canceled)
	require.NoError(t, d.Apply(ctx, set("b", "2"), true), "the log has room")
	require.ErrorIs(t, d.Close(), ErrDiskFull)
	require.Zero(t, sim.OpenFiles())
	f.Heal()
	d = mustOpen(t, f, Options{})
	require.Equal(t, "a=1 b=2", dump(t, d))
	require.NoError(t, d.Close())
}

func TestOpenFindsAndGivesBackTheBallast(t *testing.T) {
	noLeak(t)
	sim := crash.New(newSeed(t))
	d := mustOpen(t, sim.FS(), Options{})
	require.NoError(t, d.Apply(ctx, set("a", strings.Repeat("x", 100)), true))
	require.NoError(t, d.Close())
	d = mustOpen(t, sim.FS(), Options{})
	require.NoError(t, d.Close())
	u, err := sim.FS().Usage()
	require.NoError(t, err)
	sim.SetCapacity(u.Total - u.Free) // not a page is left
	d = mustOpen(t, sim.FS(), Options{})
	require.Zero(t, d.Stats().Ballast)
	require.NoError(t, d.Apply(ctx, set("b", "2"), true))
	require.NoError(t, d.Close())
}

func TestGrow(t *testing.T) {
	noLeak(t)
	sim := crash.New(newSeed(t))
	d := mustOpen(t, sim.FS(), Options{})
	d.Grow()
	require.EqualValues(t, ballastLarge, d.Stats().Ballast)
	require.NoError(t, d.Close())
	d = mustOpen(t, sim.FS(), Options{})
	require.EqualValues(t, ballastLarge, d.Stats().Ballast)
	require.NoError(t, d.Close())

	// A ballast that cannot be laid down is no failure.
	f := fs.NewFaulty(crash.New(1).FS())
	f.Fail(fs.Fault{Name: ballastName, Ops: changes, Times: 1})
	d = mustOpen(t, f, Options{})
	require.ErrorIs(t, d.Stats().BallastErr, fs.ErrInjected)
	require.NoError(t, d.Apply(ctx, set("a", "1"), true))
	require.NoError(t, d.Flush(ctx))
	require.NoError(t, d.Stats().BallastErr)
	require.EqualValues(t, ballastSmall, d.Stats().Ballast)
	require.NoError(t, d.Close())
}
