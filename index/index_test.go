package index

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

func TestHash(t *testing.T) {
	require.Equal(t, int32(2746024), Hash("TopicTest", "k1"))
	require.Equal(t, int32(0), fold(0x80000000))
	require.Equal(t, int32(1), fold(0xFFFFFFFF))
	for _, k := range []string{"", "a", "schlüssel", "键", "😀x", "a\xffb", "%RETRY%g#h"} {
		for _, topic := range []string{"t", "%RETRY%g", "a\xc3"} {
			require.Equal(t, fold(uint32(message.JavaHash(topic+"#"+k))), Hash(topic, k), "%q %q", topic, k)
		}
	}
}

func TestNames(t *testing.T) {
	require.Equal(t, "20260102030405006", formatName(nextName(epoch, time.UTC, 0)))
	require.Equal(t, "20261231235960000", formatName(20261231235960000))
	// A second file in the same millisecond, and one after the clock was set back.
	require.Equal(t, int64(20260102030405007), nextName(epoch, time.UTC, 20260102030405006))
	require.Equal(t, int64(20270101000000000), nextName(epoch, time.UTC, 20261231235959999))
	require.Equal(t, int64(20280229000000000), nextName(epoch, time.UTC, 20280228235959999))
	require.Equal(t, int64(20269999000000001), nextName(epoch, time.UTC, 20269999000000000), "no date: counted on")

	// The hour that autumn repeats: 02:59:59 CEST is followed by 02:00:00 CET.
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here")
	}
	at := time.Date(2026, 10, 25, 0, 59, 59, 0, time.UTC)
	last := nextName(at, berlin, 0)
	require.Equal(t, int64(20261025025959000), last)
	for range 7200 {
		at = at.Add(time.Second)
		next := nextName(at, berlin, last)
		require.Greater(t, next, last)
		last = next
	}
	require.Equal(t, int64(20261025035959000), last, "the clock leads again after the hour")
}

// TestNamesOfFiles rolls files while the clock jumps back and forth.
func TestNamesOfFiles(t *testing.T) {
	o, l := small(), newLog()
	c := clock.NewManual(epoch)
	o.Clock, o.Entries = c, 2
	x := open(t, memory(t), o)
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range 200 {
		c.Advance(time.Duration(rnd.IntN(7200)-3700) * time.Second)
		x.Apply(l.add("t", "", fmt.Sprint("k", i)))
		x.Step()
	}
	names, err := x.listFiles()
	require.NoError(t, err)
	require.Len(t, names, 200)
	for i := range 200 {
		require.Equal(t, []int64{l.records[i].Position()}, l.mustFind(t, x, "t", fmt.Sprint("k", i)))
	}
}

