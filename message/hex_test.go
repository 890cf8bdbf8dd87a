package message

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHex16(t *testing.T) {
	for _, v := range []int64{0, 1, 0xabcdef, math.MaxInt64} {
		s := Hex16(v)
		require.Len(t, s, 16)
		back, ok := ParseHex16(s)
		require.True(t, ok)
		require.Equal(t, v, back)
	}
	for _, bad := range []string{"", "1", "00000000000000AB", "000000000000000g", "8000000000000000", "+000000000000001", "00000000000000001"} {
		_, ok := ParseHex16(bad)
		require.False(t, ok, bad)
	}
}
