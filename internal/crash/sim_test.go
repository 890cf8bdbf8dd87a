package crash

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	iofs "io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/embermq/embermq/internal/fs"
	"github.com/stretchr/testify/require"
)

// newFile makes a file whose name and first bytes are durable.
func newFile(t testing.TB, f fs.FS, name, content string) fs.File {
	t.Helper()
	file, err := f.Open(name, fs.Create)
	require.NoError(t, err)
	put(t, file, 0, content)
	require.NoError(t, file.Sync())
	require.NoError(t, f.SyncDir("."))
	return file
}

func put(t testing.TB, file fs.File, off int64, content string) {
	t.Helper()
	_, err := file.WriteAt([]byte(content), off)
	require.NoError(t, err)
}

// get returns a file's bytes, or "-" when it is missing.
func get(t testing.TB, s *Sim, name string) string {
	t.Helper()
	b, err := fs.Read(s.FS(), name)
	if errors.Is(err, iofs.ErrNotExist) {
		return "-"
	}
	require.NoError(t, err)
	return string(b)
}

// outcomes collects what name reads as over many cuts of every mode.
func outcomes(t testing.TB, s *Sim, name string) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for _, mode := range Modes {
		for sub := range uint64(50) {
			seen[get(t, s.PowerCut(mode, sub), name)]++
		}
	}
	return seen
}

func keys(m map[string]int) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	return list
}

// print reads a whole disk into one number.
func print(t testing.TB, f fs.FS) string {
	t.Helper()
	h := fnv.New64a()
	var walk func(dir string)
	walk = func(dir string) {
		list, err := f.List(dir)
		require.NoError(t, err)
		for _, e := range list {
			name := join(dir, e.Name)
			fmt.Fprintln(h, name, e)
			if e.Dir {
				walk(name)
				continue
			}
			b, err := fs.Read(f, name)
			require.NoError(t, err)
			_, _ = h.Write(b)
		}
	}
	walk(".")
	return fmt.Sprintf("%016x", h.Sum64())
}

func TestNewNameNeedsSyncDir(t *testing.T) {
	s := New(1)
	file, err := s.FS().Open("x", fs.Create)
	require.NoError(t, err)
	put(t, file, 0, "abc")
	require.NoError(t, file.Sync())
	require.ElementsMatch(t, []string{"-", "abc"}, keys(outcomes(t, s, "x")))
	require.NoError(t, s.FS().SyncDir("."))
	require.Equal(t, []string{"abc"}, keys(outcomes(t, s, "x")))
}

func TestNewFoldersNeedSyncDirOfEachParent(t *testing.T) {
	s := New(1)
	f := s.FS()
	require.NoError(t, f.MkdirAll("a/b"))
	require.NoError(t, fs.WriteFile(f, "a/b/x", []byte("abc")))
	require.NoError(t, f.SyncDir("a"))
	require.ElementsMatch(t, []string{"-", "abc"}, keys(outcomes(t, s, "a/b/x")))
	require.NoError(t, f.SyncDir("."))
	require.Equal(t, []string{"abc"}, keys(outcomes(t, s, "a/b/x")))
}

func TestUnsyncedBytes(t *testing.T) {
	s := New(1)
	s.SetGarbage(GarbageZero)
	file := newFile(t, s.FS(), "x", "....")
	put(t, file, 0, "a")
	put(t, file, 2, "b")
	// A prefix in store order: b never without a.
	require.ElementsMatch(t, []string{"....", "a...", "a.b."}, keys(outcomes(t, s, "x")))
	require.Equal(t, "....", get(t, s.PowerCut(KeepNone, 0), "x"))
	require.Equal(t, "a.b.", get(t, s.PowerCut(KeepAll, 0), "x"))
	require.NoError(t, file.SyncData())
	require.Equal(t, []string{"a.b."}, keys(outcomes(t, s, "x")))
}

