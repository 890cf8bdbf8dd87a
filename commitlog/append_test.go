package commitlog

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

func TestAppendAllocates(t *testing.T) {
	for _, onDisk := range []bool{false, true} {
		l := open(t, disk(t), Options{SegmentSize: 64 << 20, MaxUnsynced: 16 << 20, OnDisk: onDisk})
		g := benchGroup(t, NewSequence(0), 300, onDisk)
		n := testing.AllocsPerRun(200, func() {
			if err := l.Append(ctx, g); err != nil {
				t.Fatal(err)
			}
		})
		require.Zero(t, n, "onDisk=%v", onDisk)
		var r message.Record
		buf := make([]byte, 1<<10)
		d := l.NewLender(true)
		n = testing.AllocsPerRun(200, func() {
			e := &g.Entries[0]
			if _, err := l.Record(e.Position, e.Draft.Size(), buf, &r); err != nil {
				t.Fatal(err)
			}
			if err := d.Lend(e.Position, e.Draft.Size(), &r); err != nil {
				t.Fatal(err)
			}
		})
		require.Zero(t, n)
		d.Release()
		require.NoError(t, l.Close())
	}
}

// TestAsyncGathers queues 10,000 groups from one goroutine.
func TestAsyncGathers(t *testing.T) {
	for _, manual := range []bool{false, true} {
		o := Options{SegmentSize: 1 << 22, MaxUnsynced: 1 << 20, OnDisk: true, Manual: manual}
		l := open(t, disk(t), o)
		seq := NewSequence(0)
		var answered, released atomic.Int64
		l.o.Release = func(*Group) { released.Add(1) }
		const n = 10_000
		for i := range n {
			g := put(t, &Group{OnDisk: true}, seq, 1, 100, fmt.Sprint(i))
			g.Done = func(g *Group, err error) {
				if err != nil {
					panic(err)
				}
				answered.Add(1)
				g.Release()
			}
			require.NoError(t, l.AppendAsync(ctx, g))
		}
		require.NoError(t, l.Sync(ctx))
		require.EqualValues(t, n, answered.Load())
		require.EqualValues(t, n, released.Load())
		require.Less(t, l.Stats().Syncs, int64(n/4))
		require.Len(t, texts(t, l), n)
		require.NoError(t, l.Close())
	}
}

func TestInCacheWaitsForVisibility(t *testing.T) {
	c := manualClock()
	var visible int64
	var applied int
	o := Options{SegmentSize: 1 << 16, MaxUnsynced: 1 << 14, OnDisk: true, Manual: true, Clock: c,
		Apply: func(es []*Entry) { applied += len(es) }, Advanced: func(v int64) { visible = v }}
	l := open(t, crash.New(1).FS(), o)
	seq := NewSequence(0)
	appendText(t, l, seq, false, "a", "b")
	require.Zero(t, l.Visible())
	require.Zero(t, applied)
	l.Step() // not due yet
	require.Zero(t, l.Visible())
	l.Poke()
	l.Step()
	require.Equal(t, l.Appended(), l.Visible())
	require.Equal(t, l.Appended(), visible)
	require.Equal(t, 2, applied)
	appendText(t, l, seq, false, "c")
	c.Advance(syncEvery)
	l.Step()
	require.Equal(t, 3, applied)
	require.Equal(t, l.Appended(), l.Synced())
	require.NoError(t, l.Close())
}

func TestUnsyncedStaysBelowW(t *testing.T) {
	for _, onDisk := range []bool{false, true} {
		o := Options{SegmentSize: 1 << 14, MaxUnsynced: 1 << 12, OnDisk: onDisk, Manual: true}
		l := open(t, crash.New(1).FS(), o)
		seq := NewSequence(0)
		for i := range 300 {
			appendText(t, l, seq, false, fmt.Sprint(i))
			require.LessOrEqual(t, l.Appended()-l.Synced(), o.MaxUnsynced)
		}
		require.Positive(t, l.Stats().Stalls)
		require.NoError(t, l.Close())
	}
}

