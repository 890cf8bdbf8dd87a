package consumequeue

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

func writeAt(t *testing.T, fsys fs.FS, name string, b []byte, off int64) {
	t.Helper()
	f, err := fsys.Open(name, fs.Create)
	require.NoError(t, err)
	_, err = f.WriteAt(b, off)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func truncate(t *testing.T, fsys fs.FS, name string, size int64) {
	t.Helper()
	f, err := fsys.Open(name, 0)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	require.NoError(t, f.Close())
}

// Every damage is named by Check, which changes nothing; a read finds it, waits
// for the rebuild, and then the files are those of before to the byte.
func TestDamage(t *testing.T) {
	const file0, file200, file400 = "topic/0/00000000000000000000", "topic/0/00000000000000000200", "topic/0/00000000000000000400"
	verify := func(_ message.Queue, offset int64, e Entry) error {
		if e != nth(offset) {
			return fmt.Errorf("names another record")
		}
		return nil
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, d fs.FS)
		file   string
		off    int64
		reason string
		silent bool // a read does not see it: the store tells by MarkDamaged
	}{
		{"first file missing", func(t *testing.T, d fs.FS) { require.NoError(t, d.Remove(file0)) }, file0, 0, "file is missing", false},
		{"middle file missing", func(t *testing.T, d fs.FS) { require.NoError(t, d.Remove(file200)) }, file200, 0, "file is missing", false},
		{"last file missing", func(t *testing.T, d fs.FS) { require.NoError(t, d.Remove(file400)) }, file400, 0, "file is missing", false},
		{"folder missing", func(t *testing.T, d fs.FS) { require.NoError(t, fs.RemoveAll(d, "topic/0")) }, file0, 0, "file is missing", false},
		{"file cut short", func(t *testing.T, d fs.FS) { truncate(t, d, file200, 100) }, file200, 100, "file has the wrong length", false},
		{"file empty", func(t *testing.T, d fs.FS) { truncate(t, d, file400, 0) }, file400, 0, "file has the wrong length", false},
		{"file too long", func(t *testing.T, d fs.FS) { truncate(t, d, file400, 220) }, file400, 220, "file has the wrong length", false},
		{"first entry zero", func(t *testing.T, d fs.FS) { writeAt(t, d, file0, make([]byte, 20), 40) }, file0, 40, "entry is not valid", false},
		{"last entry zero", func(t *testing.T, d fs.FS) { writeAt(t, d, file400, make([]byte, 20), 80) }, file400, 80, "entry is not valid", false},
		{"middle entry zero", func(t *testing.T, d fs.FS) { writeAt(t, d, file200, make([]byte, 20), 60) }, file200, 60, "entry is not valid", false},
		{"negative size", func(t *testing.T, d fs.FS) { writeAt(t, d, file200, []byte{0xff}, 68) }, file200, 68 / 20 * 20, "entry is not valid", false},
		{"zero below the start", func(t *testing.T, d fs.FS) { writeAt(t, d, file0, make([]byte, 20), 0) }, file0, 0, "entry is not valid", true},
		{"position flipped up", func(t *testing.T, d fs.FS) { writeAt(t, d, file200, []byte{1}, 41) }, file200, 40, "names another record", true},
		{"tag hash flipped", func(t *testing.T, d fs.FS) { writeAt(t, d, file200, []byte{1}, 55) }, file200, 40, "names another record", true},
		{"two entries swapped", func(t *testing.T, d fs.FS) { writeAt(t, d, file200, []byte(encode(nth(13), nth(12))), 40) }, file200, 40, "names another record", true},
		{"bytes behind the end", func(t *testing.T, d fs.FS) { writeAt(t, d, file400, []byte{1}, 110) }, file400, 100, "bytes behind the queue's end", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim := memory(t)
			s := open(t, sim, manual())
			fill(s.Queue(topic0), 2, 25)
			require.NoError(t, s.Flush())
			save(t, s, 2500)
			require.NoError(t, s.Close())
			d := sim.FS().Sub("consumequeue")
			good := tree(t, d, ".")
			require.Empty(t, check(t, open(t, sim, manual()), verify))
			c.damage(t, d)

			o := manual()
			passes := 0
			o.Rebuild = func(ctx context.Context, qs []*Queue) error {
				passes++
				return rebuildFrom(2, func(*Queue) int64 { return 25 })(ctx, qs)
			}
			s = open(t, sim, o)
			before := tree(t, sim.FS(), ".")
			found := check(t, s, verify)
			require.Equal(t, before, tree(t, sim.FS(), "."), "check changes nothing")
			require.Contains(t, found, finding{"/crash/consumequeue/" + c.file, c.off, c.reason})

			q := s.Queue(topic0)
			fill(q, 25, 30) // new entries come while it is damaged
			if c.silent {
				q.MarkDamaged(12, "names another record")
			}
			_, err := q.Read(25, make([]Entry, 5))
			require.NoError(t, err, "the tail is readable all the time")
			es := make([]Entry, 28)
			_, err = q.ReadContext(context.Background(), 2, es)
			require.NoError(t, err)
			n, err := q.ReadContext(context.Background(), 2, es)
			require.NoError(t, err)
			require.Equal(t, 28, n)
			requireFilled(t, q, 2, 30)
			require.Equal(t, 1, passes)
			require.NoError(t, q.Damaged())
			require.Equal(t, good, tree(t, d, "."), "rebuilt files equal those built live")
			require.NoError(t, s.Flush())
			require.Empty(t, check(t, s, verify))
		})
	}
}