func TestPagesAreIndependent(t *testing.T) {
	s := New(1)
	file := newFile(t, s.FS(), "x", strings.Repeat(".", 2*pageSize))
	put(t, file, 0, "a")
	put(t, file, pageSize, "b")
	seen := map[string]int{}
	for sub := range uint64(200) {
		b := get(t, s.PowerCut(Random(0.5), sub), "x")
		seen[b[:1]+b[pageSize:pageSize+1]]++
	}
	require.ElementsMatch(t, []string{"..", "a.", ".b", "ab"}, keys(seen))
	b := get(t, s.PowerCut(OnlyNewestPage, 0), "x")
	require.Equal(t, ".b", b[:1]+b[pageSize:pageSize+1])
}

func TestTornSectors(t *testing.T) {
	s := New(1)
	old, now := strings.Repeat(".", pageSize), strings.Repeat("N", pageSize)
	file := newFile(t, s.FS(), "x", old)
	put(t, file, 0, now)
	torn := 0
	for b := range outcomes(t, s, "x") {
		for i := 0; i < pageSize; i += sectorSize {
			sector := b[i : i+sectorSize]
			require.True(t, sector == old[:sectorSize] || sector == now[:sectorSize], "a sector is never torn itself")
		}
		if b != old && b != now {
			torn++
		}
	}
	require.Greater(t, torn, 10)
	b := get(t, s.PowerCut(AllButOneSector, 3), "x")
	require.Equal(t, sectorSize, strings.Count(b, "."))
}

func TestLastStoreWithoutTheRest(t *testing.T) {
	s := New(1)
	file := newFile(t, s.FS(), "x", strings.Repeat(".", 2*pageSize))
	put(t, file, 0, "a")
	put(t, file, 1024, "b")
	put(t, file, pageSize, "c")
	put(t, file, 1025, "d")
	b := get(t, s.PowerCut(LastStoreOfEachFile, 0), "x")
	require.Equal(t, ".", b[:1])
	require.Equal(t, "bd", b[1024:1026], "one sector cannot be split")
	require.Equal(t, ".", b[pageSize:pageSize+1])
}

func TestLength(t *testing.T) {
	s := New(1)
	s.SetGarbage(GarbageZero)
	file := newFile(t, s.FS(), "x", "ab")
	put(t, file, 2, "cd")
	put(t, file, 4, "ef")
	require.ElementsMatch(t, []string{
		"ab", "abcd", "abcdef", "ab\x00\x00", "ab\x00\x00\x00\x00", "abcd\x00\x00",
	}, keys(outcomes(t, s, "x")))
	require.NoError(t, file.SyncData())
	require.Equal(t, []string{"abcdef"}, keys(outcomes(t, s, "x")), "bytes that need the length take it along")
}

func TestSyncDataNeedNotTakeTheLength(t *testing.T) {
	s := New(1)
	file := newFile(t, s.FS(), "x", "ab")
	require.NoError(t, file.Truncate(4))
	put(t, file, 0, "A")
	require.NoError(t, file.SyncData())
	require.ElementsMatch(t, []string{"Ab", "Ab\x00\x00"}, keys(outcomes(t, s, "x")))
	require.NoError(t, file.Sync())
	require.Equal(t, []string{"Ab\x00\x00"}, keys(outcomes(t, s, "x")))
}

func TestGarbageBehindTheOldLength(t *testing.T) {
	s := New(1)
	file := newFile(t, s.FS(), "x", "ab")
	require.NoError(t, file.Truncate(3*pageSize))
	require.NoError(t, file.Sync())
	put(t, file, pageSize, "in a hole of the old length")
	put(t, file, 3*pageSize, "behind it")
	garbage := 0
	for b := range outcomes(t, s, "x") {
		require.Equal(t, "ab\x00", b[:3])
		require.Contains(t, "\x00i", b[pageSize:pageSize+1])
		if len(b) > 3*pageSize && !strings.Contains("\x00b", b[3*pageSize:3*pageSize+1]) {
			garbage++
		}
	}
	require.Positive(t, garbage)
	s.SetGarbage(GarbageStale)
	stale := 0
	for sub := range uint64(200) {
		b := get(t, s.PowerCut(Random(0.5), sub), "x")
		if len(b) > 3*pageSize && b[3*pageSize] == 'a' {
			stale++
		}
	}
	require.Positive(t, stale)
}