func TestRefused(t *testing.T) {
	o := Options{SegmentSize: 1 << 13, MaxUnsynced: 1 << 12, Manual: true}
	l := open(t, crash.New(1).FS(), o)
	seq := NewSequence(0)
	var size *message.SizeError
	require.ErrorAs(t, l.Append(ctx, put(t, &Group{}, seq, 1, 1<<12, "x")), &size)
	require.Equal(t, int64(1<<12), size.Limit)
	require.ErrorIs(t, size, message.ErrTooLarge)
	for _, c := range []struct {
		position int64
		size     int
	}{{-1, 100}, {0, 100}, {1 << 40, 100}, {0, 0}} {
		_, err := l.Record(c.position, c.size, nil, &message.Record{})
		require.ErrorIs(t, err, message.ErrOutOfRange)
	}
	g := put(t, &Group{}, seq, 1, 10, "one")
	require.NoError(t, l.Append(ctx, g))
	n := g.Entries[0].Draft.Size()
	require.NoError(t, l.RecordAt(0, &message.Record{}))
	require.ErrorIs(t, l.RecordAt(1, &message.Record{}), message.ErrNotFound)
	require.ErrorIs(t, l.RecordAt(int64(n), &message.Record{}), message.ErrNotFound)
	_, err := l.Record(0, n-1, nil, &message.Record{})
	require.ErrorIs(t, err, message.ErrCorrupt)

	// A sequence that was closed takes nothing any more.
	require.NoError(t, l.Append(ctx, put(t, &Group{Closes: []*Sequence{seq}}, nil, 1, 1, "close")))
	err = l.Append(ctx, put(t, &Group{}, seq, 1, 1, "late"))
	require.ErrorIs(t, err, ErrSequenceClosed)
	require.ErrorIs(t, err, message.ErrNotFound)
	require.EqualValues(t, 1, seq.Next())
	require.Equal(t, []string{string(body("one/0", 10)), "close/0"}, texts(t, l))

	require.NoError(t, l.Stop(ctx))
	require.ErrorIs(t, l.Append(ctx, put(t, &Group{}, nil, 1, 1, "late")), message.ErrClosed)
	require.Len(t, texts(t, l), 2)
	require.NoError(t, l.Abandon())
	require.ErrorIs(t, l.AppendAsync(ctx, put(t, &Group{}, nil, 1, 1, "late")), message.ErrClosed)

	for _, bad := range []Options{{}, {SegmentSize: 1 << 13}, {SegmentSize: 1 << 13, MaxUnsynced: 1 << 12, LiveWriter: true}} {
		_, err := Open(nil, nil, bad)
		require.Error(t, err)
	}
}

func TestFullDisk(t *testing.T) {
	c := manualClock()
	for _, reserve := range []int64{-1, 1} {
		fullDisk(t, crash.New(3), c, reserve)
	}
}

func fullDisk(t *testing.T, sim *crash.Sim, c *clock.Manual, reserve int64) {
	t.Helper()
	o := Options{SegmentSize: 1 << 14, MaxUnsynced: 1 << 13, OnDisk: true, Manual: true, Clock: c, DiskReserve: reserve}
	l := open(t, sim.FS(), o)
	seq := NewSequence(0)
	var want []string
	add := func(i int) error {
		g := put(t, &Group{OnDisk: true}, seq, 1+i%3, 300, fmt.Sprint(i))
		next := seq.Next()
		err := l.Append(ctx, g)
		if err != nil {
			require.Equal(t, next, seq.Next(), "offsets are taken back")
			return err
		}
		for k := range 1 + i%3 {
			want = append(want, string(body(fmt.Sprintf("%d/%d", i, k), 300)))
		}
		return nil
	}
	full := 0
	for i := range 400 {
		room := i%40 < 10
		if i%40 == 10 {
			sim.SetCapacity(int64(20+i/10) << 12)
		}
		if i%40 == 39 {
			sim.SetCapacity(0)
			c.Advance(time.Second)
			room = true
		}
		if err := add(i); err != nil {
			require.False(t, room, "there is room again")
			require.ErrorIs(t, err, message.ErrDiskFull)
			full++
		}
		c.Advance(time.Second)
	}
	require.Positive(t, full)
	require.NoError(t, l.Poison())
	require.Equal(t, want, texts(t, l))
	sim.SetCapacity(0)
	l2 := open(t, sim.Kill().FS(), o)
	require.Equal(t, want, texts(t, l2))
	require.Zero(t, l2.Recovery().CutBytes, "a write that failed for want of room leaves nothing")
}

