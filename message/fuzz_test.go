package message

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
)

// addRecords gives a fuzz target real records: the golden ones and a stamped
// draft.
func addRecords(f *testing.F, add func(b []byte)) {
	f.Helper()
	for _, name := range goldenNames(f) {
		add(golden(f, name))
	}
	var d Draft
	require.NoError(f, d.Encode(steady(300), Queue{"orders", 3}, &Envelope{Reserved: []Property{{Name: PropTimer, Own: true}}}))
	d.Stamp(4096, 7, 1700000000000)
	add(slices.Clone(d.Bytes()))
}

// Any bytes parse or do not; what parses can be asked everything, and can be
// copied into a record that verifies.
func FuzzRecord(f *testing.F) {
	addRecords(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		size, kind := Frame(b)
		r, err := ParseRecord(b)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			require.Empty(t, r.Bytes())
			touch(&r)
			return
		}
		require.Equal(t, FrameMessage, kind)
		require.Equal(t, len(b), size)
		touch(&r)
		if len(r.PropertyBytes()) > MaxUserProperties {
			return
		}
		var d Draft
		if err := d.EncodeRecord(&r, r.Queue(), nil); err != nil {
			require.ErrorIs(t, err, ErrInvalidMessage) // 0x01 in a foreign value
			return
		}
		d.Stamp(r.Position(), r.Offset(), r.StoredAtMillis())
		c, err := ParseRecord(d.Bytes())
		require.NoError(t, err)
		require.NoError(t, c.VerifyChecksum())
		require.Equal(t, string(r.Body()), string(c.Body()))
		require.Equal(t, r.Topic(), c.Topic())
		want := maps.Collect(r.Properties())
		maps.DeleteFunc(want, func(n, _ string) bool { return n == PropCRC || strings.HasPrefix(n, PrefixOwn) })
		got := maps.Collect(c.Properties())
		delete(got, PropCRC)
		require.Equal(t, want, got)
	})
}

// touch calls everything that reads a record.
func touch(r *Record) {
	_, _, _, _ = r.Queue(), r.Offset(), r.Position(), r.Size()
	_, _, _, _ = r.StoredAt(), r.BornAt(), r.BornHost(), r.StoreHost()
	_, _, _, _, _ = r.SysFlag(), r.Flag(), r.ReconsumeTimes(), r.Attempt(), r.PreparedOffset()
	_, _, _, _ = r.Body(), r.Encoding(), r.Tag(), r.UniqueID()
	_, _ = r.Inflate(1 << 16)
	_, _ = r.Property("a")
	_ = slices.Collect(r.Keys())
	_ = maps.Collect(r.Properties())
	_, _ = r.Checksum()
	_, _, _ = r.Fingerprint(), r.VerifyChecksum(), r.VerifyBody()
	_, _ = r.OwnValue(PropGroup)
	_, _ = r.Group()
	_, _, _ = r.Dispatchable(), r.Clone(), r.Message()
	for it := range BatchItems(r.Body()) {
		_ = it.Message()
	}
}

// javaProperties is RocketMQ's parser, word for word as its rules are told.
func javaProperties(s string) map[string]string {
	m := map[string]string{}
	for _, part := range strings.Split(s, "\x02") {
		if len(part) < 3 {
			continue
		}
		if i := strings.Index(part, "\x01"); i >= 1 && i <= len(part)-2 {
			m[part[:i]] = part[i+1:]
		}
	}
	return m
}

