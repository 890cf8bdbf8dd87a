package kv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/embermq/embermq/internal/fs"
)

var ctx = context.Background()

// TestMain looks for goroutines that stay after all tests. A poisoned DB leaves
// some behind on purpose, all of them inside Pebble or parked. Tests that poison
// nothing check for themselves, by noLeak, that nothing at all stays.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := strays(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func strays() error {
	var found []string
	for range 1000 { // what was just told to end may take a moment
		buf := make([]byte, 64<<20)
		buf = buf[:runtime.Stack(buf, true)]
		found = found[:0]
		for _, g := range strings.Split(string(buf), "\n\n")[1:] { // without this one
			inside := strings.Contains(g, "/pebble/v2") || strings.Contains(g, "/internal/kv.park(")
			if strings.Contains(g, "embermq") && !inside {
				found = append(found, g)
			}
		}
		if len(found) == 0 {
			return nil
		}
		runtime.Gosched()
	}
	return fmt.Errorf("goroutines stay after the tests:\n%s", strings.Join(found, "\n\n"))
}

// noLeak fails the test when it leaves a goroutine behind that was not there
// before, not even a parked one.
func noLeak(t *testing.T) {
	t.Helper()
	opt := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, opt) })
}

func osFS(t testing.TB) fs.FS {
	t.Helper()
	f, err := fs.MakeOS(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func mustOpen(t testing.TB, f fs.FS, o Options) *DB {
	t.Helper()
	d, err := Open(f, o)
	require.NoError(t, err)
	return d
}

func set(kvs ...string) *Batch {
	b := &Batch{}
	for i := 0; i < len(kvs); i += 2 {
		b.Set([]byte(kvs[i]), []byte(kvs[i+1]))
	}
	return b
}

// dump is everything in the DB as "key=value" words.
func dump(t testing.TB, d *DB) string {
	t.Helper()
	s, err := scanAll(d, nil, nil)
	require.NoError(t, err)
	return s
}

func scanAll(d *DB, from, to []byte) (string, error) {
	var w []string
	for e, err := range d.Scan(from, to) {
		if err != nil {
			return "", err
		}
		w = append(w, fmt.Sprintf("%s=%s", e.Key, e.Value))
	}
	return strings.Join(w, " "), nil
}

func TestApplyGetScan(t *testing.T) {
	noLeak(t)
	f := osFS(t)
	d := mustOpen(t, f, Options{})
	require.NoError(t, d.Apply(ctx, set("a", "1", "b", "2", "c", "3", "d", "", "e", "5"), true))
	b := set("b", "two")
	b.Delete([]byte("a"))
	b.DeleteRange([]byte("c"), []byte("d"))
	b.DeleteRange([]byte("e"), nil)
	require.Equal(t, 3, b.Len())
	require.NoError(t, d.Apply(ctx, b, false))

	check := func(d *DB) {
		t.Helper()
		require.Equal(t, "b=two d= e=5", dump(t, d))
		for _, c := range []struct{ from, to, want string }{
			{"b", "e", "b=two d="}, {"c", "z", "d= e=5"}, {"d", "d", ""}, {"z", "a", ""},
		} {
			s, err := scanAll(d, []byte(c.from), []byte(c.to))
			require.NoError(t, err)
			require.Equal(t, c.want, s, "%s..%s", c.from, c.to)
		}
		v, ok, err := d.Get([]byte("b"))
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, "two", string(v))
		v, ok, err = d.Get([]byte("d"))
		require.NoError(t, err)
		require.True(t, ok)
		require.NotNil(t, v)
		_, ok, err = d.Get([]byte("a"))
		require.NoError(t, err)
		require.False(t, ok)
	}
	check(d)
	require.NoError(t, d.Flush(ctx))
	require.NoError(t, d.Flush(ctx))
	check(d)
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())

	d = mustOpen(t, f, Options{MustExist: true})
	check(d)
	require.NoError(t, d.Close())
	ro := mustOpen(t, f, Options{ReadOnly: true})
	check(ro)
	require.ErrorIs(t, ro.Apply(ctx, set("x", "y"), true), ErrReadOnly)
	require.ErrorIs(t, ro.Flush(ctx), ErrReadOnly)
	require.NoError(t, ro.Close())
}

