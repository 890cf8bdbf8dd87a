package index

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

var faultStep = flag.Int("index.faults", 69, "TestEveryOperationFails fails every so many-th operation; 1 is all of them")

// failing is everything that writes, and reads: a disk may fail at both.
const failing = fs.OpOpen | fs.OpCreate | fs.OpRead | fs.OpWrite | fs.OpTruncate | fs.OpSync | fs.OpSyncDir | fs.OpRename | fs.OpRemove | fs.OpList

// TestEveryOperationFails lets each operation on an index file and on the saved
// state fail, once and for ever, as a dying disk does (a failed sync loses the
// pages) and as a full one. Apply never fails. A query gives what the map gives
// or an error with a type. On a disk that works again the index comes back by
// itself, and what a kill or a power cut leaves at any of these moments opens as
// a whole index.
func TestEveryOperationFails(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, times := range []int{1, -1} {
			t.Run(fmt.Sprintf("%v/times=%d", cause, times), func(t *testing.T) {
				const most = 1200 // few lives have more operations
				rebuilds := int64(0)
				for n := 1; n <= most; n += *faultStep {
					w := newFaultWorld(uint64(n), cause, times, n)
					require.NoError(t, w.life(), w.failed)
					rebuilds += w.rebuilds
				}
				t.Logf("every %d. operation failed; %d rebuilds", *faultStep, rebuilds)
			})
		}
	}
}

// faultWorld is a world whose disk fails.
type faultWorld struct {
	*world
	cause    error
	ops      int
	failed   string // the operation that failed first
	rebuilds int64
}

func newFaultWorld(seed uint64, cause error, times, n int) *faultWorld {
	w := &faultWorld{world: newWorld(seed), cause: cause}
	w.o.Entries, w.o.PendingBytes = 40+w.rnd.Int64N(100), 1<<30
	w.faulty = fs.NewFaulty(w.sim.FS())
	w.faulty.Before(func(op fs.Op, name string) error {
		if op&failing == 0 {
			return nil
		}
		if w.ops++; w.ops < n || times > 0 && w.ops >= n+times {
			return nil
		}
		if w.failed == "" {
			w.failed = fmt.Sprintf("seed %d, operation %d: %x of %s", seed, n, op, name)
		}
		if op == fs.OpSync && cause == syscall.EIO {
			w.sim.FailSync(name, crash.SyncDropped)
			return nil
		}
		return cause
	})
	return w
}

// typed lets an error pass that says why the disk failed or that a file is
// damaged.
func (w *faultWorld) typed(err error) error {
	if errors.Is(err, w.cause) || errors.Is(err, message.ErrCorrupt) {
		return nil
	}
	return err
}

// life is a short life with two opens. The last step is on a healthy disk.
func (w *faultWorld) life() error {
	for range 2 {
		err := w.start()
		if w.x == nil {
			if err = w.typed(err); err != nil {
				return err
			}
			continue // the next Open has more luck, or none
		}
		for i := range 12 {
			if err := w.act(i); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
		}
		if err := w.cuts(); err != nil {
			return err
		}
		if err := w.typed(w.x.Close()); err != nil {
			return err
		}
		w.rebuilds += w.x.Stats().Rebuilds
		w.x = nil
	}
	w.faulty.Before(nil)
	return w.comesBack()
}

// start is what a store does at Open, but for the comparison of marks: a failed
// disk may have cost the state.
func (w *faultWorld) start() error {
	w.x = nil
	w.saved = 0
	err := w.open()
	if err != nil {
		w.x = nil
		return err
	}
	m, ok := w.x.Saved()
	if !ok {
		if err := w.x.Reset(); err != nil {
			_ = w.x.Close()
			w.x = nil
			return err
		}
		m = message.Mark{}
	}
	for i := range w.log.records {
		if r := &w.log.records[i]; r.Position() >= max(m.Offset, w.log.start) {
			w.x.Apply(r)
		}
	}
	return nil
}

func (w *faultWorld) act(i int) error {
	w.append(10 + w.rnd.IntN(40))
	w.sync()
	switch i % 4 {
	case 0:
		w.x.Step()
	case 1, 3:
		m := w.log.mark()
		save := w.x.Freeze(m)
		w.append(w.rnd.IntN(20))
		w.synced = max(w.synced, m.Offset)
		if err := w.typed(save()); err != nil {
			return err
		}
	case 2:
		w.log.start = w.boundary(w.log.start + (w.synced-w.log.start)/3)
		if err := w.typed(w.x.Expire(w.log.start)); err != nil {
			return err
		}
	}
	for range 4 {
		if err := w.typed(w.query()); err != nil {
			return err
		}
	}
	return nil
}

// cuts opens what a kill and two power cuts leave, on disks that work.
func (w *faultWorld) cuts() error {
	w.world.saved = 0
	for _, sim := range []*crash.Sim{w.sim.Kill(), w.sim.PowerCut(crash.KeepNone, 1), w.sim.PowerCut(crash.Random(0.5), 2)} {
		keep := w.log.end
		if sim.Name() != w.sim.Kill().Name() {
			keep = w.synced
		}
		n := w.after(sim, keep)
		if err := n.survive(); err != nil {
			return fmt.Errorf("%s: %w", sim.Name(), err)
		}
		if err := n.x.Close(); err != nil {
			return err
		}
	}
	return nil
}

