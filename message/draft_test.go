package message

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEncodeRefuses(t *testing.T) {
	props := func(kv ...string) Message {
		m := Message{Properties: map[string]string{}}
		for i := 0; i < len(kv); i += 2 {
			m.Properties[kv[i]] = kv[i+1]
		}
		return m
	}
	rows := map[string]struct {
		m     Message
		field string
	}{
		"empty_name":          {props("", "v"), "Properties"},
		"empty_value":         {props("n", ""), "Properties[n]"},
		"reserved":            {props("TAGS", "v"), "Properties[TAGS]"},
		"reserved_checksum":   {props("__CRC32#", "0000000000"), "Properties[__CRC32#]"},
		"reserved_ours":       {props("EMBER_ANYTHING", "v"), "Properties[EMBER_ANYTHING]"},
		"reserved_expire":     {props("__EXPIRE_AT", "1"), "Properties[__EXPIRE_AT]"},
		"reserved_digit":      {props("1ST_POP_TIME", "1"), "Properties[1ST_POP_TIME]"},
		"separator_in_name":   {props("a\x01b", "v"), "property name"},
		"separator_in_value":  {props("name", "x\x02"), "Properties[name]"},
		"separator_in_tag":    {Message{Tag: "a\x01"}, "Tag"},
		"separator_in_key":    {Message{Keys: []string{"a", "\x02"}}, "Keys"},
		"separator_in_shard":  {Message{ShardingKey: "\x01"}, "ShardingKey"},
		"separator_in_idem":   {Message{IdempotencyKey: "\x01"}, "IdempotencyKey"},
		"separators_balanced": {props("n", "v\x02m\x01w"), "Properties[n]"},
		"two_tags":            {Message{Tag: "a||b"}, "Tag"},
		"key_with_space":      {Message{Keys: []string{"a b"}}, "Keys"},
		"empty_key":           {Message{Keys: []string{"a", ""}}, "Keys"},
		"level_and_delay":     {Message{DelayLevel: 1, Delay: time.Second}, "Delay"},
		"delay_and_time":      {Message{Delay: 1, DeliverAt: time.Unix(1, 0)}, "Delay"},
		"negative_delay":      {Message{Delay: -1}, "Delay"},
		"negative_level":      {Message{DelayLevel: -1}, "DelayLevel"},
		"lz4":                 {Message{Encoding: LZ4}, "Encoding"},
		"unknown_encoding":    {Message{Encoding: 77}, "Encoding"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			var d Draft
			err := d.Encode(&row.m, Queue{"t", 0}, nil)
			require.ErrorIs(t, err, ErrInvalidMessage)
			var inv *InvalidError
			require.True(t, errors.As(err, &inv))
			require.Equal(t, row.field, inv.Field)
			require.Zero(t, d.Size())
			d.Stamp(1, 2, 3) // of an empty draft: nothing

			// The draft is not spoilt, and keeps nothing of the message.
			require.NoError(t, d.Encode(&Message{Tag: "x"}, Queue{"t", 0}, nil))
			d.Stamp(0, 0, 1)
			r, err := ParseRecord(d.Bytes())
			require.NoError(t, err)
			require.Equal(t, []string{"TAGS", "__CRC32#"}, names(&r))
		})
	}
	var d Draft
	require.ErrorIs(t, d.Encode(&Message{}, Queue{}, nil), ErrInvalidMessage, "no topic")
	for _, p := range []Property{{Name: "", Value: "v"}, {Name: PropCRC, Value: "v"}, {Name: PropSettles, Value: "a\x02b"}} {
		require.ErrorIs(t, d.Encode(&Message{}, Queue{"t", 0}, &Envelope{Reserved: []Property{p}}), ErrInvalidMessage)
	}
}

func names(r *Record) (ns []string) {
	for n := range r.Properties() {
		ns = append(ns, n)
	}
	return ns
}

func TestEncodeAllows(t *testing.T) {
	for _, name := range []string{"traceparent", "CLUSTER", "MSG_REGION", "TRACE_ON", "INSTANCE_ID", "a", "_", "EMBER", "Tags", "ключ"} {
		require.False(t, Reserved(name), name)
		var d Draft
		require.NoError(t, d.Encode(&Message{Properties: map[string]string{name: "v"}}, Queue{"t", 0}, nil), name)
	}
	require.False(t, Reserved(""))
}

