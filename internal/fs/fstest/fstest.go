// Package fstest is the suite that every fs.FS passes: the operating system's,
// the simulated disk and the fault injector around either. What the suite says
// is what the store may rely on, so a difference between the simulation and the
// real thing shows here.
package fstest

import (
	"bytes"
	"errors"
	"io"
	iofs "io/fs"
	"math/rand/v2"
	"testing"

	"github.com/embermq/embermq/internal/fs"
	"github.com/stretchr/testify/require"
)

// Test runs the suite; open returns an empty FS for each part.
func Test(t *testing.T, open func(t testing.TB) fs.FS) {
	for _, part := range []struct {
		name string
		run  func(t *testing.T, f fs.FS)
	}{
		{"open_flags", openFlags},
		{"bad_names", badNames},
		{"read_write", readWrite},
		{"truncate", truncate},
		{"next_data", nextData},
		{"preallocate", preallocate},
		{"folders", folders},
		{"rename", rename},
		{"link", link},
		{"remove_open_file", removeOpenFile},
		{"sub", sub},
		{"sync", syncAll},
		{"lock", lock},
		{"map", mapping},
		{"closed_file", closedFile},
		{"usage", usage},
		{"write_file", writeFile},
		{"remove_all", removeAll},
		{"model", model},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, open(t)) })
	}
}

func create(t testing.TB, f fs.FS, name, content string) fs.File {
	t.Helper()
	file, err := f.Open(name, fs.Create)
	require.NoError(t, err)
	t.Cleanup(func() { _ = file.Close() })
	if content != "" {
		n, err := file.WriteAt([]byte(content), 0)
		require.NoError(t, err)
		require.Equal(t, len(content), n)
	}
	return file
}

func content(t testing.TB, f fs.FS, name string) string {
	t.Helper()
	b, err := fs.Read(f, name)
	require.NoError(t, err)
	return string(b)
}

func openFlags(t *testing.T, f fs.FS) {
	_, err := f.Open("x", 0)
	require.ErrorIs(t, err, iofs.ErrNotExist)
	_, err = f.Open("x", fs.ReadOnly)
	require.ErrorIs(t, err, iofs.ErrNotExist)
	_, err = f.Open("no/x", fs.Create)
	require.ErrorIs(t, err, iofs.ErrNotExist)

	file, err := f.Open("x", fs.Create|fs.Exclusive)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte("abc"), 0)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	_, err = f.Open("x", fs.Create|fs.Exclusive)
	require.ErrorIs(t, err, iofs.ErrExist)
	_, err = f.Open("x/y", fs.Create)
	require.Error(t, err)

	file, err = f.Open("x", fs.ReadOnly)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte("z"), 0)
	require.Error(t, err)
	require.Error(t, file.Truncate(0))
	require.NoError(t, file.Close())
	require.Equal(t, "abc", content(t, f, "x"))

	require.NoError(t, f.MkdirAll("dir"))
	for _, flag := range []fs.Flag{0, fs.ReadOnly, fs.Create} {
		_, err = f.Open("dir", flag)
		require.Error(t, err)
		require.NotErrorIs(t, err, iofs.ErrNotExist)
	}
}

func badNames(t *testing.T, f fs.FS) {
	require.NoError(t, f.MkdirAll("d"))
	for _, name := range []string{"", "/", "/etc/passwd", "..", "../x", "d/../x", "d/..", "d//x", "d/", "./x"} {
		_, err := f.Open(name, fs.Create)
		require.ErrorIs(t, err, fs.ErrName, name)
		_, err = f.Stat(name)
		require.ErrorIs(t, err, fs.ErrName, name)
		_, err = f.List(name)
		require.ErrorIs(t, err, fs.ErrName, name)
		_, err = f.Lock(name)
		require.ErrorIs(t, err, fs.ErrName, name)
		require.ErrorIs(t, f.MkdirAll(name), fs.ErrName, name)
		require.ErrorIs(t, f.Remove(name), fs.ErrName, name)
		require.ErrorIs(t, f.Rename(name, "y"), fs.ErrName, name)
		require.ErrorIs(t, f.Rename("d", name), fs.ErrName, name)
		require.ErrorIs(t, f.Link(name, "y"), fs.ErrName, name)
		require.ErrorIs(t, f.SyncDir(name), fs.ErrName, name)
	}
	for _, dir := range []string{"..", "/", "d/.."} {
		_, err := f.Sub(dir).Open("x", fs.Create)
		require.ErrorIs(t, err, fs.ErrName, dir)
	}
	_, err := f.Sub("d").Open("../x", fs.Create)
	require.ErrorIs(t, err, fs.ErrName)
}