func TestDamagedWithoutRebuild(t *testing.T) {
	s := open(t, memory(t), manual())
	q := s.Queue(topic0)
	fill(q, 0, 10)
	q.MarkDamaged(3, "all of it is in memory")
	require.NoError(t, q.Damaged())
	require.NoError(t, s.Flush())
	q.MarkDamaged(3, "names another record")
	fill(q, 10, 20)
	_, err := q.ReadContext(context.Background(), 0, make([]Entry, 1))
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorIs(t, err, message.ErrCorrupt)
	var ce *message.CorruptError
	require.True(t, errors.As(err, &ce))
	require.Equal(t, "/crash/consumequeue/topic/0/00000000000000000000", ce.Path)
	require.Equal(t, int64(60), ce.Offset)
	require.NoError(t, s.Flush(), "a damaged queue is passed over")
	require.Equal(t, int64(1), s.Stats().Damaged)
}

// Damage outlives a restart: the image says so.
func TestDamageIsSaved(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	q := s.Queue(topic0)
	fill(q, 0, 30)
	require.NoError(t, s.Flush())
	fill(q, 30, 35)
	q.MarkDamaged(3, "names another record")
	save(t, s, 3500)
	o := manual()
	o.Rebuild = rebuildFrom(0, func(*Queue) int64 { return 100 })
	again := open(t, sim, o)
	_, err := again.Queue(topic0).Read(0, make([]Entry, 1))
	require.ErrorIs(t, err, ErrDamaged)
	require.True(t, again.Step())
	requireFilled(t, again.Queue(topic0), 0, 35)
}

// The log may hold less than the queue had: retention took the beginning, repair
// left holes.
func TestRebuildFromShorterLog(t *testing.T) {
	for _, c := range []struct {
		name    string
		restore []int64
		start   int64
		want    []Entry
	}{
		{"beginning expired", []int64{5, 6, 7}, 5, []Entry{nth(5), nth(6), nth(7), nth(8)}},
		{"hole", []int64{0, 1, 2, 6, 7}, 0, []Entry{nth(0), nth(1), nth(2), Blank, Blank, Blank, nth(6), nth(7), nth(8)}},
		{"end lost", []int64{5}, 5, []Entry{nth(5), Blank, Blank, nth(8)}},
		{"all gone", nil, 8, []Entry{nth(8)}},
		{"twice", []int64{6, 6, 7, 7}, 6, []Entry{nth(6), nth(7), nth(8)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := manual()
			o.FileSize = 100
			o.Rebuild = func(_ context.Context, qs []*Queue) error {
				for _, i := range c.restore {
					qs[0].Restore(i, nth(i))
				}
				return nil
			}
			sim := memory(t)
			s := open(t, sim, o)
			q := s.Queue(topic0)
			fill(q, 0, 8)
			require.NoError(t, s.Flush())
			fill(q, 8, 9)
			q.MarkDamaged(0, "test")
			s.Step()
			for range 2 {
				start, es := readAll(t, q)
				require.Equal(t, c.start, start)
				require.Equal(t, c.want, es)
				require.NoError(t, s.Flush())
				require.Empty(t, check(t, s, nil))
			}
			save(t, s, 900)
			_, es := readAll(t, open(t, sim, o).Queue(topic0))
			require.Equal(t, c.want, es)
		})
	}
}