func TestTruncateAndRegrow(t *testing.T) {
	s := New(1)
	s.SetGarbage(GarbageZero)
	file := newFile(t, s.FS(), "x", strings.Repeat("o", 2*pageSize))
	require.NoError(t, file.Truncate(1))
	require.NoError(t, file.Truncate(2*pageSize))
	put(t, file, pageSize, "n")
	seen := map[string]int{}
	for sub := range uint64(500) {
		b := get(t, s.PowerCut(Random(0.5), sub), "x")
		if len(b) == 1 {
			seen[b]++
			continue
		}
		require.Len(t, b, 2*pageSize)
		seen[b[:1]+b[1:2]+b[pageSize:pageSize+2]]++
	}
	// The second page is new only if the cut is durable: its block came after it.
	require.ElementsMatch(t, []string{"oooo", "o", "o\x00\x00\x00", "o\x00n\x00"}, keys(seen))
	require.NoError(t, file.Sync())
	require.Equal(t, "o"+strings.Repeat("\x00", pageSize-1)+"n"+strings.Repeat("\x00", pageSize-1), get(t, s.PowerCut(KeepNone, 0), "x"))
}

func TestRenameNeverLosesBothNames(t *testing.T) {
	s := New(1)
	f := s.FS()
	newFile(t, f, "x", "old")
	tmp := newFile(t, f, "x.tmp", "new")
	require.NoError(t, tmp.Sync())
	require.NoError(t, f.Rename("x.tmp", "x"))
	seen := map[string]int{}
	for _, mode := range Modes {
		for sub := range uint64(50) {
			c := s.PowerCut(mode, sub)
			seen[get(t, c, "x")+" "+get(t, c, "x.tmp")]++
		}
	}
	require.ElementsMatch(t, []string{"old new", "new -", "new new"}, keys(seen))
	require.NoError(t, f.SyncDir("."))
	require.Equal(t, "new -", get(t, s.PowerCut(KeepNone, 0), "x")+" "+get(t, s.PowerCut(KeepNone, 0), "x.tmp"))
}

func TestSyncOfOldFolderTakesNewNameAlong(t *testing.T) {
	s := New(1)
	f := s.FS()
	require.NoError(t, f.MkdirAll("a"))
	require.NoError(t, f.MkdirAll("b"))
	require.NoError(t, fs.WriteFile(f, "a/x", []byte("abc")))
	require.NoError(t, f.SyncDir("."))
	require.NoError(t, f.Rename("a/x", "b/y"))
	require.NoError(t, f.SyncDir("a"))
	c := s.PowerCut(KeepNone, 0)
	require.Equal(t, "-", get(t, c, "a/x"))
	require.Equal(t, "abc", get(t, c, "b/y"))
}

func TestRenameOfUnsyncedBytes(t *testing.T) {
	s := New(1)
	s.SetGarbage(GarbageZero)
	f := s.FS()
	newFile(t, f, "x", "old")
	tmp, err := f.Open("x.tmp", fs.Create)
	require.NoError(t, err)
	put(t, tmp, 0, "new")
	require.NoError(t, f.Rename("x.tmp", "x"))
	require.NoError(t, f.SyncDir("."))
	require.ElementsMatch(t, []string{"", "\x00\x00\x00", "new"}, keys(outcomes(t, s, "x")), "the mistake of rename before sync")
}

func TestRemovedFileMayComeBack(t *testing.T) {
	s := New(1)
	newFile(t, s.FS(), "x", "abc")
	require.NoError(t, s.FS().Remove("x"))
	require.ElementsMatch(t, []string{"-", "abc"}, keys(outcomes(t, s, "x")))
	require.NoError(t, s.FS().SyncDir("."))
	require.Equal(t, []string{"-"}, keys(outcomes(t, s, "x")))
}