func readWrite(t *testing.T, f fs.FS) {
	file := create(t, f, "x", "")
	buf := make([]byte, 8)
	n, err := file.ReadAt(buf, 0)
	require.Equal(t, io.EOF, err)
	require.Zero(t, n)
	n, err = file.WriteAt(nil, 5)
	require.NoError(t, err)
	require.Zero(t, n)
	requireSize(t, file, 0)

	_, err = file.WriteAt([]byte("tail"), 10_000) // leaves a hole
	require.NoError(t, err)
	requireSize(t, file, 10_004)
	n, err = file.ReadAt(buf, 9_996)
	require.NoError(t, err)
	require.Equal(t, 8, n)
	require.Equal(t, "\x00\x00\x00\x00tail", string(buf))
	n, err = file.ReadAt(buf, 10_000)
	require.Equal(t, io.EOF, err)
	require.Equal(t, 4, n)
	n, err = file.ReadAt(buf, 20_000)
	require.Equal(t, io.EOF, err)
	require.Zero(t, n)
	_, err = file.ReadAt(buf, -1)
	require.Error(t, err)
	_, err = file.WriteAt(buf, -1)
	require.Error(t, err)

	// Two files of one name see each other's bytes.
	other, err := f.Open("x", fs.ReadOnly)
	require.NoError(t, err)
	defer other.Close()
	_, err = file.WriteAt([]byte("again"), 4_094) // across a page's end
	require.NoError(t, err)
	n, err = other.ReadAt(buf[:5], 4_094)
	require.NoError(t, err)
	require.Equal(t, "again", string(buf[:n]))
}

func requireSize(t testing.TB, file fs.File, want int64) {
	t.Helper()
	got, err := file.Size()
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func truncate(t *testing.T, f fs.FS) {
	file := create(t, f, "x", "abcdef")
	require.Error(t, file.Truncate(-1))
	require.NoError(t, file.Truncate(3))
	require.Equal(t, "abc", content(t, f, "x"))
	require.NoError(t, file.Truncate(6))
	require.Equal(t, "abc\x00\x00\x00", content(t, f, "x"))

	require.NoError(t, file.Truncate(64<<20))
	requireSize(t, file, 64<<20)
	_, err := file.WriteAt([]byte("end"), 64<<20-3)
	require.NoError(t, err)
	require.NoError(t, file.Truncate(5_000))
	require.NoError(t, file.Truncate(64<<20))
	buf := make([]byte, 3)
	_, err = file.ReadAt(buf, 64<<20-3)
	require.NoError(t, err)
	require.Equal(t, "\x00\x00\x00", string(buf))
}

// ranges collects NextData over the whole file.
func ranges(t testing.TB, file fs.File) (list [][2]int64) {
	t.Helper()
	size, err := file.Size()
	require.NoError(t, err)
	for off := int64(0); ; {
		start, end, err := file.NextData(off)
		if err == io.EOF {
			return list
		}
		require.NoError(t, err)
		require.GreaterOrEqual(t, start, off)
		require.Greater(t, end, start)
		require.LessOrEqual(t, end, size)
		list = append(list, [2]int64{start, end})
		off = end
	}
}

func nextData(t *testing.T, f fs.FS) {
	file := create(t, f, "x", "")
	_, _, err := file.NextData(0)
	require.Equal(t, io.EOF, err)
	_, _, err = file.NextData(-1)
	require.Error(t, err)
	require.NotEqual(t, io.EOF, err)
	require.NoError(t, file.Truncate(8<<20))
	holes := len(ranges(t, file)) == 0 // else it knows none and gives [off, size)
	_, err = file.WriteAt([]byte("a"), 1<<20+5)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte("b"), 5<<20)
	require.NoError(t, err)
	list := ranges(t, file)
	for _, off := range []int64{1<<20 + 5, 5 << 20} {
		found := false
		for _, r := range list {
			found = found || r[0] <= off && off < r[1]
		}
		require.True(t, found, "%d is in none of %v", off, list)
	}
	start, end, err := file.NextData(1<<20 + 5)
	require.NoError(t, err)
	require.Equal(t, int64(1<<20+5), start, "starts at off inside data")
	require.Greater(t, end, start)
	_, _, err = file.NextData(8 << 20)
	require.Equal(t, io.EOF, err)
	_, _, err = file.NextData(9 << 20)
	require.Equal(t, io.EOF, err)
	if holes {
		require.Len(t, list, 2)
		var sum int64
		for _, r := range list {
			sum += r[1] - r[0]
		}
		require.LessOrEqual(t, sum, int64(256<<10))
		_, _, err = file.NextData(6 << 20)
		require.Equal(t, io.EOF, err)
	}
}

