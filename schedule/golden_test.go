package schedule

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	ids "github.com/embermq/embermq/internal/ident"
	"github.com/embermq/embermq/message"
)

// The bytes of every row, as docs/format/schedule.md describes them. They never
// change within version 1.
func TestGoldenRows(t *testing.T) {
	id, hashed := ids.Of("0102030405060708090A0B0C0D0E0F10")
	require.False(t, hashed)
	tm := &timer{key: key{due: 0x1957b5f8d00, pos: 1000}, id: id, topic: &topic{name: "orders"}, size: 0x1ff, flags: flagHashed}
	tp := topicRow{"orders", 3, 0x77}
	mk := markRow{message.Mark{Offset: 0x4e20, Fingerprint: 0xabcdef}, -1, tm.key}
	for name, c := range map[string]struct{ got, want string }{
		"timer key": {string(timerKey(nil, tm.key)[len(prefixTimer):]), "000001957b5f8d0000000000000003e8"},
		"timer":     {string(appendTimer(nil, tm)), "0102000001ff0102030405060708090a0b0c0d0e0f106f7264657273"},
		"id key":    {string(idKey(nil, id, tm.key)[len(prefixID):]), "0102030405060708090a0b0c0d0e0f10000001957b5f8d0000000000000003e8"},
		"topic":     {string(tp.append(nil)), "0100000000000000030000000000000077"},
		"mark":      {string(mk.append(nil)), "010000000000004e2000abcdefffffffffffffffff000001957b5f8d0000000000000003e8"},
	} {
		require.Equal(t, c.want, hex.EncodeToString([]byte(c.got)), name)
	}
	other, hashed := ids.Of("order-42")
	require.True(t, hashed)
	require.Equal(t, "3bf8", hex.EncodeToString(other[:2]))
	require.Equal(t, "0102030405060708090A0B0C0D0E0F10", id.Text())
	require.Equal(t, "0000000000004e2000000000000003e8000001957b5f8d00", message.Hex16(0x4e20)+endsProperty(tm.key).Value)
}