func TestWriteFileIsAtomic(t *testing.T) {
	var last int
	for n := 1; ; n++ {
		for _, mid := range []bool{false, true} {
			s := New(uint64(n))
			newFile(t, s.FS(), "x", "old")
			last = s.Ops()
			s.StopAfter(last+n, mid)
			err := fs.WriteFile(s.FS(), "x", []byte("new"))
			if err == nil {
				require.Equal(t, []string{"new"}, keys(outcomes(t, s, "x")))
				require.GreaterOrEqual(t, n, 5)
				return
			}
			require.ErrorIs(t, err, ErrStopped)
			for b := range outcomes(t, s, "x") {
				require.Contains(t, []string{"old", "new"}, b, s.Name())
			}
		}
	}
}

func TestKillKeepsTheCacheUnsafe(t *testing.T) {
	s := New(1)
	file := newFile(t, s.FS(), "x", "....")
	l, err := s.FS().Lock("lock")
	require.NoError(t, err)
	put(t, file, 0, "a")
	k := s.Kill()
	require.Equal(t, "a...", get(t, k, "x"))
	require.Zero(t, k.OpenFiles())
	kl, err := k.FS().Lock("lock")
	require.NoError(t, err, "locks die with the process")
	require.NoError(t, kl.Close())
	// A sync without a write would make it safe; nothing else does.
	require.Equal(t, "....", get(t, k.PowerCut(KeepNone, 0), "x"))
	kf, err := k.FS().Open("x", 0)
	require.NoError(t, err)
	require.NoError(t, kf.Sync())
	require.Equal(t, "a...", get(t, k.PowerCut(KeepNone, 0), "x"))
	// The original is not touched by what happens to its images.
	require.Equal(t, "....", get(t, s.PowerCut(KeepNone, 0), "x"))
	put(t, kf, 0, "zzz")
	require.Equal(t, "a...", get(t, s, "x"))
	put(t, file, 3, "b")
	require.Equal(t, "a..b", get(t, s, "x"))
	require.Equal(t, "zzz.", get(t, k, "x"))
	require.NoError(t, l.Close())
}

func TestFailedSync(t *testing.T) {
	for _, fault := range []SyncFault{SyncDropped, SyncReverted, SyncLate} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			s := New(1)
			file := newFile(t, s.FS(), "x", "....")
			other, err := s.FS().Open("x", 0)
			require.NoError(t, err)
			put(t, file, 0, "a")
			s.FailSync("y", fault)
			s.FailSync("x", fault)
			if fault == SyncLate {
				require.NoError(t, file.SyncData())
			}
			require.ErrorIs(t, file.SyncData(), syscall.EIO)
			require.NoError(t, file.Sync(), "reported once")
			require.ErrorIs(t, other.Sync(), syscall.EIO, "to every open file")
			late, err := s.FS().Open("x", 0)
			require.NoError(t, err)
			require.NoError(t, late.Sync(), "but not to later ones")
			want := "a..."
			if fault == SyncReverted {
				want = "...."
			}
			require.Equal(t, want, get(t, s, "x"))
			require.Equal(t, want, get(t, s.Kill(), "x"), "a new process trusts the cache")
			require.Equal(t, []string{"...."}, keys(outcomes(t, s, "x")), "and the disk does not have it")
			// A write into the page takes the lost bytes along.
			put(t, file, 2, "b")
			require.NoError(t, file.SyncData())
			require.Equal(t, want[:2]+"b.", get(t, s.PowerCut(KeepNone, 0), "x"))
		})
	}
}

func TestFailedSyncOfSyncFS(t *testing.T) {
	s := New(1)
	file := newFile(t, s.FS(), "x", "....")
	put(t, file, 0, "a")
	s.FailSync("*", SyncDropped)
	require.ErrorIs(t, s.FS().SyncFS(), syscall.EIO)
	require.NoError(t, s.FS().SyncFS())
	require.Equal(t, "....", get(t, s.PowerCut(KeepAll, 0), "x"))
}