func preallocate(t *testing.T, f fs.FS) {
	file := create(t, f, "x", "abc")
	require.NoError(t, file.Truncate(1<<20))
	err := file.Preallocate(0, 1<<20)
	if errors.Is(err, fs.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	requireSize(t, file, 1<<20)
	b, err := fs.Read(f, "x")
	require.NoError(t, err)
	require.Equal(t, "abc", string(b[:3]))
	require.Equal(t, make([]byte, 1<<20-3), b[3:])
	require.Error(t, file.Preallocate(1<<20-1, 2), "behind the end")
	require.Error(t, file.Preallocate(-1, 1))
	requireSize(t, file, 1<<20)
}

func folders(t *testing.T, f fs.FS) {
	list, err := f.List(".")
	require.NoError(t, err)
	require.Empty(t, list)
	require.NoError(t, f.MkdirAll("a/b/c"))
	require.NoError(t, f.MkdirAll("a/b/c"))
	require.NoError(t, f.MkdirAll("."))
	create(t, f, "a/z", "12345")
	create(t, f, "a/B", "")
	list, err = f.List("a")
	require.NoError(t, err)
	require.Equal(t, []fs.Entry{{Name: "B"}, {Name: "b", Dir: true}, {Name: "z", Size: 5}}, list)
	_, err = f.List("a/none")
	require.ErrorIs(t, err, iofs.ErrNotExist)
	_, err = f.List("a/z")
	require.Error(t, err)
	require.Error(t, f.MkdirAll("a/z"))
	require.Error(t, f.MkdirAll("a/z/y"))

	e, err := f.Stat("a/z")
	require.NoError(t, err)
	require.Equal(t, fs.Entry{Name: "z", Size: 5}, e)
	e, err = f.Stat("a/b")
	require.NoError(t, err)
	require.Equal(t, fs.Entry{Name: "b", Dir: true}, e)
	_, err = f.Stat("none")
	require.ErrorIs(t, err, iofs.ErrNotExist)

	require.ErrorIs(t, f.Remove("none"), iofs.ErrNotExist)
	require.Error(t, f.Remove("a/b"), "not empty")
	require.NoError(t, f.Remove("a/b/c"))
	require.NoError(t, f.Remove("a/b"))
	_, err = f.Stat("a/b")
	require.ErrorIs(t, err, iofs.ErrNotExist)
}

func rename(t *testing.T, f fs.FS) {
	require.NoError(t, f.MkdirAll("d"))
	require.ErrorIs(t, f.Rename("x", "y"), iofs.ErrNotExist)
	file := create(t, f, "x", "new")
	create(t, f, "d/y", "old")
	require.ErrorIs(t, f.Rename("x", "none/y"), iofs.ErrNotExist)
	require.NoError(t, f.Rename("x", "x"))
	require.NoError(t, f.Rename("x", "d/y"))
	_, err := f.Stat("x")
	require.ErrorIs(t, err, iofs.ErrNotExist)
	require.Equal(t, "new", content(t, f, "d/y"))
	_, err = file.WriteAt([]byte("N"), 0) // the open file follows
	require.NoError(t, err)
	require.Equal(t, "New", content(t, f, "d/y"))
	require.Error(t, f.Rename("d/y", "d"), "over a folder")
	require.Error(t, f.Rename("d", "d/e"), "into itself")

	require.NoError(t, f.Rename("d", "e"))
	require.Equal(t, "New", content(t, f, "e/y"))
	_, err = f.Stat("d")
	require.ErrorIs(t, err, iofs.ErrNotExist)
}

func link(t *testing.T, f fs.FS) {
	require.ErrorIs(t, f.Link("x", "y"), iofs.ErrNotExist)
	file := create(t, f, "x", "abc")
	if err := f.Link("x", "y"); err != nil {
		t.Skip(err)
	}
	require.ErrorIs(t, f.Link("x", "y"), iofs.ErrExist)
	require.ErrorIs(t, f.Link("x", "none/y"), iofs.ErrNotExist)
	require.NoError(t, f.MkdirAll("d"))
	require.Error(t, f.Link("d", "e"))
	require.NoError(t, f.Rename("x", "y"), "two names of one file")
	require.Equal(t, "abc", content(t, f, "x"))
	require.NoError(t, f.Remove("x"))
	_, err := file.WriteAt([]byte("A"), 0)
	require.NoError(t, err)
	require.Equal(t, "Abc", content(t, f, "y"))
}

func removeOpenFile(t *testing.T, f fs.FS) {
	file := create(t, f, "x", "abc")
	over := create(t, f, "y", "over")
	require.NoError(t, f.Remove("x"))
	create(t, f, "x", "other")
	require.NoError(t, f.Rename("x", "y"))
	for file, want := range map[fs.File]string{file: "Zbc", over: "Zver"} {
		_, err := file.WriteAt([]byte("Z"), 0)
		require.NoError(t, err)
		buf := make([]byte, len(want))
		_, err = file.ReadAt(buf, 0)
		require.NoError(t, err)
		require.Equal(t, want, string(buf))
		require.NoError(t, file.Sync())
	}
	require.Equal(t, "other", content(t, f, "y"))
}

func sub(t *testing.T, f fs.FS) {
	s := f.Sub("a").Sub("b")
	_, err := s.Open("x", fs.Create)
	require.ErrorIs(t, err, iofs.ErrNotExist)
	_, err = s.List(".")
	require.ErrorIs(t, err, iofs.ErrNotExist)
	require.NoError(t, s.MkdirAll("."))
	require.NoError(t, s.SyncDir("."))
	create(t, s, "x", "abc")
	require.Equal(t, "abc", content(t, f, "a/b/x"))
	require.Equal(t, "abc", content(t, f.Sub(".").Sub("a"), "b/x"))
	require.Equal(t, f.Path("a/b/x"), s.Path("x"))
	require.NoError(t, s.Close())
	require.Equal(t, "abc", content(t, s, "x"), "closing a subtree closes nothing")
}

func syncAll(t *testing.T, f fs.FS) {
	require.NoError(t, f.MkdirAll("d"))
	file := create(t, f, "d/x", "abc")
	require.NoError(t, file.SyncData())
	require.NoError(t, file.Sync())
	require.NoError(t, f.SyncDir("d"))
	require.NoError(t, f.SyncDir("."))
	require.ErrorIs(t, f.SyncDir("none"), iofs.ErrNotExist)
	require.Error(t, f.SyncDir("d/x"))
	if err := f.SyncFS(); !errors.Is(err, fs.ErrUnsupported) {
		require.NoError(t, err)
		require.NoError(t, f.Sub("d").SyncFS())
		require.NoError(t, f.Sub("none").SyncFS())
	}
}

func lock(t *testing.T, f fs.FS) {
	l, err := f.Lock("lock")
	require.NoError(t, err)
	held, err := f.Locked("lock")
	require.NoError(t, err)
	require.True(t, held)
	_, err = f.Lock("lock")
	require.ErrorIs(t, err, fs.ErrLockHeld)
	_, err = f.Sub(".").Lock("lock")
	require.ErrorIs(t, err, fs.ErrLockHeld)
	other, err := f.Lock("other")
	require.NoError(t, err)
	require.NoError(t, other.Close())
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	held, err = f.Locked("lock")
	require.NoError(t, err)
	require.False(t, held)
	l, err = f.Lock("lock")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = f.Lock("none/lock")
	require.ErrorIs(t, err, iofs.ErrNotExist)
	_, err = f.Locked("none")
	require.ErrorIs(t, err, iofs.ErrNotExist)

	// Who looks is in nobody's way.
	looked := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				looked <- nil
				return
			default:
			}
			if _, err := f.Locked("lock"); err != nil {
				looked <- err
				return
			}
		}
	}()
	for range 2000 {
		l, err := f.Lock("lock")
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
	close(stop)
	require.NoError(t, <-looked)
}