// TestGolden compares whole files with what RocketMQ's rules give, byte by byte.
func TestGolden(t *testing.T) {
	o, l, sim := small(), newLog(), memory(t)
	o.Slots, o.Entries = 3, 4
	x := open(t, sim, o)
	x.Apply(l.add("TopicTest", "", "k1"))        // entry 1 of file 1
	x.Apply(l.add("TopicTest", "U", "k1", "k2")) // entries 2 to 3, then 1 of file 2
	l.stored += 7000                             // entry 2 of file 2 is late
	x.Apply(l.add("TopicTest", "", "k1", "k3"))  // entries 2 and 3 of file 2
	save(t, x, l.mark())
	require.NoError(t, x.Close())

	p := []int64{l.records[0].Position(), l.records[1].Position(), l.records[2].Position()}
	ms := epoch.UnixMilli()
	u64, u32 := binary.BigEndian.AppendUint64, binary.BigEndian.AppendUint32
	h := func(k string) uint32 { return uint32(Hash("TopicTest", k)) }
	build := func(head []int64, used, next uint32, slots []uint32, entries ...[4]uint64) string {
		var b []byte
		for _, v := range head {
			b = u64(b, uint64(v))
		}
		b = u32(u32(b, used), next)
		for _, s := range slots {
			b = u32(b, s)
		}
		b = append(b, make([]byte, EntrySize)...)
		for _, e := range entries {
			b = u32(u32(u64(u32(b, uint32(e[0])), e[1]), uint32(e[2])), uint32(e[3]))
		}
		return hex.EncodeToString(b)
	}
	require.Equal(t, []uint32{1, 2, 2}, []uint32{h("k1") % 3, h("U") % 3, h("k2") % 3}, "slots of the keys")
	require.Equal(t, uint32(0), h("k3")%3)
	read := func(name string) string {
		b, err := fs.Read(sim.FS(), "index/"+name)
		require.NoError(t, err)
		return hex.EncodeToString(b)
	}
	require.Equal(t, build([]int64{ms, ms + 1000, p[0], p[1]}, 2, 4, []uint32{0, 3, 2},
		[4]uint64{uint64(h("k1")), uint64(p[0]), 0, 0},
		[4]uint64{uint64(h("U")), uint64(p[1]), 1, 0},
		[4]uint64{uint64(h("k1")), uint64(p[1]), 1, 1}), read("20260102030405006"))
	// The begin of the second file was file 1's end when its entry 1 was made, in
	// the same second, and is the time of entry 1 from then on.
	require.Equal(t, build([]int64{ms + 1000, ms + 9000, p[1], p[2]}, 3, 4, []uint32{3, 2, 1},
		[4]uint64{uint64(h("k2")), uint64(p[1]), 0, 0},
		[4]uint64{uint64(h("k1")), uint64(p[2]), 8, 0},
		[4]uint64{uint64(h("k3")), uint64(p[2]), 8, 0}), read("20260102030405007"))
}

// TestRolledFile: entry 1 of a later file keeps its seconds from the end of the
// file before, and is found at its own time all the same.
func TestRolledFile(t *testing.T) {
	o, l := small(), newLog()
	o.Entries = 2
	x := open(t, memory(t), o)
	x.Apply(l.add("t", "", "a"))
	l.stored += 100_000
	late := l.add("t", "", "b")
	x.Apply(late)
	require.Len(t, l.mustFind(t, x, "t", "b"), 1)
	list := *x.files.Load()
	var b [EntrySize]byte
	require.NoError(t, x.readAt(list[1], b[:], x.g.entryAt(1)))
	require.Equal(t, int32(101), DecodeEntry(b[:]).Seconds)
	require.Equal(t, late.StoredAtMillis(), list[1].head.BeginTime)
	got, _, err := l.find(x, Query{Topic: "t", Key: "b", Begin: late.StoredAt(), End: late.StoredAt()})
	require.NoError(t, err)
	require.Equal(t, []int64{late.Position()}, got)
}

func TestWhatIsIndexed(t *testing.T) {
	o, l := small(), newLog()
	o.Skip = func(r *message.Record) bool { return r.Topic() == "off" }
	x := open(t, memory(t), o)
	add := func(flag int32, topic, uniq string, keys ...string) {
		e := envelope(uniq)
		e.SysFlag = flag
		x.Apply(l.addEnvelope(topic, e, keys...))
	}
	add(0, "t", "id", "k")
	add(message.FlagPrepared, "t", "id", "k")
	add(message.FlagCommit, "t", "id", "k")
	add(message.FlagPrepared|message.FlagCommit, "t", "id", "k") // a rollback
	add(0, "off", "id", "k")
	add(0, "t", "")
	require.Len(t, l.mustFind(t, x, "t", "k"), 3)
	require.Len(t, l.mustFind(t, x, "t", "id"), 3)
	require.Empty(t, l.mustFind(t, x, "off", "k"))
	for by, want := range map[By]int{ByKey: 0, ByUniqueID: 3, ByAny: 3} {
		got, _, err := l.find(x, Query{Topic: "t", Key: "id", By: by})
		require.NoError(t, err)
		require.Len(t, got, want)
	}
	for _, q := range []Query{{Topic: "t"}, {Key: "k"}, {Topic: "t", Key: "k", Limit: -1}} {
		_, _, err := l.find(x, q)
		require.ErrorIs(t, err, message.ErrInvalidMessage)
	}
	require.Equal(t, l.end, x.Stats().Built)
}