func TestFailedRebuildIsTriedAgain(t *testing.T) {
	o := manual()
	clk := clock.NewManual(time.UnixMilli(0))
	o.Clock = clk
	tries := 0
	o.Rebuild = func(ctx context.Context, qs []*Queue) error {
		if tries++; tries == 1 {
			qs[0].Restore(0, nth(0))
			return errTest
		}
		return rebuildFrom(0, func(*Queue) int64 { return 30 })(ctx, qs)
	}
	s := open(t, memory(t), o)
	q := s.Queue(topic0)
	fill(q, 0, 30)
	require.NoError(t, s.Flush())
	q.MarkDamaged(0, "test")
	require.ErrorIs(t, q.Ready(context.Background()), errTest)
	require.False(t, s.Step(), "nobody asks: wait")
	require.Equal(t, 1, tries)
	clk.Advance(rebuildEvery)
	require.True(t, s.Step())
	requireFilled(t, q, 0, 30)
}

func TestReadOnlyRebuildsInMemory(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	fill(s.Queue(topic0), 0, 1000)
	require.NoError(t, s.Flush())
	save(t, s, 1)
	require.NoError(t, s.Close())
	d := sim.FS().Sub("consumequeue")
	require.NoError(t, d.Remove("topic/0/00000000000000000200"))
	before := tree(t, sim.FS(), ".")
	ro, err := Open(d, sim.FS().Sub("ember"), Options{FileSize: 200, ReadOnly: true, Rebuild: rebuildFrom(0, func(*Queue) int64 { return 1000 })})
	require.NoError(t, err)
	q := ro.Queue(topic0)
	fill(q, 1000, 1010)
	_, err = q.ReadContext(context.Background(), 0, make([]Entry, 8))
	require.NoError(t, err)
	require.NoError(t, q.Ready(context.Background()))
	requireFilled(t, q, 0, 1010)
	require.NoError(t, ro.Close())
	require.Equal(t, before, tree(t, sim.FS(), "."))
}

// With goroutines: readers wait for the rebuild, their contexts end the wait,
// and Close ends the rebuild.
func TestReadersWaitForRebuild(t *testing.T) {
	sim := crash.New(1)
	require.NoError(t, sim.FS().MkdirAll("consumequeue"))
	require.NoError(t, sim.FS().MkdirAll("ember"))
	began, goOn := make(chan struct{}), make(chan struct{})
	s := open(t, sim, Options{FileSize: 200, Synced: allSynced, Rebuild: func(ctx context.Context, qs []*Queue) error {
		close(began)
		select {
		case <-goOn:
		case <-ctx.Done():
			return ctx.Err()
		}
		return rebuildFrom(0, func(*Queue) int64 { return 300 })(ctx, qs)
	}})
	q := s.Queue(topic0)
	fill(q, 0, 300)
	require.NoError(t, s.Flush())
	q.MarkDamaged(0, "test")
	<-began
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := q.ReadContext(ctx, 0, make([]Entry, 1))
	require.ErrorIs(t, err, context.Canceled)
	got := make(chan error)
	for range 4 {
		go func() {
			_, err := q.ReadContext(context.Background(), 0, make([]Entry, 1))
			got <- err
		}()
	}
	close(goOn)
	for range 4 {
		require.NoError(t, <-got)
	}
	requireFilled(t, q, 0, 300)
}

func TestCloseEndsRebuild(t *testing.T) {
	sim := memory(t)
	began := make(chan struct{})
	s := open(t, sim, Options{FileSize: 200, Synced: allSynced, Rebuild: func(ctx context.Context, _ []*Queue) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}})
	q := s.Queue(topic0)
	fill(q, 0, 30)
	require.NoError(t, s.Flush())
	q.MarkDamaged(0, "test")
	<-began
	require.NoError(t, s.Close())
	require.Error(t, q.Ready(context.Background()))
}
