package crash

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/fs"
)

// fill writes a file of one byte, many times over.
func fill(t *testing.T, s *Sim, name string, b byte, n int) {
	t.Helper()
	p := make([]byte, n)
	for i := range p {
		p[i] = b
	}
	require.NoError(t, fs.WriteFile(s.FS(), name, p))
}

// TestForkAfter dies in each operation of a machine that goes on.
func TestForkAfter(t *testing.T) {
	s := New(1)
	f, err := s.FS().Open("a", fs.Create)
	require.NoError(t, err)
	lengths := map[int64]bool{}
	forks := 0
	s.ForkAfter(1, func(died *Sim) int {
		forks++
		e, err := died.FS().Stat("a")
		require.NoError(t, err)
		lengths[e.Size] = true
		require.NoError(t, died.FS().Remove("a")) // no affair of s
		return 1
	})
	for i := range 64 {
		_, err := f.WriteAt(make([]byte, 100), int64(i)*100)
		require.NoError(t, err)
		require.NoError(t, f.SyncData())
	}
	require.NoError(t, f.Truncate(10))
	require.Equal(t, 64+64+1, forks)
	whole, half := 0, 0
	for n := range lengths {
		if n%100 == 0 {
			whole++
		} else {
			half++
		}
	}
	require.Greater(t, whole, 32)
	require.Greater(t, half, 16)
	e, err := s.FS().Stat("a")
	require.NoError(t, err)
	require.EqualValues(t, 10, e.Size)
}

// TestPrint tells machines apart by what a process can read.
func TestPrint(t *testing.T) {
	s := New(1)
	fill(t, s, "a", 'x', 5000)
	first := s.Print()
	require.Equal(t, first, s.Kill().Print())
	require.Equal(t, first, s.PowerCut(KeepAll, 1).Print())
	require.Equal(t, first, s.PowerCut(KeepNone, 1).Print(), "it was synced")
	f, err := s.FS().Open("a", 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("y"), 4999)
	require.NoError(t, err)
	require.NotEqual(t, first, s.Print())
	require.Equal(t, first, s.PowerCut(KeepNone, 1).Print())
	require.NoError(t, f.Truncate(5001))
	longer := s.Print()
	require.NoError(t, s.FS().Rename("a", "b"))
	require.NotEqual(t, longer, s.Print())
}

// TestFree lets images take turns with the same pages, and nothing of one shows
// in another or in the machine that they came from.
func TestFree(t *testing.T) {
	s := New(1)
	s.Reuse()
	fill(t, s, "a", 'x', 9000)
	print := s.Print()
	for i := range 100 {
		image := s.PowerCut(Random(0.5), uint64(i))
		fill(t, image, "a", byte(i), 6000)
		fill(t, image, "b", byte(i), 300)
		got, err := fs.Read(image.FS(), "b")
		require.NoError(t, err)
		require.Equal(t, make([]byte, 300), subtract(got, byte(i)))
		other := image.Kill()
		fill(t, other, "b", 'o', 300)
		got, err = fs.Read(image.FS(), "b")
		require.NoError(t, err)
		require.Equal(t, make([]byte, 300), subtract(got, byte(i)))
		other.Free()
		image.Free()
	}
	require.Equal(t, print, s.Print())
}

func subtract(p []byte, b byte) []byte {
	for i := range p {
		p[i] -= b
	}
	return p
}