// TestReopen: an unclean reopen reads the active file's entries and nothing else,
// a clean one its slots; Open itself reads neither.
func TestReopen(t *testing.T) {
	for _, clean := range []bool{false, true} {
		sim, o, l := memory(t), small(), newLog()
		o.Slots, o.Entries = 1000, 10_000
		x, err := Open(sim.FS().Sub("index"), sim.FS().Sub("ember"), o)
		require.NoError(t, err)
		for i := range 15_000 {
			x.Apply(l.add("t", "", fmt.Sprint("k", i)))
		}
		save(t, x, l.mark())
		if clean {
			require.NoError(t, x.Close())
		} else {
			sim = sim.Kill()
		}
		faulty := fs.NewFaulty(sim.FS().Sub("index"))
		y, err := Open(faulty, sim.FS().Sub("ember"), o)
		require.NoError(t, err)
		require.Zero(t, faulty.Counts().BytesRead)
		y.Step()
		bytes := faulty.Counts().BytesRead
		entries := int64(5002 * EntrySize)
		if clean {
			require.Less(t, bytes, 4*o.Slots+pieceEntries*EntrySize+1)
		} else {
			require.Less(t, bytes, entries+pieceEntries*EntrySize)
			require.GreaterOrEqual(t, bytes, entries)
		}
		for _, i := range []int{0, 9998, 9999, 14_999} {
			require.Len(t, l.mustFind(t, y, "t", fmt.Sprint("k", i)), 1, i)
		}
		require.Empty(t, findings(t, y))
		require.NoError(t, y.Close())
	}
}

// queryLoop asks for a key whose chain was bent into a circle.
func queryLoop(t *testing.T) (Result, error) {
	o, l, sim := small(), newLog(), memory(t)
	x := open(t, sim, o)
	for range 30 {
		x.Apply(l.add("t", "", "k"))
	}
	x.Step()
	f := (*x.files.Load())[0]
	h, err := sim.FS().Open("index/"+f.name, 0)
	require.NoError(t, err)
	e := Entry{Hash: Hash("t", "k") ^ 1<<20, Position: 0, Prev: 2} // of the same slot
	var b [EntrySize]byte
	e.Encode(b[:])
	_, err = h.WriteAt(b[:], x.g.entryAt(2))
	require.NoError(t, err)
	require.NoError(t, h.Close())
	_, res, err := l.find(x, Query{Topic: "t", Key: "k", Limit: 100, MaxSteps: 5000})
	return res, err
}

func TestDamageIsReported(t *testing.T) {
	_, err := queryLoop(t)
	require.ErrorIs(t, err, message.ErrCorrupt)

	type world struct {
		sim *crash.Sim
		x   *Index
	}
	for name, hurt := range map[string]func(w *world, f *file){
		"file is gone":   func(w *world, f *file) { require.NoError(t, w.sim.FS().Remove("index/"+f.name)) },
		"slot is zero":   func(w *world, f *file) { flip(t, w.sim, f, f.g.slotAt(f.g.slotOf(Hash("t", "k")))+3) },
		"entry has rot":  func(w *world, f *file) { flip(t, w.sim, f, f.g.entryAt(9)) },
		"prev is a lie":  func(w *world, f *file) { flip(t, w.sim, f, f.g.entryAt(9)+16) },
		"other position": func(w *world, f *file) { flip(t, w.sim, f, f.g.entryAt(9)+4) },
	} {
		t.Run(name, func(t *testing.T) {
			o, l, sim := small(), newLog(), memory(t)
			o.Slots = 17 // any bit of a hash changes its slot
			x, err := Open(sim.FS().Sub("index"), sim.FS().Sub("ember"), o)
			require.NoError(t, err)
			for range 30 {
				x.Apply(l.add("t", "", "k"))
			}
			save(t, x, l.mark())
			require.NoError(t, x.Close())
			want := 30
			o.Scan, o.Start = l.scan, func() int64 { return 0 }
			y := open(t, sim, o)
			y.handles.closeAll()
			hurt(&world{sim, y}, (*y.files.Load())[1])
			_, _, err = l.find(y, Query{Topic: "t", Key: "k", Limit: 100})
			require.ErrorIs(t, err, message.ErrCorrupt)
			require.Error(t, y.Damaged())
			// The index builds itself anew from the log.
			got, _, err := l.find(y, Query{Topic: "t", Key: "k", Limit: 100})
			require.NoError(t, err)
			require.Len(t, got, want)
			require.Equal(t, int64(1), y.Stats().Rebuilds)
			require.Empty(t, findings(t, y))
		})
	}
}