func TestBatchIsReusable(t *testing.T) {
	noLeak(t)
	d := mustOpen(t, osFS(t), Options{})
	b := set("a", "1")
	require.NoError(t, d.Apply(ctx, b, false))
	require.NoError(t, d.Apply(ctx, b, false))
	b.Reset()
	require.Zero(t, b.Len())
	require.NoError(t, d.Apply(ctx, b, false))
	require.NoError(t, d.Apply(ctx, b, true)) // a barrier
	b.Set([]byte("b"), []byte("2"))
	require.NoError(t, d.Apply(ctx, b, true))
	require.Equal(t, "a=1 b=2", dump(t, d))

	b.Reset()
	big := make([]byte, MaxBatch)
	b.Set([]byte("k"), big)
	require.ErrorIs(t, d.Apply(ctx, b, true), ErrTooLarge)
	b.Reset()
	b.Set([]byte("k"), big[:4<<20]) // larger than the memtable
	require.NoError(t, d.Apply(ctx, b, true))
	v, ok, err := d.Get([]byte("k"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Len(t, v, 4<<20)
	require.NoError(t, d.Close())
}

func TestLongScan(t *testing.T) {
	noLeak(t)
	d := mustOpen(t, osFS(t), Options{MemTable: 64 << 10})
	const n = 5000
	for i := 0; i < n; {
		var b Batch
		for range 100 {
			b.Set(fmt.Appendf(nil, "%06d", i), fmt.Appendf(nil, "value of %d", i))
			i++
		}
		require.NoError(t, d.Apply(ctx, &b, false))
	}
	i := 0
	for e, err := range d.Scan(nil, nil) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%06d", i), string(e.Key))
		require.Equal(t, fmt.Sprintf("value of %d", i), string(e.Value))
		if i == 10 { // a scan sees the state at its beginning
			var b Batch
			b.DeleteRange([]byte("0"), []byte("9"))
			require.NoError(t, d.Apply(ctx, &b, false))
		}
		i++
	}
	require.Equal(t, n, i)
	require.Empty(t, dump(t, d))
	require.NoError(t, d.Close())
}

func TestCloseEndsScansAndCalls(t *testing.T) {
	noLeak(t)
	d := mustOpen(t, osFS(t), Options{})
	require.NoError(t, d.Apply(ctx, set("a", "1", "b", "2"), true))
	var got []string
	var last error
	for e, err := range d.Scan(nil, nil) {
		if err != nil {
			last = err
			break
		}
		got = append(got, string(e.Key))
		require.NoError(t, d.Close())
	}
	require.Equal(t, []string{"a"}, got)
	require.ErrorIs(t, last, ErrClosed)

	_, _, err := d.Get([]byte("a"))
	require.ErrorIs(t, err, ErrClosed)
	_, err = scanAll(d, nil, nil)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, d.Apply(ctx, set("a", "1"), true), ErrClosed)
	require.ErrorIs(t, d.Apply(ctx, &Batch{}, false), ErrClosed)
	require.ErrorIs(t, d.Flush(ctx), ErrClosed)
	require.ErrorIs(t, d.Checkpoint(ctx, osFS(t)), ErrClosed)
}

func TestOpenErrors(t *testing.T) {
	noLeak(t)
	f := osFS(t)
	for _, o := range []Options{{MustExist: true}, {ReadOnly: true}} {
		_, err := Open(f.Sub("none"), o)
		require.Error(t, err)
	}
	_, err := Open(f, Options{MustExist: true})
	require.ErrorIs(t, err, ErrMissing)

	d := mustOpen(t, f, Options{})
	_, err = Open(f, Options{})
	require.ErrorIs(t, err, fs.ErrLockHeld)
	require.NoError(t, d.Apply(ctx, set("a", "1"), true))
	require.NoError(t, d.Close())

	// A damaged MANIFEST is named as corruption and leaves nothing open.
	es, err := f.List(".")
	require.NoError(t, err)
	for _, e := range es {
		if strings.HasPrefix(e.Name, "MANIFEST") {
			m, err := f.Open(e.Name, 0)
			require.NoError(t, err)
			_, err = m.WriteAt([]byte{0xff, 0xfe, 0xfd}, 8)
			require.NoError(t, err)
			require.NoError(t, m.Close())
		}
	}
	_, err = Open(f, Options{})
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = Open(f, Options{ReadOnly: true})
	require.ErrorIs(t, err, ErrCorrupt)
}