func TestFullDisk(t *testing.T) {
	s := New(1)
	s.SetCapacity(4 * pageSize)
	file := newFile(t, s.FS(), "x", "abc")
	require.NoError(t, file.Truncate(1<<30), "a hole takes no room")
	u, err := s.FS().Usage()
	require.NoError(t, err)
	require.Equal(t, fs.Usage{Total: 4 * pageSize, Free: 3 * pageSize}, u)
	n, err := file.WriteAt(make([]byte, 6*pageSize), 2*pageSize+100)
	require.Zero(t, n)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.True(t, fs.IsFull(err))
	put(t, file, 0, "over what is there")
	put(t, file, 4*pageSize, "and over the part that was written")
	_, err = file.WriteAt([]byte("z"), 5*pageSize)
	require.True(t, fs.IsFull(err))
	require.True(t, fs.IsFull(file.Preallocate(6*pageSize, 1)))
	require.NoError(t, file.Truncate(pageSize))
	require.NoError(t, file.Truncate(8*pageSize))
	require.NoError(t, file.Preallocate(pageSize, 3*pageSize))
	u, err = s.FS().Usage()
	require.NoError(t, err)
	require.Zero(t, u.Free)
	put(t, file, 3*pageSize, "reserved room is kept for it")
	require.NoError(t, s.FS().Remove("x"))
	u, err = s.FS().Usage()
	require.NoError(t, err)
	require.Zero(t, u.Free, "an open file keeps its room")
	require.NoError(t, file.Close())
	u, err = s.FS().Usage()
	require.NoError(t, err)
	require.Equal(t, int64(4*pageSize), u.Free)
}

func TestStopAfter(t *testing.T) {
	s := New(1)
	file := newFile(t, s.FS(), "x", "....")
	s.StopAfter(s.Ops()+2, false)
	put(t, file, 0, "a")
	_, err := file.WriteAt([]byte("b"), 1)
	require.ErrorIs(t, err, ErrStopped)
	require.True(t, s.Stopped())
	for _, err := range []error{
		file.Sync(), file.SyncData(), file.Truncate(1), file.Preallocate(0, 1), file.Close(),
		s.FS().Remove("x"), s.FS().Rename("x", "y"), s.FS().Link("x", "y"), s.FS().MkdirAll("d"),
		s.FS().SyncDir("."), s.FS().SyncFS(),
	} {
		require.ErrorIs(t, err, ErrStopped)
	}
	_, err = file.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, ErrStopped)
	_, err = s.FS().Open("x", 0)
	require.ErrorIs(t, err, ErrStopped)
	_, err = s.FS().Lock("x")
	require.ErrorIs(t, err, ErrStopped)
	_, err = s.FS().List(".")
	require.ErrorIs(t, err, ErrStopped)
	require.Equal(t, "a...", get(t, s.Kill(), "x"))
}

func TestStopInTheMiddle(t *testing.T) {
	writes, syncs := map[string]int{}, map[string]int{}
	for seed := range uint64(200) {
		s := New(seed)
		file := newFile(t, s.FS(), "x", strings.Repeat(".", 2*pageSize))
		s.StopAfter(s.Ops()+1, true)
		_, err := file.WriteAt([]byte("abc"), 0)
		require.ErrorIs(t, err, ErrStopped)
		writes[get(t, s.Kill(), "x")[:4]]++

		s = New(seed)
		file = newFile(t, s.FS(), "x", strings.Repeat(".", 2*pageSize))
		put(t, file, 0, "a")
		put(t, file, pageSize, "b")
		s.StopAfter(s.Ops()+1, true)
		require.ErrorIs(t, file.Sync(), ErrStopped)
		b := get(t, s.PowerCut(KeepNone, 0), "x")
		syncs[b[:1]+b[pageSize:pageSize+1]]++
	}
	require.ElementsMatch(t, []string{"....", "a...", "ab..", "abc."}, keys(writes))
	require.ElementsMatch(t, []string{"..", "a.", ".b", "ab"}, keys(syncs))
}