func flip(t *testing.T, sim *crash.Sim, f *file, off int64) {
	t.Helper()
	require.NoError(t, sim.FlipBit("index/"+f.name, off, 6))
}

// TestOpenDamage: what Open sees makes Saved false.
func TestOpenDamage(t *testing.T) {
	for name, hurt := range map[string]func(fsys fs.FS, file string) error{
		"missing file":  func(fsys fs.FS, file string) error { return fsys.Remove("index/" + file) },
		"missing state": func(fsys fs.FS, _ string) error { return fsys.Remove("ember/index") },
		"short file": func(fsys fs.FS, file string) error {
			h, err := fsys.Open("index/"+file, 0)
			if err == nil {
				err = h.Truncate(100)
			}
			return err
		},
		"bad state": func(fsys fs.FS, _ string) error { return fs.WriteFile(fsys, "ember/index", []byte("EMBERIDX")) },
	} {
		t.Run(name, func(t *testing.T) {
			o, l, sim := small(), newLog(), memory(t)
			x, err := Open(sim.FS().Sub("index"), sim.FS().Sub("ember"), o)
			require.NoError(t, err)
			for range 30 {
				x.Apply(l.add("t", "", "k"))
			}
			save(t, x, l.mark())
			require.NoError(t, hurt(sim.FS(), (*x.files.Load())[0].name))
			y := open(t, sim.Kill(), o)
			_, ok := y.Saved()
			require.False(t, ok)
			require.NotEmpty(t, y.SavedReason())
			require.NoError(t, y.Reset())
			for i := range l.records {
				y.Apply(&l.records[i])
			}
			require.Len(t, l.mustFind(t, y, "t", "k"), 30)
		})
	}
}

// TestColliding: a million keys with one hash. The walk is bounded, says so, and
// can be continued; the newest are complete.
func TestColliding(t *testing.T) {
	n := 1 << 17
	if testing.Short() {
		n = 1 << 14
	}
	if *bigFile {
		n = 1 << 20
	}
	key := func(i int) string {
		var b strings.Builder
		for bit := range 20 {
			b.WriteString([]string{"Aa", "BB"}[i>>bit&1])
		}
		return b.String()
	}
	o, l := small(), newLog()
	o.Slots, o.Entries = 1000, 1<<20+1
	x := open(t, memory(t), o)
	for i := range n {
		x.Apply(l.add("t", "", key(i)))
	}
	require.Equal(t, Hash("t", key(0)), Hash("t", key(n-1)))
	_, res, err := l.find(x, Query{Topic: "t", Key: key(0)})
	require.NoError(t, err)
	require.True(t, res.Truncated)
	require.Equal(t, defaultReads, res.Reads)
	require.Equal(t, l.records[n-defaultReads].Position(), res.Complete)
	require.Equal(t, []int64{l.records[n-1].Position()}, l.mustFind(t, x, "t", key(n-1)))
	got, res, err := l.find(x, Query{Topic: "t", Key: key(0), Before: l.records[10].Position()})
	require.NoError(t, err)
	require.Equal(t, []int64{0}, got)
	require.False(t, res.Truncated)
	if *bigFile {
		times := make([]time.Duration, 300)
		for i := range times {
			start := time.Now()
			_, _, err := l.find(x, Query{Topic: "t", Key: key(i)})
			times[i] = time.Since(start)
			require.NoError(t, err)
		}
		slices.Sort(times)
		t.Logf("%d colliding keys: query p50 %v, p99 %v", n, times[150], times[297])
	}
}