// failing lets one operation on files fail.
type failing struct {
	fs.FS
	fail *func(op string) error
}

func (f failing) Sub(dir string) fs.FS { return failing{f.FS.Sub(dir), f.fail} }
func (f failing) Open(name string, flag fs.Flag) (fs.File, error) {
	if flag&fs.Create != 0 {
		if err := f.err("create"); err != nil {
			return nil, err
		}
	}
	file, err := f.FS.Open(name, flag)
	return failingFile{file, f}, err
}
func (f failing) SyncDir(dir string) error {
	if err := f.err("syncdir"); err != nil {
		return err
	}
	return f.FS.SyncDir(dir)
}

func (f failing) err(op string) error {
	if *f.fail != nil {
		return (*f.fail)(op)
	}
	return nil
}

type failingFile struct {
	fs.File
	f failing
}

func (f failingFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.f.err("write"); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(p, off)
}
func (f failingFile) SyncData() error {
	if err := f.f.err("sync"); err != nil {
		return err
	}
	return f.File.SyncData()
}

// TestEveryOperationFails lets the nth write, sync or create fail, for every n
// until the scenario runs through, with room running out and with the disk dying.
// The log answers with a typed error, and what it acknowledged is there after the
// next Open.
func TestEveryOperationFails(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		t.Run(fmt.Sprint(cause), func(t *testing.T) {
			for n := 1; ; n++ {
				var fail func(string) error
				sim := crash.New(1)
				root := failing{sim.FS(), &fail}
				o := Options{SegmentSize: 1 << 12, MaxUnsynced: 1 << 11, OnDisk: true, Manual: true, DiskReserve: -1}
				log, state := folders(t, root)
				left := n
				fail = func(string) error {
					if left--; left == 0 {
						return cause
					}
					return nil
				}
				var acked []string
				l, err := Open(log, state, o)
				if err == nil {
					seq := NewSequence(0)
					for i := range 12 {
						g := put(t, &Group{OnDisk: i%3 != 0}, seq, 1+i%2, 200, fmt.Sprint(i))
						if err = l.Append(ctx, g); err == nil {
							for k := range 1 + i%2 {
								acked = append(acked, string(body(fmt.Sprintf("%d/%d", i, k), 200)))
							}
						} else {
							require.True(t, errors.Is(err, message.ErrPoisoned) || errors.Is(err, message.ErrDiskFull), err)
							if errors.Is(err, message.ErrPoisoned) {
								require.ErrorIs(t, err, cause)
							}
						}
						l.Step()
					}
					err = l.Close()
				}
				fail = nil
				l, err2 := Open(log, state, o)
				require.NoError(t, err2, "operation %d", n)
				got := texts(t, l)
				at := 0
				for _, s := range got {
					if at < len(acked) && acked[at] == s {
						at++
					}
				}
				require.Equal(t, len(acked), at, "operation %d: %d acknowledged, %d found", n, len(acked), at)
				require.NoError(t, l.Close())
				if left > 0 {
					require.NoError(t, err)
					t.Logf("%d operations", n-1)
					return
				}
			}
		})
	}
}