func FuzzProperties(f *testing.F) {
	addRecords(f, func(b []byte) {
		r, err := ParseRecord(b)
		require.NoError(f, err)
		f.Add(string(r.PropertyBytes()))
	})
	for _, s := range []string{"", "\x01", "\x02", "a\x01\x02", "\x01b\x02", "a\x01b", "a\x01b\x02a\x01c", "a\x01b\x01c\x02", "a\x02\x01b\x02"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, got := javaProperties(s), map[string]string{}
		for rest := s; ; {
			n, v, more, ok := nextProperty(rest)
			if !ok {
				break
			}
			require.Less(t, len(more), len(rest))
			got[n], rest = v, more
		}
		require.Equal(t, want, got)
		for n, v := range want {
			found, ok := lookup(s, n)
			require.True(t, ok)
			require.Equal(t, v, found)
		}
		_, ok := lookup(s, "a\x01") // no name contains the byte that ends it
		require.False(t, ok)
	})
}

func FuzzBatch(f *testing.F) {
	b, err := AppendBatch(nil, steady(10), &Message{}, steady(0))
	require.NoError(f, err)
	f.Add(b)
	f.Add(b[:len(b)-1])
	addRecords(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		for it, err := range BatchItems(b) {
			if err != nil {
				require.ErrorIs(t, err, ErrCorrupt)
				return
			}
			total += 22 + len(it.Body) + len(it.Properties)
			_, _ = it.Property(PropTags)
			_ = it.Message()
		}
		require.Equal(t, len(b), total, "the elements are the batch")
	})
}

// The hash is Java's over UTF-16, and a filter made of a tag matches it.
func FuzzTags(f *testing.F) {
	for _, s := range []string{"", "*", "TagA", "a || b", "||", "|| ||", "a||||b", "ä", "😀", "\xff", "a\x01", " a|b ", "A||A"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var h int32
		for _, c := range utf16.Encode([]rune(s)) {
			h = 31*h + int32(c)
		}
		require.Equal(t, int64(h), TagHash(s))

		flt, err := Tags(s)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalidMessage)
			return
		}
		if flt == nil {
			return
		}
		require.True(t, slices.IsSorted(flt.Hashes()))
		again, err := Tags(flt.String())
		require.NoError(t, err)
		require.Equal(t, flt, again, "the normal form means the same")
		tags := flt.(*tagFilter).tags
		require.NotEmpty(t, tags)
		var d Draft
		for _, tag := range tags {
			if len(tag) > 1000 {
				continue
			}
			require.NoError(t, d.Encode(&Message{Tag: tag}, Queue{"t", 0}, nil))
			d.Stamp(0, 0, 0)
			r, err := ParseRecord(d.Bytes())
			require.NoError(t, err)
			require.True(t, flt.Match(&r))
			require.Contains(t, flt.Hashes(), d.TagHash())
		}
	})
}

func FuzzInflate(f *testing.F) {
	text := bytes.Repeat([]byte("flight "), 200)
	for _, e := range []Encoding{None, Zlib, Zstd, LZ4} {
		if c, err := Compress(nil, text, e); err == nil {
			f.Add(c, uint8(e), uint16(2000))
			f.Add(c, uint8(e), uint16(1399))
			f.Add(c[:len(c)-3], uint8(e), uint16(0))
			f.Add(append(c, c...), uint8(e), uint16(3000))
		}
	}
	f.Add([]byte{}, uint8(Zstd), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, e uint8, limit uint16) {
		dst := []byte("kept")
		out, err := Inflate(dst, b, Encoding(e), int(limit)+1)
		switch {
		case err == nil:
			require.Equal(t, "kept", string(out[:4]))
			require.LessOrEqual(t, len(out)-4, int(limit)+1)
			back, err := Compress(nil, out[4:], Encoding(e))
			require.NoError(t, err)
			back, err = Inflate(nil, back, Encoding(e), int(limit)+1)
			require.NoError(t, err)
			require.Equal(t, string(out[4:]), string(back))
		case Encoding(e) >= LZ4:
			require.ErrorIs(t, err, ErrUnsupportedCompression)
			require.Equal(t, string(b), string(out))
		default:
			require.Equal(t, "kept", string(out))
			if uint8(Zlib) <= e {
				require.True(t, isAny(err, ErrTooLarge, ErrCorrupt), err)
			}
		}
	})
}