func mapping(t *testing.T, f fs.FS) {
	file := create(t, f, "x", "abc")
	require.NoError(t, file.Truncate(10_000))
	_, err := file.Map(10_001)
	require.Error(t, err)
	m, err := file.Map(10_000)
	if errors.Is(err, fs.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.Len(t, m.Bytes(), 10_000)
	if err := m.Populate(5_000, 5_000); !errors.Is(err, fs.ErrUnsupported) {
		require.NoError(t, err)
		require.NoError(t, m.Populate(0, 0))
		require.Error(t, m.Populate(5_000, 5_001))
	}
	_, err = file.WriteAt([]byte("xyz"), 8_191)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.Equal(t, "abc", string(m.Bytes()[:3]))
	require.Equal(t, "xyz", string(m.Bytes()[8_191:8_194]), "shows later writes")
	require.NoError(t, m.Close())
}

func closedFile(t *testing.T, f fs.FS) {
	file := create(t, f, "x", "abc")
	require.NoError(t, file.Close())
	_, err := file.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, iofs.ErrClosed)
	_, err = file.WriteAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, iofs.ErrClosed)
	require.ErrorIs(t, file.Truncate(0), iofs.ErrClosed)
	require.ErrorIs(t, file.Sync(), iofs.ErrClosed)
	require.ErrorIs(t, file.SyncData(), iofs.ErrClosed)
	require.ErrorIs(t, file.Close(), iofs.ErrClosed)
}

