package kv

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
)

// The workload of the crash and fault tests: batch i of a fixed list. The state
// after any number of batches is known, so a reopened DB is right if it equals
// the state after some number of them that is allowed.
const (
	batches   = 60
	keepLast  = 7
	rangeEach = 10
	rounds    = 3
)

func workBatch(i int) *Batch {
	b := &Batch{}
	// The filler makes the memtable roll by itself now and then.
	b.Set(fmt.Appendf(nil, "k%04d", i), fmt.Appendf(nil, "%d:%s", i, strings.Repeat("x", 40*(i%60))))
	b.Set([]byte("last"), fmt.Append(nil, i))
	if i%rangeEach == 0 {
		b.DeleteRange([]byte("k"), fmt.Appendf(nil, "k%04d", i-keepLast))
	} else {
		b.Delete(fmt.Appendf(nil, "k%04d", i-keepLast))
	}
	return b
}

// worked is the dump after batches 1 to n.
func worked(n int) string {
	var w []string
	for i := 1; i <= n; i++ {
		by := i + keepLast
		deleted := by <= n && by%rangeEach != 0 || i < n/rangeEach*rangeEach-keepLast
		if !deleted {
			w = append(w, fmt.Sprintf("k%04d=%d:%s", i, i, strings.Repeat("x", 40*(i%60))))
		}
	}
	if n > 0 {
		w = append(w, fmt.Sprintf("last=%d", n))
	}
	return strings.Join(w, " ")
}

func syncs(i int) bool { return i%3 == 0 }

// small makes every mechanism run in a short workload.
func small() Options { return Options{MemTable: 64 << 10} }

// progress is what a workload has begun and what was acknowledged as durable.
type progress struct{ begun, durable atomic.Int64 }

// work applies batches from..to and stops at the first error.
func (p *progress) work(d *DB, from, to int) error {
	for i := from; i <= to; i++ {
		p.begun.Store(int64(i))
		if err := d.Apply(ctx, workBatch(i), syncs(i)); err != nil {
			return err
		}
		if syncs(i) {
			p.durable.Store(int64(i))
		}
		if i%17 == 0 {
			if err := d.Flush(ctx); err != nil {
				return err
			}
			p.durable.Store(int64(i))
		}
	}
	return nil
}

// session is a whole life of the workload: four opens with clean closes between.
func (p *progress) session(f fs.FS) error {
	const part = batches / 4
	for i := range 4 {
		span := [2]int{i*part + 1, i*part + part}
		d, err := Open(f, small())
		if err != nil {
			return err
		}
		if err := p.work(d, span[0], span[1]); err != nil {
			_ = d.Close()
			return err
		}
		if err := d.Close(); err != nil {
			return err
		}
		p.durable.Store(int64(span[1]))
	}
	return nil
}

// verify opens f, which must work, demands a state between the two counts, goes
// on with the workload for a few batches, and demands them after another open.
func verify(t testing.TB, f fs.FS, durable, begun int64, what string) {
	t.Helper()
	d, err := Open(f, small())
	require.NoError(t, err, what)
	n := int64(0)
	v, ok, err := d.Get([]byte("last"))
	require.NoError(t, err, what)
	if ok {
		_, err = fmt.Sscan(string(v), &n)
		require.NoError(t, err, what)
	}
	require.GreaterOrEqual(t, n, durable, "acknowledged batches are missing: %s", what)
	require.LessOrEqual(t, n, begun, what)
	require.Equal(t, worked(int(n)), dump(t, d), what)

	// Many a store survives the first crash and not the writes after it.
	var p progress
	require.NoError(t, p.work(d, int(n)+1, int(n)+4), what)
	require.NoError(t, d.Close(), what)
	d, err = Open(f, small())
	require.NoError(t, err, what)
	require.Equal(t, worked(int(n)+4), dump(t, d), what)
	require.NoError(t, d.Close(), what)
}