func TestFailedSyncPoisons(t *testing.T) {
	sim := crash.New(1)
	o := Options{SegmentSize: 1 << 14, MaxUnsynced: 1 << 13, OnDisk: true, Manual: true}
	l := open(t, sim.FS(), o)
	seq := NewSequence(0)
	appendText(t, l, seq, true, "good")
	sim.FailSync("commitlog/*", crash.SyncDropped)
	err := l.Append(ctx, put(t, &Group{OnDisk: true}, seq, 1, 10, "bad"))
	require.ErrorIs(t, err, message.ErrPoisoned)
	require.ErrorIs(t, l.Append(ctx, put(t, &Group{}, seq, 1, 10, "later")), message.ErrPoisoned)
	require.ErrorIs(t, l.Sync(ctx), message.ErrPoisoned)
	require.ErrorIs(t, l.SaveDurably(), message.ErrPoisoned)
	require.Equal(t, []string{"good/0"}, texts(t, l), "reads go on")
	require.ErrorIs(t, l.Close(), message.ErrPoisoned)
	// The disk has lost the pages and the kernel believes them clean. The next
	// Open serves them only after it has written them again.
	sim = sim.Kill()
	l = open(t, sim.FS(), o)
	require.Len(t, texts(t, l), 2)
	l = open(t, sim.PowerCut(crash.KeepNone, 1).FS(), o)
	require.Len(t, texts(t, l), 2)
}

func TestReserve(t *testing.T) {
	sim := crash.New(1)
	c := manualClock()
	sim.SetCapacity(1 << 20)
	o := Options{SegmentSize: 1 << 14, MaxUnsynced: 1 << 13, Manual: true, Clock: c, DiskReserve: 2 << 20}
	l := open(t, sim.FS(), o)
	seq := NewSequence(0)
	appendText(t, l, seq, true, "first") // it looks at the room only now
	require.ErrorIs(t, l.Append(ctx, put(t, &Group{}, seq, 1, 10, "user")), message.ErrDiskFull)
	require.True(t, l.Stats().LowSpace)
	require.NoError(t, l.Append(ctx, put(t, &Group{Reserve: true}, seq, 1, 10, "own")))
	sim.SetCapacity(8 << 20)
	c.Advance(time.Second)
	require.NoError(t, l.Append(ctx, put(t, &Group{}, seq, 1, 10, "user")))
	require.NoError(t, l.Close())
}

func TestContextEndsTheWait(t *testing.T) {
	l := open(t, disk(t), Options{SegmentSize: 1 << 16, MaxUnsynced: 1 << 14, OnDisk: true})
	defer l.Close()
	released := make(chan *Group, 1)
	l.o.Release = func(g *Group) { released <- g }
	// Somebody writes and never ends: the group has to wait.
	l.mu.Lock()
	l.writing, l.syncing = true, true
	l.mu.Unlock()
	c, cancel := context.WithCancel(ctx)
	cancel()
	g := put(t, &Group{OnDisk: true}, NewSequence(0), 1, 10, "x")
	err := l.Append(c, g)
	require.ErrorIs(t, err, context.Canceled)
	g.Release()
	require.Empty(t, released, "the log still has it")
	l.mu.Lock()
	l.writing, l.syncing = false, false
	l.nextLocked()
	l.mu.Unlock()
	require.NoError(t, l.Sync(ctx))
	require.Same(t, g, <-released)
	require.Len(t, texts(t, l), 1)
}

func TestExpire(t *testing.T) {
	l := open(t, disk(t), Options{SegmentSize: 1 << 13, MaxUnsynced: 1 << 12, OnDisk: true, Manual: true})
	seq := NewSequence(0)
	for i := range 300 {
		appendText(t, l, seq, true, fmt.Sprint(i))
	}
	all := l.Segments()
	require.Greater(t, len(all), 3)
	// A reader inside the first segment keeps its bytes.
	var during []string
	_, err := l.Scan(0, all[0].Size, func(r *message.Record) error {
		if len(during) == 0 {
			removed, err := l.Expire(all[2].Base + 5)
			require.NoError(t, err)
			require.Equal(t, all[:2], removed)
		}
		during = append(during, string(r.Body()))
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, all[2].Base, l.Start())
	_, err = l.Record(0, 100, nil, &message.Record{})
	require.ErrorIs(t, err, message.ErrNotFound)
	_, err = l.Scan(0, 100, nil)
	require.ErrorIs(t, err, message.ErrNotFound)
	ok, err := l.MarkMatches(message.Mark{Offset: 200, Fingerprint: 1})
	require.NoError(t, err)
	require.False(t, ok)
	_, err = l.Expire(1 << 60)
	require.NoError(t, err)
	require.NotEmpty(t, l.Segments())
	require.NoError(t, l.Close())
}
