package consumequeue

import (
	"encoding/hex"
	"testing"

	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

func TestEntryCodec(t *testing.T) {
	for _, c := range []struct {
		name  string
		e     Entry
		bytes string
		valid bool
	}{
		{"zero", Entry{}, "0000000000000000" + "00000000" + "0000000000000000", false},
		{"tag A", Entry{Position: 0x0102030405060708, Size: 200, TagHash: message.TagHash("TagA")}, "0102030405060708" + "000000c8" + "000000000027a807", true},
		{"negative tag hash", Entry{Position: 1, Size: 1, TagHash: -2}, "0000000000000001" + "00000001" + "fffffffffffffffe", true},
		{"pre-blank", Blank, "0000000000000000" + "7fffffff" + "0000000000000000", true},
		{"negative size", Entry{Size: -1}, "0000000000000000" + "ffffffff" + "0000000000000000", false},
		{"negative position", Entry{Position: -1, Size: 1}, "ffffffffffffffff" + "00000001" + "0000000000000000", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b [EntrySize]byte
			c.e.Encode(b[:])
			require.Equal(t, c.bytes, hex.EncodeToString(b[:]))
			require.Equal(t, c.e, Decode(b[:]))
			require.Equal(t, c.valid, c.e.valid())
			require.Equal(t, c.name == "pre-blank", c.e.Blank())
		})
	}
}

func TestUnpackDecodesInPlace(t *testing.T) {
	for n := range 70 {
		dst := make([]Entry, n)
		b := raw(dst)
		require.Len(t, b, n*EntrySize)
		for i := range n {
			nth(int64(i + 1)).Encode(b[i*EntrySize:])
		}
		unpack(dst)
		for i := range n {
			require.Equal(t, nth(int64(i+1)), dst[i])
		}
	}
}

func TestFileNames(t *testing.T) {
	require.Equal(t, "00000000000000065520", fileName(65520))
	for _, c := range []struct {
		name string
		base int64
		ok   bool
	}{
		{"00000000000000000000", 0, true},
		{"00000000000000065520", 65520, true},
		{"09223372036854775807", 1<<63 - 1, true},
		{"99999999999999999999", 0, false},
		{"0000000000000000000", 0, false},
		{"0000000000000000000x", 0, false},
		{"-0000000000000000001", 0, false},
		{".DS_Store", 0, false},
	} {
		base, ok := parseFileName(c.name)
		require.Equal(t, c.ok, ok, c.name)
		if ok {
			require.Equal(t, c.base, base)
		}
	}
}

func TestFillBlank(t *testing.T) {
	for n := range 9 {
		b := make([]byte, n*EntrySize)
		fillBlank(b)
		require.Equal(t, blanks(n), string(b))
	}
}
