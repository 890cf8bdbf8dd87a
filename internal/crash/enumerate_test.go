package crash

import (
	"strings"
	"testing"

	"github.com/embermq/embermq/internal/fs"
	"github.com/stretchr/testify/require"
)

func TestEnumerate(t *testing.T) {
	s := New(1)
	file := newFile(t, s.FS(), "x", strings.Repeat(".", 2*pageSize))
	put(t, file, 0, "a")
	put(t, file, 1, "b")
	put(t, file, pageSize, "c")
	put(t, file, pageSize+1, "d")
	put(t, file, pageSize+2, "e")
	other, err := s.FS().Open("y", fs.Create)
	require.NoError(t, err)
	require.NoError(t, other.Sync())

	seen := map[string]int{}
	complete := false
	for c := range s.Enumerate(1000) {
		seen[print(t, c.FS())]++
		complete = c.Complete()
	}
	require.True(t, complete)
	require.Len(t, seen, 3*4*2, "page prefixes and one name")
	for _, n := range seen {
		require.Equal(t, 1, n)
	}
	n := 0
	for c := range s.Enumerate(10) {
		n++
		require.False(t, c.Complete())
	}
	require.Equal(t, 10, n)
	for range s.Enumerate(10) {
		break
	}
}

// TestEnumerateLengths: what the pages may choose from depends on the length.
func TestEnumerateLengths(t *testing.T) {
	s := New(1)
	file := newFile(t, s.FS(), "x", "ab")
	put(t, file, 2, "cd")
	require.NoError(t, file.Truncate(1))
	put(t, file, 1, "z")
	seen := map[string]int{}
	for c := range s.Enumerate(1000) {
		seen[get(t, c, "x")]++
	}
	require.ElementsMatch(t, []string{
		"ab",                 // no length
		"ab\x00\x00", "abcd", // first
		"a",           // second
		"a\x00", "az", // third
	}, keys(seen))
}