func newSeed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return seed
}

// image is a disk after a cut, and what had happened before the cut.
type image struct {
	sim            *crash.Sim
	durable, begun int64
}

// cuts runs f with a power cut before every each-th operation, cycling through
// the modes from the shift-th on, and a kill now and then.
func cuts(seed uint64, sim *crash.Sim, p *progress, shift, each int, f func(fs.FS) error) ([]image, error) {
	faulty := fs.NewFaulty(sim.FS())
	var images []image
	var ops atomic.Int64
	var at = make(chan struct{}, 1) // a lock that Before may hold across the Sim
	at <- struct{}{}
	const reads = fs.OpOpen | fs.OpRead | fs.OpList | fs.OpStat | fs.OpSize | fs.OpUsage
	faulty.Before(func(op fs.Op, _ string) error {
		n := ops.Add(1)
		if op&reads != 0 || n%int64(each) != 0 {
			return nil
		}
		<-at
		defer func() { at <- struct{}{} }()
		// Order matters: what was durable before the cut must be in the image, and
		// what the image holds was begun by now.
		durable := p.durable.Load()
		add := func(img *crash.Sim) {
			images = append(images, image{img, durable, p.begun.Load()})
		}
		if k := (len(images) + shift) % (len(crash.Modes) + 1); k == len(crash.Modes) {
			add(sim.Kill())
		} else {
			add(sim.PowerCut(crash.Modes[k], seed+uint64(n)))
		}
		if op == fs.OpSyncDir { // names that may get lost in any combination
			for sub := range uint64(3) {
				add(sim.PowerCut(crash.Random(0.5), seed^sub<<40))
			}
		}
		return nil
	})
	err := f(faulty)
	faulty.Before(nil)
	return images, err
}

func TestPowerCutAtEveryOperation(t *testing.T) {
	noLeak(t)
	total := 0
	for round := range rounds {
		seed := newSeed(t)
		sim := crash.New(seed)
		var p progress
		images, err := cuts(seed, sim, &p, round, 1, p.session)
		require.NoError(t, err)
		require.Zero(t, sim.OpenFiles())
		for _, img := range images {
			verify(t, img.sim.FS(), img.durable, img.begun, img.sim.Name())
			require.Zero(t, img.sim.OpenFiles())
		}
		verify(t, sim.FS(), batches, batches, "uncut")
		total += len(images)
	}
	t.Logf("%d images", total)
	require.Greater(t, total, 200*rounds)
}

// TestPowerCutDuringRecovery cuts a second time, while an image of the first cut
// is being opened and used.
func TestPowerCutDuringRecovery(t *testing.T) {
	noLeak(t)
	seed := newSeed(t)
	sim := crash.New(seed)
	var p progress
	first, err := cuts(seed, sim, &p, 0, 23, p.session)
	require.NoError(t, err)
	total := 0
	for _, img := range first {
		var q progress
		q.durable.Store(img.durable)
		q.begun.Store(img.begun)
		second, err := cuts(seed, img.sim, &q, 0, 3, func(f fs.FS) error {
			d, err := Open(f, small())
			if err != nil {
				return err
			}
			// What is seen after an open was made durable by it: a second cut must not
			// take it back.
			v, ok, err := d.Get([]byte("last"))
			if err != nil {
				return err
			}
			var n int64 // the first cut may have taken everything
			if ok {
				_, _ = fmt.Sscan(string(v), &n)
			}
			q.durable.Store(n)
			q.begun.Store(n)
			if err := q.work(d, int(q.begun.Load())+1, int(q.begun.Load())+4); err != nil {
				return err
			}
			return d.Close()
		})
		require.NoError(t, err, img.sim.Name())
		for _, img := range second {
			verify(t, img.sim.FS(), img.durable, img.begun, img.sim.Name())
		}
		total += len(second)
	}
	t.Logf("%d images", total)
	require.Greater(t, total, 100)
}