func TestPropertyLimit(t *testing.T) {
	encode := func(value int, reserved int) error {
		var d Draft
		m := Message{Properties: map[string]string{"n": strings.Repeat("v", value)}}
		e := Envelope{}
		if reserved > 0 {
			e.Reserved = []Property{{Name: "R", Value: strings.Repeat("v", reserved)}}
		}
		err := d.Encode(&m, Queue{"t", 0}, &e)
		if err == nil {
			d.Stamp(0, 0, 0)
			_, err = ParseRecord(d.Bytes())
		}
		return err
	}
	require.NoError(t, encode(MaxUserProperties-3, 0))
	err := encode(MaxUserProperties-2, 0)
	var size *SizeError
	require.True(t, errors.As(err, &size))
	require.ErrorIs(t, err, ErrTooLarge)
	require.Equal(t, &SizeError{What: "user properties", Size: MaxUserProperties + 1, Limit: MaxUserProperties}, size)
	rest := MaxProperties - MaxUserProperties - 20 - 3
	require.NoError(t, encode(MaxUserProperties-3, rest))
	require.True(t, errors.As(encode(MaxUserProperties-3, rest+1), &size))
	require.Equal(t, int64(MaxProperties+1), size.Size)

	var d Draft
	require.ErrorIs(t, d.Encode(&Message{}, Queue{strings.Repeat("t", 32768), 0}, nil), ErrTooLarge)
	require.NoError(t, d.Encode(&Message{}, Queue{strings.Repeat("t", 32767), 0}, nil))
}

// The version follows what a length byte of V1 can hold.
func TestVersion(t *testing.T) {
	for n, magic := range map[int]uint32{1: MagicV1, 127: MagicV1, 128: MagicV2, 255: MagicV2} {
		var d Draft
		require.NoError(t, d.Encode(&Message{}, Queue{strings.Repeat("t", n), 0}, nil))
		d.Stamp(0, 0, 0)
		r, err := ParseRecord(d.Bytes())
		require.NoError(t, err)
		require.Equal(t, magic, r.u32(4), n)
		require.Len(t, r.Topic(), n)
		require.NoError(t, r.VerifyChecksum())
	}
}

// Whatever is sent comes back, in sorted order, and a second encoding of what
// came back gives the same bytes.
func TestRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	text := func(max int) string {
		const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.0123456789\x00\x03é"
		b := make([]byte, 1+rng.IntN(max))
		for i := range b {
			b[i] = letters[rng.IntN(len(letters))]
		}
		return string(b)
	}
	var d Draft
	for i := range 600 {
		m := Message{QueueID: int32(rng.IntN(9)), Topic: "t" + strings.Repeat("x", rng.IntN(200)), Flag: rng.Int32()}
		m.Body = make([]byte, rng.IntN(6000))
		for j := range m.Body {
			m.Body[j] = byte(rng.Uint32())
		}
		if rng.IntN(2) == 0 {
			m.Tag = text(9)
		}
		for range rng.IntN(4) {
			m.Keys = append(m.Keys, text(12))
		}
		if rng.IntN(2) == 0 {
			m.ShardingKey, m.IdempotencyKey = text(5), text(20)
		}
		if rng.IntN(3) == 0 {
			m.ExpireAt = time.UnixMilli(rng.Int64N(1 << 45))
		}
		for range rng.IntN(40) {
			if m.Properties == nil {
				m.Properties = map[string]string{}
			}
			m.Properties["p"+text(12)] = text(30)
		}
		e := Envelope{}
		if rng.IntN(3) == 0 {
			e.Reserved = []Property{{Name: PropTimer, Own: true}, {Name: PropUniqKey, Value: "U"}}
		}
		where := fmt.Sprintf("seed %d round %d", seed, i)
		require.NoError(t, d.Encode(&m, Queue{m.Topic, m.QueueID}, &e), where)
		pos, off, at := rng.Int64(), rng.Int64(), rng.Int64N(1<<45)
		d.Stamp(pos, off, at)
		r, err := ParseRecord(d.Bytes())
		require.NoError(t, err, where)
		require.NoError(t, r.VerifyChecksum(), where)
		require.NoError(t, r.VerifyBody(), where)
		require.Equal(t, []int64{pos, off, at, at}, []int64{r.Position(), r.Offset(), r.StoredAtMillis(), r.BornAt().UnixMilli()}, where)
		ns := names(&r)
		require.True(t, slices.IsSorted(ns[:len(ns)-1]), where)
		_, own := r.OwnValue(PropTimer)
		require.Equal(t, e.Reserved != nil, own, where)
		back := r.Message()
		require.Empty(t, back.IdempotencyKey, where)
		back.IdempotencyKey, _ = r.Property(PropIdempotency)
		require.Equal(t, &m, back, where)

		first := slices.Clone(d.Bytes())
		require.NoError(t, d.Encode(back, r.Queue(), &e), where)
		d.Stamp(pos, off, at)
		require.Equal(t, first, d.Bytes(), where)
	}
}