// churn does a mixed workload until it is stopped.
func churn(t testing.TB, f fs.FS, rounds int) {
	t.Helper()
	for i := range rounds {
		name := fmt.Sprintf("d%d/f%d", i%3, i%5)
		_ = f.MkdirAll(fmt.Sprintf("d%d", i%3))
		file, err := f.Open(name, fs.Create)
		if err != nil {
			return
		}
		for j := range 5 {
			_, _ = file.WriteAt([]byte(strings.Repeat(string(rune('a'+j)), 300+i*40)), int64(j*1000))
		}
		if i%3 == 0 {
			_ = file.SyncData()
		}
		if i%4 == 0 {
			_ = file.Truncate(int64(i * 100))
			_ = f.SyncDir(fmt.Sprintf("d%d", i%3))
		}
		_ = file.Close()
		_ = f.Rename(name, name+"r")
	}
}

func TestSameSeedSameImage(t *testing.T) {
	image := func() *Sim {
		s := New(7)
		s.StopAfter(60, true)
		churn(t, s.FS(), 30)
		s = s.PowerCut(Random(0.5), 11)
		s.StopAfter(40, true)
		churn(t, s.FS(), 30)
		return s.Kill().PowerCut(Random(0.7), 12)
	}
	a, b := image(), image()
	require.Equal(t, "seed=7 op=60:random(0.500):11 op=40:kill op=0:random(0.700):12", a.Name())
	require.Equal(t, a.Name(), b.Name())
	require.Equal(t, print(t, a.FS()), print(t, b.FS()))
	different := map[string]int{}
	s := New(7)
	churn(t, s.FS(), 30)
	for sub := range uint64(50) {
		different[print(t, s.PowerCut(Random(0.5), sub).FS())]++
	}
	require.Greater(t, len(different), 40)
}

// TestImageIsItsOwnDisk: after a cut the cache and the disk agree, so a second
// cut, whatever its mode, changes nothing.
func TestImageIsItsOwnDisk(t *testing.T) {
	for sub := range uint64(100) {
		s := New(sub)
		s.StopAfter(30+int(sub), true)
		churn(t, s.FS(), 40)
		c := s.PowerCut(Random(0.5), sub)
		want := print(t, c.FS())
		for _, mode := range Modes {
			require.Equal(t, want, print(t, c.PowerCut(mode, 1).FS()), c.Name())
		}
	}
}

func TestSyncFSMakesAllDurable(t *testing.T) {
	s := New(1)
	churn(t, s.FS(), 40)
	want := print(t, s.FS())
	require.NoError(t, s.FS().SyncFS())
	for _, mode := range Modes {
		require.Equal(t, want, print(t, s.PowerCut(mode, 1).FS()))
	}
}

func TestHooks(t *testing.T) {
	s := New(1)
	var log []string
	s.OnWrite(func(name string, off int64, p []byte) { log = append(log, fmt.Sprint("write ", name, off, string(p))) })
	s.OnSync(func(name string) { log = append(log, "sync "+name) })
	f := s.FS()
	file, err := f.Open("x", fs.Create)
	require.NoError(t, err)
	put(t, file, 3, "ab")
	require.NoError(t, f.MkdirAll("d"))
	require.NoError(t, f.Rename("x", "d/y"))
	require.NoError(t, file.SyncData())
	s.FailSync("", SyncDropped)
	put(t, file, 0, "c")
	require.Error(t, file.SyncData())
	require.NoError(t, f.Rename("d", "e"))
	require.NoError(t, f.SyncFS())
	require.Equal(t, []string{"write x3ab", "sync d/y", "write d/y0c", "sync e/y"}, log)
}

