package archive

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/fs"
)

func folder(t testing.TB) (fs.FS, string) {
	dir := t.TempDir()
	f, err := fs.OS(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f, dir
}

// text is a log: the byte at each position is known.
func text(p []byte, at int64) error {
	for i := range p {
		p[i] = byte((at + int64(i)) * 7 >> 3)
	}
	return nil
}

func rowsOf(rows ...Row) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func open(t testing.TB, f fs.FS, create bool) *Archive {
	t.Helper()
	a, err := Open(f, create)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

// readBack compares log and rows with what was written.
func readBack(t testing.TB, f fs.FS, rows ...Row) {
	t.Helper()
	a := open(t, f, false)
	at := a.Manifest().Start
	require.NoError(t, a.ReadLog(t.Context(), func(p []byte, from int64) error {
		require.Equal(t, at, from)
		want := make([]byte, len(p))
		_ = text(want, at)
		require.Equal(t, want, p)
		at += int64(len(p))
		return nil
	}))
	require.Equal(t, a.Manifest().End, at)
	var got []Row
	require.NoError(t, a.ReadRows(t.Context(), func(r Row) error {
		got = append(got, Row{Key: append([]byte{}, r.Key...), Value: append([]byte{}, r.Value...)})
		return nil
	}))
	require.Equal(t, rows, got)
}

func TestArchive(t *testing.T) {
	f, dir := folder(t)
	a := open(t, f, true)
	_, err := Open(f, true)
	require.Error(t, err, "two backups into one folder at once")
	rows := []Row{{[]byte("k"), []byte("v")}, {[]byte("empty"), []byte{}}}
	m := Manifest{Start: 100, End: 3 << 20, Fingerprint: 7, Facts: []string{"format a b", "x"}}
	m.Rows, err = a.WriteRows(t.Context(), rowsOf(rows...))
	require.NoError(t, err)
	for _, c := range []Chunk{{0, 200}, {200, 2<<20 + 1}, {2<<20 + 1, 3 << 20}} {
		c, err := a.WriteLog(t.Context(), c.From, c.To, text)
		require.NoError(t, err)
		m.Chunks = append(m.Chunks, c)
	}
	_, err = Open(f, false)
	require.ErrorIs(t, err, ErrNone, "what is not committed is no backup")
	require.NoError(t, a.Commit(m))
	require.Equal(t, m, open(t, f, false).Manifest())
	readBack(t, f, rows...)

	// The next one drops what it does not name.
	m.Start, m.Chunks = 200, m.Chunks[1:]
	m.Rows, err = a.WriteRows(t.Context(), rowsOf(rows[0]))
	require.NoError(t, err)
	require.NoError(t, a.Commit(m))
	readBack(t, f, rows[0])
	left, err := filepath.Glob(filepath.Join(dir, "*.zst"))
	require.NoError(t, err)
	require.Len(t, left, 3)
}

func TestFailuresLeaveTheBackupBefore(t *testing.T) {
	f, _ := folder(t)
	a := open(t, f, true)
	m := Manifest{End: 10}
	c, err := a.WriteLog(t.Context(), 0, 10, text)
	require.NoError(t, err)
	m.Chunks = []Chunk{c}
	require.NoError(t, a.Commit(m))

	boom := errors.New("boom")
	_, err = a.WriteLog(t.Context(), 10, 20, func([]byte, int64) error { return boom })
	require.ErrorIs(t, err, boom)
	_, err = a.WriteRows(t.Context(), func(yield func(Row, error) bool) { yield(Row{}, boom) })
	require.ErrorIs(t, err, boom)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.WriteLog(ctx, 10, 20, text)
	require.ErrorIs(t, err, context.Canceled)
	readBack(t, f)
}

// TestDamage flips every byte of every file: what is read is right or a typed
// error.
func TestDamage(t *testing.T) {
	f, dir := folder(t)
	a := open(t, f, true)
	m := Manifest{End: 100}
	c, err := a.WriteLog(t.Context(), 0, 100, text)
	require.NoError(t, err)
	m.Chunks = []Chunk{c}
	m.Rows, err = a.WriteRows(t.Context(), rowsOf(Row{[]byte("key"), []byte("value")}))
	require.NoError(t, err)
	require.NoError(t, a.Commit(m))
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		for i := range b {
			old := b[i]
			b[i] ^= 1 << rnd.IntN(8)
			require.NoError(t, os.WriteFile(name, b, 0o600))
			judgeDamage(t, f)
			b[i] = old
		}
		for n := range b {
			require.NoError(t, os.WriteFile(name, b[:n], 0o600))
			judgeDamage(t, f)
		}
		require.NoError(t, os.WriteFile(name, b, 0o600))
	}
	readBack(t, f, Row{[]byte("key"), []byte("value")})
}

func judgeDamage(t testing.TB, f fs.FS) {
	t.Helper()
	a, err := Open(f, false)
	if err == nil {
		at := int64(0)
		err = a.ReadLog(t.Context(), func(p []byte, from int64) error {
			want := make([]byte, len(p))
			_ = text(want, from)
			require.Equal(t, want, p)
			at = from + int64(len(p))
			return nil
		})
		if err == nil {
			require.Equal(t, int64(100), at)
			n := 0
			err = a.ReadRows(t.Context(), func(r Row) error {
				require.Equal(t, "key=value", string(r.Key)+"="+string(r.Value))
				n++
				return nil
			})
			if err == nil {
				require.Equal(t, 1, n)
			}
		}
	}
	if err != nil {
		require.ErrorIs(t, err, ErrDamaged)
	}
}

func FuzzManifest(f *testing.F) {
	m := Manifest{Start: 5, End: 9, Fingerprint: 1, Rows: Rows{2, 5}, Chunks: []Chunk{{0, 9}}, Facts: []string{"format x"}}
	f.Add(m.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, reason := decodeManifest(b)
		if reason == "" {
			again, reason := decodeManifest(m.encode())
			require.Empty(t, reason)
			require.Equal(t, m, again)
		}
	})
}