func TestReservedOverrides(t *testing.T) {
	var d Draft
	m := Message{Tag: "a", Keys: []string{"k"}, Properties: map[string]string{"p": "1", "q": "2"}}
	require.NoError(t, d.Encode(&m, Queue{"t", 0}, &Envelope{Reserved: []Property{
		{Name: "TAGS", Value: "b"}, {Name: "p", Value: "first"}, {Name: "p", Value: "last"}, {Name: "q"}, {Name: "KEYS", Value: "x y"},
	}}))
	d.Stamp(0, 0, 0)
	r, err := ParseRecord(d.Bytes())
	require.NoError(t, err)
	require.Equal(t, []string{"KEYS", "TAGS", "p", "__CRC32#"}, names(&r))
	require.Equal(t, "b", r.Tag())
	require.Equal(t, TagHash("b"), d.TagHash())
	v, _ := r.Property("p")
	require.Equal(t, "last", v)
	require.Equal(t, []string{"x", "y"}, slices.Collect(r.Keys()))
}

// Stamping changes only what belongs to the place, and may be repeated.
func TestStampAgain(t *testing.T) {
	for _, size := range []int{0, 5, 100, 1 << 14} {
		var a, b Draft
		e := Envelope{Reserved: []Property{{Name: PropGroup, Value: GroupValue(2), Own: true}}}
		require.NoError(t, a.Encode(steady(size), Queue{"t", 0}, &e))
		require.NoError(t, b.Encode(steady(size), Queue{"t", 0}, &e))
		a.Stamp(77, 8, 9)
		a.Stamp(1, 2, 3)
		b.Stamp(1, 2, 3)
		require.Equal(t, b.Bytes(), a.Bytes())
		require.Equal(t, b.Sum(), a.Sum())
		r, err := ParseRecord(a.Bytes())
		require.NoError(t, err)
		require.NoError(t, r.VerifyChecksum())
	}
}

func TestDigits(t *testing.T) {
	var b [10]byte
	putDigits(b[:], 907060870)
	require.Equal(t, "0780607090", string(b[:]))
	rng := rand.New(rand.NewPCG(1, 2))
	values := []uint32{0, 1, 9, 10, 99, 1e8 - 1, 1e8, 1e9, 0x7FFFFFFF}
	for range 10000 {
		values = append(values, rng.Uint32()&sumMask)
	}
	for _, v := range values {
		putDigits(b[:], v)
		want := []byte(fmt.Sprintf("%010d", v))
		slices.Reverse(want)
		require.Equal(t, string(want), string(b[:]))
	}
}

func TestNoAllocations(t *testing.T) {
	m, q := steady(100), Queue{"orders", 3}
	m.ExpireAt = time.UnixMilli(1)
	var d Draft
	n := testing.AllocsPerRun(200, func() {
		if err := d.Encode(m, q, nil); err != nil {
			t.Error(err)
		}
		d.Stamp(1, 2, 3)
	})
	require.Zero(t, n, "Encode and Stamp")

	src, err := ParseRecord(slices.Clone(d.Bytes()))
	require.NoError(t, err)
	var r Record
	n = testing.AllocsPerRun(200, func() {
		if err := r.Reset(src.Bytes()); err != nil {
			t.Error(err)
		}
		if _, ok := r.Property("colour"); !ok || r.Tag() != "paid" {
			t.Error("property")
		}
		if err := r.VerifyChecksum(); err != nil {
			t.Error(err)
		}
		for k := range r.Keys() {
			if k == "" {
				t.Error("key")
			}
		}
	})
	require.Zero(t, n, "Reset, Tag, Property, Keys")

	e := Envelope{Reserved: []Property{{Name: PropTimer, Own: true}}}
	var c Draft
	n = testing.AllocsPerRun(200, func() {
		if err := c.EncodeRecord(&src, q, &e, PropUniqKey); err != nil {
			t.Error(err)
		}
		c.Stamp(1, 2, 3)
	})
	require.Zero(t, n, "EncodeRecord")

	bad := slices.Clone(src.Bytes())
	bad[4] = 0
	require.Zero(t, testing.AllocsPerRun(200, func() {
		if err := r.Reset(bad); err == nil {
			t.Error("parsed")
		}
	}), "a record that does not parse")
	require.Zero(t, testing.AllocsPerRun(200, func() { _ = TagHash("Tag ä 😀") }), "TagHash")
}