func TestRot(t *testing.T) {
	s := New(1)
	file := newFile(t, s.FS(), "x", strings.Repeat("o", 1500))
	put(t, file, 0, strings.Repeat("n", 1500))
	require.NoError(t, file.Sync())
	check := func(want string) {
		t.Helper()
		require.Equal(t, want, get(t, s, "x"))
		require.Equal(t, want, get(t, s.PowerCut(KeepNone, 0), "x"))
	}
	before := s.Kill()
	require.NoError(t, s.FlipBit("x", 3, 0))
	check("nnno" + strings.Repeat("n", 1496))
	require.NoError(t, s.FlipBit("x", 3, 0))
	require.NoError(t, s.ZeroSector("x", 600))
	check(strings.Repeat("n", 512) + strings.Repeat("\x00", 512) + strings.Repeat("n", 476))
	require.NoError(t, s.SwapSectors("x", 0, 1000))
	check(strings.Repeat("\x00", 512) + strings.Repeat("n", 988))
	require.NoError(t, s.StaleSector("x", 1499))
	check(strings.Repeat("\x00", 512) + strings.Repeat("n", 512) + strings.Repeat("o", 476))
	require.NoError(t, file.Truncate(2000))
	require.Equal(t, strings.Repeat("\x00", 500), get(t, s, "x")[1500:])
	require.Error(t, s.FlipBit("x", 5000, 0))
	require.ErrorIs(t, s.FlipBit("none", 0, 0), iofs.ErrNotExist)
	require.Equal(t, strings.Repeat("n", 1500), get(t, before, "x"))
}

func TestMapShowsFailedSync(t *testing.T) {
	s := New(1)
	file := newFile(t, s.FS(), "x", "....")
	m, err := file.Map(4)
	require.NoError(t, err)
	put(t, file, 0, "a")
	require.Equal(t, "a...", string(m.Bytes()))
	s.FailSync("x", SyncReverted)
	require.Error(t, file.SyncData())
	require.Equal(t, "....", string(m.Bytes()))
	require.NoError(t, m.Close())
	s.SetMap(false)
	_, err = file.Map(4)
	require.ErrorIs(t, err, fs.ErrUnsupported)
}

func TestNothingIsLeaked(t *testing.T) {
	s := New(1)
	f := s.FS()
	for i := range 2000 {
		name := fmt.Sprint(i)
		require.NoError(t, fs.WriteFile(f, name, []byte("x")))
		require.NoError(t, f.Remove(name))
		require.NoError(t, f.SyncDir("."))
	}
	live := 0
	for _, n := range s.inodes {
		if n != nil {
			live++
		}
	}
	require.Less(t, live, 300)
	require.Zero(t, s.OpenFiles())
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	s := New(1)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			churn(t, s.FS().Sub(fmt.Sprint(i)), 30)
			file, err := s.FS().Open(fmt.Sprint("f", i), fs.Create)
			if err == nil {
				_, _ = file.WriteAt([]byte("abc"), 0)
			}
			churn(t, s.PowerCut(Random(0.5), uint64(i)).FS(), 20)
			churn(t, s.Kill().FS(), 20)
		}()
	}
	wg.Wait()
	for i := range 4 {
		require.Equal(t, "abc", get(t, s, fmt.Sprint("f", i)))
	}
}

func TestSparse(t *testing.T) {
	s := New(1)
	file := newFile(t, s.FS(), "x", "")
	require.NoError(t, file.Truncate(64<<20))
	require.NoError(t, file.Sync())
	put(t, file, 32<<20, "abc")
	refs := 0
	for _, n := range s.PowerCut(KeepAll, 0).inodes {
		refs += len(n.cache.refs)
	}
	require.Equal(t, 1, refs)
	start, end, err := file.NextData(0)
	require.NoError(t, err)
	require.Equal(t, [2]int64{32 << 20, 32<<20 + pageSize}, [2]int64{start, end})
	_, _, err = file.NextData(end)
	require.Equal(t, io.EOF, err)
}