// TestOverflow: what the feed cannot hold is read from the log.
func TestOverflow(t *testing.T) {
	o, l := small(), newLog()
	o.Entries, o.FeedBytes, o.Scan = 1000, 2*chunkBytes, l.scan
	x := open(t, memory(t), o)
	for i := range 10_000 {
		x.Apply(l.add("t", "", fmt.Sprint("k", i)))
		require.LessOrEqual(t, x.Stats().FeedBytes, o.FeedBytes+chunkBytes)
	}
	require.Positive(t, x.Stats().Drops)
	for i := range 10_000 {
		require.Len(t, l.mustFind(t, x, "t", fmt.Sprint("k", i)), 1)
	}
	require.Positive(t, x.Stats().Scans)
}

// TestPending: entries that may not be written are bounded, and the builder goes
// on when the log has synced.
func TestPending(t *testing.T) {
	o, l := small(), newLog()
	synced := int64(0)
	o.Entries, o.PendingBytes, o.Synced = 1000, 1, func() int64 { return synced }
	x := open(t, memory(t), o)
	for i := range 10_000 {
		x.Apply(l.add("t", "", fmt.Sprint("k", i)))
	}
	require.ErrorIs(t, x.Wait(context.Background(), math.MaxInt64), message.ErrBusy)
	require.Less(t, x.Stats().PendingBytes, int64(100_000))
	synced = l.end
	require.NoError(t, x.Wait(context.Background(), math.MaxInt64))
	require.Len(t, l.mustFind(t, x, "t", "k9999"), 1)
}

func TestReadOnly(t *testing.T) {
	o, l, sim := small(), newLog(), memory(t)
	x := open(t, sim, o)
	for i := range 100 {
		x.Apply(l.add("t", "", fmt.Sprint("k", i%10)))
		if i == 60 {
			save(t, x, l.mark())
		}
	}
	writes := 0
	sim.OnWrite(func(string, int64, []byte) { writes++ })
	o.ReadOnly = true
	y := open(t, sim, o)
	m, ok := y.Saved()
	require.True(t, ok)
	for i := range l.records {
		if r := &l.records[i]; r.Position() >= m.Offset {
			y.Apply(r)
		}
	}
	require.Len(t, l.mustFind(t, y, "t", "k3"), 10)
	require.ErrorIs(t, y.Freeze(l.mark())(), message.ErrReadOnly)
	require.ErrorIs(t, y.Expire(5), message.ErrReadOnly)
	require.Zero(t, writes)
}

func TestApplyAllocatesNothing(t *testing.T) {
	o, l := small(), newLog()
	o.Slots, o.Entries = 1000, 1<<20
	x := open(t, memory(t), o)
	x.o.Skip = nil
	r := *l.add("t", "0123456789ABCDEF", "k1", "k2")
	b := append([]byte(nil), r.Bytes()...)
	position := int64(0)
	n := testing.AllocsPerRun(2000, func() {
		binary.BigEndian.PutUint64(b[28:], uint64(position))
		position += int64(len(b))
		if err := r.Reset(b); err != nil {
			panic(err)
		}
		x.Apply(&r)
	})
	require.Less(t, n, 0.01, "a new chunk of 1,024 keys apart")
}

