package fs

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "a/b", true}, {"*", "a/b", true},
		{"a/", "a/b/c", true}, {"a/", "b/a", false},
		{"b", "a/b", true}, {"b", "b/a", false}, {"*.tmp", "a/x.tmp", true},
		{"a/*", "a/b", true}, {"a/*", "a/b/c", false}, {"[", "[", false},
	} {
		require.Equal(t, c.want, Match(c.pattern, c.name), "%q %q", c.pattern, c.name)
	}
}

func TestFaulty(t *testing.T) {
	f := NewFaulty(open(t, t.TempDir()))
	require.NoError(t, f.MkdirAll("d"))
	d := f.Sub("d")
	file, err := d.Open("x.tmp", Create)
	require.NoError(t, err)
	require.NoError(t, d.Rename("x.tmp", "x"))

	boom := errors.New("boom")
	f.Fail(Fault{Ops: OpWrite, Name: "d/x", After: 1, Times: 2, Err: boom, Short: 2})
	_, err = file.WriteAt([]byte("...."), 0)
	require.NoError(t, err)
	for range 2 {
		n, err := file.WriteAt([]byte("abcd"), 0)
		require.ErrorIs(t, err, boom)
		require.Zero(t, n)
	}
	b := make([]byte, 4)
	_, err = file.ReadAt(b, 0)
	require.NoError(t, err)
	require.Equal(t, "ab..", string(b))
	_, err = file.WriteAt([]byte("efgh"), 0)
	require.NoError(t, err)
	require.Equal(t, 2, f.Fired())

	f.Fail(Fault{Ops: OpSync | OpSyncData, Times: -1})
	for range 3 {
		require.ErrorIs(t, file.Sync(), ErrInjected)
		require.ErrorIs(t, file.SyncData(), ErrInjected)
	}
	require.NoError(t, f.SyncDir("d"))
	f.Heal()
	require.NoError(t, file.Sync())

	f.Fail(Fault{Ops: OpSyncFS | OpMap | OpPreallocate, Times: -1, Err: ErrUnsupported})
	_, err = file.Map(4)
	require.Equal(t, ErrUnsupported, err, "callers may compare")
	require.Equal(t, ErrUnsupported, file.Preallocate(0, 1))
	require.Equal(t, ErrUnsupported, d.SyncFS())

	f.Before(func(op Op, name string) error {
		if op == OpRemove && name == "d/x" {
			return boom
		}
		return nil
	})
	require.ErrorIs(t, d.Remove("x"), boom)
	f.Before(nil)

	f.Fail(Fault{Ops: OpClose})
	require.ErrorIs(t, file.Close(), ErrInjected)
	c := f.Counts()
	require.Zero(t, c.OpenFiles)
	require.Equal(t, int64(4), c.BytesRead)
	require.Equal(t, int64(4+2+2+4), c.BytesWritten)
	require.Equal(t, 4, c.Ops[OpWrite])
}

// TestErrorLoop fails each operation of WriteFile in turn: none may be ignored,
// and nothing may stay open.
func TestErrorLoop(t *testing.T) {
	for n := 0; ; n++ {
		f := NewFaulty(open(t, t.TempDir()))
		f.Fail(Fault{After: n})
		err := WriteFile(f, "x", []byte("abc"))
		require.Zero(t, f.Counts().OpenFiles)
		if f.Fired() == 0 {
			require.NoError(t, err)
			require.Equal(t, 7, n)
			return
		}
		require.ErrorIs(t, err, ErrInjected, "operation %d", n)
	}
}