// comesBack goes on where the disk works again.
func (w *faultWorld) comesBack() error {
	if err := w.start(); err != nil {
		return err
	}
	w.append(30)
	// The first query may find what failed before.
	for k := range w.want {
		_, _, err := w.log.find(w.x, Query{Topic: k[:1], Key: "k1", Limit: 1000})
		if err := w.typed(err); err != nil {
			return err
		}
		break
	}
	if err := w.all(); err != nil {
		return err
	}
	if len(w.ahead) > 0 {
		return fmt.Errorf("ahead of the log: %s", w.ahead[0])
	}
	w.rebuilds += w.x.Stats().Rebuilds
	return w.x.Close()
}

// TestComesBack: one life without a reopen. While the disk fails at what name
// and ops say, queries are right or tell why not, a save returns, and nobody
// waits for ever. When it works again, so does the index.
func TestComesBack(t *testing.T) {
	for name, fault := range map[string]fs.Fault{
		"full":          {Ops: fs.OpWrite | fs.OpCreate | fs.OpTruncate, Err: syscall.ENOSPC},
		"syncs":         {Ops: fs.OpSync | fs.OpSyncDir, Err: syscall.EIO},
		"folder":        {Ops: fs.OpSyncDir | fs.OpRemove | fs.OpRename, Err: syscall.EIO},
		"reads":         {Ops: fs.OpRead, Err: syscall.EIO},
		"read-only now": {Ops: fs.OpWrite | fs.OpCreate | fs.OpTruncate | fs.OpSync | fs.OpSyncDir | fs.OpRename | fs.OpRemove, Err: syscall.EROFS},
		"no handles":    {Ops: fs.OpOpen | fs.OpCreate, Err: syscall.EMFILE},
		"everything":    {Err: syscall.EIO},
	} {
		for _, pending := range []int64{1, defaultPending} {
			t.Run(fmt.Sprintf("%s/pending=%d", name, pending), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { comesBack(t, fault, pending) })
			})
		}
	}
}

func comesBack(t *testing.T, fault fs.Fault, pending int64) {
	l, sim := newLog(), memory(t)
	faulty := fs.NewFaulty(sim.FS())
	o := Options{Slots: 16, Entries: 100, MaxOpenFiles: 2, PendingBytes: pending, Synced: allSynced, Location: time.UTC, Clock: clock.Real{}}
	o.Scan, o.Start = l.scan, l.begin
	x, err := Open(faulty.Sub("index"), faulty.Sub("ember"), o)
	require.NoError(t, err)
	put := func(n int) {
		for range n {
			x.Apply(l.add("t", "", fmt.Sprint("k", len(l.records)%10)))
		}
		synctest.Wait()
	}
	typed := func(err error) {
		t.Helper()
		if err != nil && !errors.Is(err, message.ErrCorrupt) {
			require.ErrorIs(t, err, fault.Err)
		}
	}
	put(1000)
	save(t, x, l.mark())
	fault.Times = -1
	faulty.Fail(fault)
	failed := 0
	for range 5 {
		put(2000)
		typed(x.Freeze(l.mark())())
		l.expire(l.records[len(l.records)/3].Position())
		typed(x.Expire(l.start))
		got, _, err := l.find(x, Query{Topic: "t", Key: "k7", Limit: 10_000})
		if typed(err); err != nil {
			failed++
			continue
		}
		require.Equal(t, l.having(7), got)
	}
	if pending > 1 && fault.Ops == fs.OpWrite|fs.OpCreate|fs.OpTruncate {
		require.Zero(t, failed, "what a full disk does not take is found in memory")
	}
	faulty.Heal()
	time.Sleep(2 * retryEvery)
	synctest.Wait()
	require.NoError(t, x.Wait(context.Background(), math.MaxInt64))
	if _, _, err := l.find(x, Query{Topic: "t", Key: "k7", Limit: 10_000}); err != nil {
		typed(err) // this one has met what failed before
	}
	got, _, err := l.find(x, Query{Topic: "t", Key: "k7", Limit: 10_000})
	require.NoError(t, err)
	require.Equal(t, l.having(7), got)
	save(t, x, l.mark())
	m, ok := x.Saved()
	require.True(t, ok)
	require.Equal(t, l.mark(), m)
	require.NoError(t, x.Err())
	require.NoError(t, x.Damaged())
	require.Empty(t, findings(t, x))
	require.Positive(t, faulty.Fired())
	t.Logf("%d of 5 queries failed meanwhile, %d rebuilds", failed, x.Stats().Rebuilds)
	require.NoError(t, x.Close())
}

// having lists the records with key k, newest first.
func (l *fakeLog) having(k int) (list []int64) {
	for i := len(l.records) - 1; i >= 0; i-- {
		if p := l.records[i].Position(); i%10 == k && p >= l.start {
			list = append(list, p)
		}
	}
	return list
}