// TestRace runs queries, the dispatcher, saves and expiry beside the builder.
func TestRace(t *testing.T) {
	sim := memory(t)
	var mu sync.Mutex // of the log
	l := newLog()
	o := Options{Slots: 64, Entries: 500, FeedBytes: 3 * chunkBytes, MaxOpenFiles: 2, Synced: allSynced, Start: func() int64 { return 0 }}
	locked := func(position int64) (*message.Record, error) {
		mu.Lock()
		defer mu.Unlock()
		return l.read(position)
	}
	o.Scan = func(from, to int64, f func(*message.Record) error) (int64, error) {
		mu.Lock()
		c := *l
		mu.Unlock()
		return c.scan(from, to, f)
	}
	x := open(t, sim, o)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprint("k", i%20)
				_, err := x.Find(ctx, Query{Topic: "t", Key: key}, locked, func(r *message.Record) bool { return true })
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				_ = x.Wait(ctx, math.MaxInt64)
			}
		})
	}
	const n = 20_000
	for i := range n {
		mu.Lock()
		r := l.add("t", "", fmt.Sprint("k", i%20))
		c := r.Clone()
		mu.Unlock()
		x.Apply(&c)
		if i%2000 == 1999 {
			saveIt := x.Freeze(l.mark())
			require.NoError(t, saveIt())
			mu.Lock()
			l.start = l.records[i/3].Position()
			mu.Unlock()
			require.NoError(t, x.Expire(l.start))
			require.Empty(t, findings(t, x))
		}
	}
	cancel()
	wg.Wait()
	got, _, err := l.find(x, Query{Topic: "t", Key: "k7", Limit: n})
	require.NoError(t, err)
	require.Len(t, got, (n-n/3)/20+1)
	require.NoError(t, x.Rebuild(l.start))
	again, _, err := l.find(x, Query{Topic: "t", Key: "k7", Limit: n})
	require.NoError(t, err)
	require.Equal(t, got, again)
}

func FuzzState(f *testing.F) {
	g := geometry{16, 10}
	im := image{mark: message.Mark{Offset: 7, Fingerprint: 9}, rows: []row{
		{number: 20260102030405006, head: Header{Next: 10}, slotsInFile: true},
		{number: 20260102030405007, head: Header{Next: 5}, active: true},
	}}
	f.Add(im.encode(g))
	f.Fuzz(func(t *testing.T, b []byte) {
		im, err := decodeImage(b, g)
		if err == nil {
			again, err := decodeImage(im.encode(g), g)
			require.NoError(t, err)
			require.Equal(t, im, again)
		}
	})
}

// FuzzFile opens and asks an index whose active and sealed file have any bytes.
func FuzzFile(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint16(40), false)
	f.Add([]byte{0xFF, 0xFF, 0xFF, 0xFF}, uint16(60), true)
	f.Fuzz(func(t *testing.T, b []byte, off uint16, active bool) {
		o, l, sim := small(), newLog(), memory(t)
		x, err := Open(sim.FS().Sub("index"), sim.FS().Sub("ember"), o)
		require.NoError(t, err)
		for range 14 {
			x.Apply(l.add("t", "", "k"))
		}
		save(t, x, l.mark())
		list := *x.files.Load()
		name := list[0].name
		if active {
			name = list[1].name
		}
		h, err := sim.FS().Open("index/"+name, 0)
		require.NoError(t, err)
		at := int64(off) % x.g.size()
		_, err = h.WriteAt(b[:min(int64(len(b)), x.g.size()-at)], at)
		require.NoError(t, err)
		require.NoError(t, h.Close())
		y := open(t, sim.Kill(), o)
		got, _, err := l.find(y, Query{Topic: "t", Key: "k"})
		if err == nil {
			require.Subset(t, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, indexes(l, got))
		} else {
			require.ErrorIs(t, err, message.ErrCorrupt)
		}
		findings(t, y)
	})
}

func indexes(l *fakeLog, positions []int64) (list []int64) {
	for _, p := range positions {
		list = append(list, int64(l.at[p]))
	}
	return list
}
