package commitlog

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

// TestSlotGolden keeps docs/format/synced.md and the code together.
func TestSlotGolden(t *testing.T) {
	s := slot{sequence: 7, mark: message.Mark{Offset: 0x0102030405, Fingerprint: 0x0A0B0C0D}, clean: true, maxUnsynced: 16 << 20, owner: 0xFEED, start: 0x4000000}
	b := make([]byte, slotBytes)
	s.encode(b)
	require.Equal(t, "454d4253594e4331"+"0000000000000007"+"0000000102030405"+"0a0b0c0d"+"00000001"+
		"0000000001000000"+"000000000000feed"+"0000000004000000"+"4e348a54", hex.EncodeToString(b))
	var got slot
	require.True(t, got.decode(b))
	require.Equal(t, s, got)
	for i := range b {
		b[i] ^= 1
		require.False(t, got.decode(b), "byte %d", i)
		b[i] ^= 1
	}
	require.False(t, got.decode(b[:slotBytes-1]))
}

func TestSegmentNames(t *testing.T) {
	for _, base := range []int64{0, 67108864, 1<<63 - 1} {
		name := segmentName(base)
		require.Len(t, name, nameDigits)
		got, err := parseName(name)
		require.NoError(t, err)
		require.Equal(t, base, got)
	}
	for _, name := range []string{"", "1", "0000000000000000000x", "99999999999999999999", "000000000000000000000"} {
		_, err := parseName(name)
		require.Error(t, err, name)
	}
}
