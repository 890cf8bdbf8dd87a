package message

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func stamped(t *testing.T, position int64, ps ...Property) *Record {
	t.Helper()
	var d Draft
	require.NoError(t, d.Encode(&Message{Body: []byte("b")}, Queue{Topic: "t"}, &Envelope{Reserved: ps}))
	d.Stamp(position, 7, 1)
	r, err := ParseRecord(d.Bytes())
	require.NoError(t, err)
	return &r
}

func TestSettlement(t *testing.T) {
	for name, s := range map[string]Settlement{
		"plain":   {Group: "g", Epoch: 3, Queue: Queue{"t", 2}, Offset: 9},
		"largest": {Group: "%DLQ%g|h", Epoch: math.MaxUint64, Queue: Queue{"%RETRY%g", math.MaxInt32}, Offset: math.MaxInt64},
		"zero":    {Group: "g", Queue: Queue{Topic: "t"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := stamped(t, 4096, s.Property()).Settles()
			require.True(t, ok)
			require.Equal(t, s, got)
		})
	}
}

func TestSettlementRefused(t *testing.T) {
	good := Settlement{Group: "g", Epoch: 3, Queue: Queue{"t", 2}, Offset: 9}.Property()
	with := func(value string) Property { return Property{Name: PropSettles, Value: value, Own: true} }
	for name, p := range map[string]Property{
		"copied":     {Name: PropSettles, Value: "0000000000000001" + good.Value},
		"short":      with(good.Value[:39]),
		"no_topic":   with(good.Value[:40] + ":g"),
		"no_group":   with(good.Value[:40] + "t:"),
		"no_colon":   with(good.Value[:40] + "tg"),
		"upper_case": with("A" + good.Value[1:]),
		"sign":       with("+" + good.Value[1:]),
		"negative":   with(good.Value[:16] + "f" + good.Value[17:]),
		"queue":      with(good.Value[:32] + "8" + good.Value[33:]),
	} {
		t.Run(name, func(t *testing.T) {
			_, ok := stamped(t, 4096, p).Settles()
			require.False(t, ok)
		})
	}
	_, ok := stamped(t, 4096).Settles()
	require.False(t, ok)
}