// TestCorruptTable damages a block of a table: the read that meets it says so,
// or background work met it before.
func TestCorruptTable(t *testing.T) {
	f := osFS(t)
	d := mustOpen(t, f, Options{})
	var b Batch
	for i := range 2000 {
		b.Set(fmt.Appendf(nil, "%05d", i), fmt.Appendf(nil, "value %d", i))
	}
	require.NoError(t, d.Apply(ctx, &b, true))
	require.NoError(t, d.Close())
	es, err := f.List(".")
	require.NoError(t, err)
	damaged := 0
	for _, e := range es {
		if strings.HasSuffix(e.Name, ".sst") {
			s, err := f.Open(e.Name, 0)
			require.NoError(t, err)
			_, err = s.WriteAt([]byte("rot"), 100)
			require.NoError(t, err)
			require.NoError(t, s.Close())
			damaged++
		}
	}
	require.Positive(t, damaged)
	d = mustOpen(t, f, Options{})
	_, err = scanAll(d, nil, nil)
	require.ErrorIs(t, err, ErrCorrupt)
	_, _, err = d.Get([]byte("00001"))
	require.ErrorIs(t, err, ErrCorrupt)
	_ = d.Close()
}

func TestReadOnlyReadsTheLogAndWritesNothing(t *testing.T) {
	noLeak(t)
	f := osFS(t)
	d := mustOpen(t, f, Options{})
	require.NoError(t, d.Apply(ctx, set("a", "1"), true))
	// A copy taken now has its data in the log alone, as after a kill.
	c := osFS(t)
	copyAll(t, f, c)
	require.NoError(t, d.Close())

	before := snapshot(t, c)
	ro := mustOpen(t, c, Options{ReadOnly: true})
	require.Equal(t, "a=1", dump(t, ro))
	require.NoError(t, ro.Close())
	require.Equal(t, before, snapshot(t, c))
}

func copyAll(t testing.TB, from, to fs.FS) {
	t.Helper()
	for name, bytes := range snapshot(t, from) {
		f, err := to.Open(name, fs.Create)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte(bytes), 0)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
}

// snapshot is every file of a flat folder with its bytes.
func snapshot(t testing.TB, f fs.FS) map[string]string {
	t.Helper()
	es, err := f.List(".")
	require.NoError(t, err)
	m := map[string]string{}
	for _, e := range es {
		b, err := fs.Read(f, e.Name)
		require.NoError(t, err)
		m[e.Name] = string(b)
	}
	return m
}

func TestCheckpoint(t *testing.T) {
	noLeak(t)
	d := mustOpen(t, osFS(t), Options{})
	require.NoError(t, d.Apply(ctx, set("a", "1"), true))
	require.NoError(t, d.Flush(ctx))
	require.NoError(t, d.Apply(ctx, set("b", "2"), false))
	to := osFS(t)
	for _, sub := range []string{"one", "two"} {
		require.NoError(t, d.Checkpoint(ctx, to.Sub(sub)))
	}
	require.Error(t, d.Checkpoint(ctx, to.Sub("two")), "the target must be empty")
	require.NoError(t, d.Apply(ctx, set("c", "3"), false))
	c := mustOpen(t, to.Sub("two"), Options{MustExist: true})
	require.Equal(t, "a=1 b=2", dump(t, c))
	require.NoError(t, c.Close())
	require.Equal(t, "a=1 b=2 c=3", dump(t, d))
	require.NoError(t, d.Close())
}

func TestContextEndsTheWait(t *testing.T) {
	noLeak(t)
	d := mustOpen(t, osFS(t), Options{})
	ended, cancel := context.WithCancelCause(ctx)
	why := errors.New("why")
	cancel(why)
	require.ErrorIs(t, d.Apply(ended, set("a", "1"), true), why)
	require.ErrorIs(t, d.Flush(ended), why)
	require.Empty(t, dump(t, d))
	require.NoError(t, d.Close())
}

func TestIdleGoroutines(t *testing.T) {
	noLeak(t)
	before := runtime.NumGoroutine()
	d := mustOpen(t, osFS(t), Options{})
	for i := range 20 {
		require.NoError(t, d.Apply(ctx, set(fmt.Sprint(i), "1"), true))
		require.NoError(t, d.Flush(ctx))
	}
	// Pebble's log writer, its deleter of files and its cache of open files.
	until(t, func() bool { return runtime.NumGoroutine()-before <= 3 })
	require.NoError(t, d.Close())
}