func usage(t *testing.T, f fs.FS) {
	u, err := f.Usage()
	require.NoError(t, err)
	require.Positive(t, u.Total)
	require.GreaterOrEqual(t, u.Total, u.Free)
	_, err = f.Sub("none").Usage()
	require.NoError(t, err)
}

func writeFile(t *testing.T, f fs.FS) {
	require.NoError(t, f.MkdirAll("d"))
	create(t, f, "d/x.tmp", "a leftover that is longer")
	for _, want := range []string{"one", "", "three"} {
		require.NoError(t, fs.WriteFile(f, "d/x", []byte(want)))
		require.Equal(t, want, content(t, f, "d/x"))
	}
	list, err := f.List("d")
	require.NoError(t, err)
	require.Len(t, list, 1)
	_, err = fs.Read(f, "d/none")
	require.ErrorIs(t, err, iofs.ErrNotExist)
	require.ErrorIs(t, fs.WriteFile(f, "none/x", nil), iofs.ErrNotExist)
}

func removeAll(t *testing.T, f fs.FS) {
	require.NoError(t, fs.RemoveAll(f, "none"))
	require.NoError(t, f.MkdirAll("a/b/c"))
	require.NoError(t, fs.WriteFile(f, "a/b/x", []byte("x")))
	require.NoError(t, fs.WriteFile(f, "keep", []byte("x")))
	require.NoError(t, fs.RemoveAll(f, "a"))
	list, err := f.List(".")
	require.NoError(t, err)
	require.Equal(t, []fs.Entry{{Name: "keep", Size: 1}}, list)
}

// model does random writes and truncations and compares with a byte slice.
func model(t *testing.T, f fs.FS) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	file := create(t, f, "x", "")
	var want []byte
	for range 400 {
		switch r.IntN(10) {
		case 0:
			size := r.IntN(40_000)
			require.NoError(t, file.Truncate(int64(size)), "seed %d", seed)
			if size <= len(want) {
				want = want[:size]
			} else {
				want = append(want, make([]byte, size-len(want))...)
			}
		case 1:
			require.NoError(t, file.SyncData(), "seed %d", seed)
		default:
			p := bytes.Repeat([]byte{byte(1 + r.IntN(255))}, 1+r.IntN(9_000))
			off := r.IntN(40_000)
			if r.IntN(3) == 0 {
				off = len(want)
			}
			_, err := file.WriteAt(p, int64(off))
			require.NoError(t, err, "seed %d", seed)
			if end := off + len(p); end > len(want) {
				want = append(want, make([]byte, end-len(want))...)
			}
			copy(want[off:], p)
		}
		requireSize(t, file, int64(len(want)))
		got := make([]byte, len(want))
		_, err := file.ReadAt(got, 0)
		require.NoError(t, err, "seed %d", seed)
		require.True(t, bytes.Equal(want, got), "seed %d", seed)
		at := 0
		for _, d := range ranges(t, file) {
			require.Zero(t, len(bytes.Trim(want[at:d[0]], "\x00")), "a hole holds bytes, seed %d", seed)
			at = int(d[1])
		}
		require.Zero(t, len(bytes.Trim(want[at:], "\x00")), "a hole holds bytes, seed %d", seed)
	}
}
