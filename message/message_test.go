package message

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
}

func TestTagHash(t *testing.T) {
	for tag, want := range map[string]int64{
		"":                   0,
		"TagA":               2598919,
		"TagB":               2598920,
		"Aa":                 2112,
		"BB":                 2112,
		"polygenelubricants": -2147483648,
		"ä":                  0xe4,
		"\U0001F600":         0xd83d*31 + 0xde00,
		"a\U0001F600b":       ((0x61*31+0xd83d)*31+0xde00)*31 + 0x62,
		"\xff":               0xfffd,
	} {
		require.Equal(t, want, TagHash(tag), "%q", tag)
	}
}

func TestTagsFilter(t *testing.T) {
	for expr, want := range map[string]string{
		"a": "a", " a ": "a", "a||b": "a || b", " b || a ||b||": "b || a", "a|b": "a|b", "||a": "a", "a || *": "a || *", "a b": "a b",
	} {
		f, err := Tags(expr)
		require.NoError(t, err, expr)
		require.Equal(t, want, f.String(), expr)
	}
	for _, all := range []string{"", "*", " * ", "  "} {
		f, err := Tags(all)
		require.NoError(t, err)
		require.True(t, f == nil, all)
	}
	for expr, column := range map[string]string{"||": "column 1", "|| ||": "column 1", "  || ": "column 3"} {
		_, err := Tags(expr)
		require.ErrorIs(t, err, ErrInvalidMessage)
		require.ErrorContains(t, err, column)
	}
	_, err := Tags("a\x02b")
	require.ErrorIs(t, err, ErrInvalidMessage)

	f, err := Tags("Aa || x")
	require.NoError(t, err)
	require.Equal(t, []int64{'x', 2112}, f.Hashes())
	match := func(tag string) bool {
		var d Draft
		require.NoError(t, d.Encode(&Message{Tag: tag}, Queue{"t", 0}, nil))
		d.Stamp(0, 0, 0)
		r, err := ParseRecord(d.Bytes())
		require.NoError(t, err)
		return f.Match(&r)
	}
	require.True(t, match("Aa"))
	require.True(t, match("x"))
	require.False(t, match("BB"), "the same hash, another text")
	require.False(t, match(""))
}

func TestNames(t *testing.T) {
	long := strings.Repeat("x", 127)
	for _, ok := range []string{"a", "A-b_9%|", long, PrefixRetry + strings.Repeat("g", 248), "%DLQ%" + long, "con"} {
		require.NoError(t, checkName("topic", ok, 255, false), ok)
	}
	for _, good := range []string{"orders", long, PrefixRetry + strings.Repeat("g", 248), PrefixDead + long} {
		require.NoError(t, CheckTopic(good))
	}
	for _, bad := range []string{"", ".", "..", "../x", "a/b", "a\\b", "a b", "a\x00", "ä", long + "x", PrefixRetry + strings.Repeat("g", 249), "a.b", strings.Repeat("y", 1<<16)} {
		err := CheckTopic(bad)
		require.ErrorIs(t, err, ErrInvalidName, bad)
		var ne *NameError
		require.True(t, errors.As(err, &ne))
		require.Equal(t, "topic", ne.Kind)
		require.Equal(t, bad, ne.Name)
		require.NotEmpty(t, ne.Reason)
		require.Less(t, len(err.Error()), 400)
	}
	require.NoError(t, CheckGroup(strings.Repeat("g", 120)))
	for _, bad := range []string{"", strings.Repeat("g", 121), "DEFAULT_CONSUMER", "DEFAULT_PRODUCER", "a/b"} {
		require.ErrorIs(t, CheckGroup(bad), ErrInvalidName, bad)
	}
	for _, bad := range []string{"a|b", "CON", "nul", "Com1", "LPT9"} {
		require.Error(t, checkName("topic", bad, 127, true), bad)
		require.NoError(t, checkName("topic", bad, 127, false), bad)
	}
	for _, good := range []string{"COMA", "COM10", "CONS", "orders"} {
		require.NoError(t, checkName("topic", good, 127, true), good)
	}
	require.Equal(t, FoldName("Orders"), FoldName("oRDERS"))
	require.NotEqual(t, FoldName("Orders"), FoldName("Orders2"))
	for _, sys := range []string{TopicSchedule, TopicTimer, TopicHalf, TopicOpHalf, TopicCheckMax, TopicLost, TopicTopics, "rmq_sys_anything"} {
		require.True(t, IsSystemTopic(sys), sys)
		require.NoError(t, CheckTopic(sys), sys)
	}
	require.False(t, IsSystemTopic("orders"))
	require.False(t, IsSystemTopic(PrefixRetry+"g"))
}

func TestErrors(t *testing.T) {
	cause := io.ErrUnexpectedEOF
	err := fmt.Errorf("commitlog: %w", &CorruptError{Path: "commitlog/0", Offset: 7, Reason: "checksum differs", Err: cause})
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorIs(t, err, cause)
	require.EqualError(t, err, "commitlog: corrupt commitlog/0 at 7: checksum differs: unexpected EOF")
	require.ErrorIs(t, &InvalidError{}, ErrInvalidMessage)
	require.ErrorIs(t, &NameError{}, ErrInvalidName)
	require.ErrorIs(t, &SizeError{}, ErrTooLarge)
	require.NotErrorIs(t, &SizeError{}, ErrCorrupt)
	require.EqualError(t, &SizeError{What: "body", Size: 9, Limit: 8}, "body too large: 9 bytes, limit 8")
	require.ErrorIs(t, DefectSum, ErrCorrupt)
}

func TestIDs(t *testing.T) {
	host := netip.MustParseAddrPort("10.1.2.3:10911")
	id := OffsetID(host, 0x1234)
	require.Equal(t, "0A01020300002A9F0000000000001234", id)
	h, pos, err := ParseOffsetID(strings.ToLower(id))
	require.NoError(t, err)
	require.Equal(t, host, h)
	require.Equal(t, int64(0x1234), pos)
	require.Equal(t, "7F00000100002A9F0000000000000001", OffsetID(netip.AddrPort{}, 1))

	v6 := netip.MustParseAddrPort("[2001:db8::1]:80")
	id = OffsetID(v6, 1)
	require.Len(t, id, 56)
	h, pos, err = ParseOffsetID(id)
	require.NoError(t, err)
	require.Equal(t, v6, h)
	require.Equal(t, int64(1), pos)
	for _, bad := range []string{"", "0", strings.Repeat("0", 30), strings.Repeat("G", 32), strings.Repeat("0", 58), strings.Repeat("é", 16)} {
		_, _, err := ParseOffsetID(bad)
		require.ErrorIs(t, err, ErrCorrupt, bad)
		_, err = ParseUniqKey(bad)
		require.ErrorIs(t, err, ErrCorrupt, bad)
	}

	u, err := ParseUniqKey("7F0000010B0A18B4AAC27C3D2E9C0005")
	require.NoError(t, err)
	require.Equal(t, UniqKey{Addr: netip.MustParseAddr("127.0.0.1"), PID: 0x0b0a, Loader: 0x18b4aac2,
		Since: 0x7c3d2e9c * time.Millisecond, Counter: 5}, u)

	now := time.UnixMilli(0x0102030405)
	g := NewIDs(func() time.Time { return now })
	first := g.Next()
	require.Len(t, first, 32)
	require.Equal(t, "000102030405", first[:12])
	require.Equal(t, "00000000", first[24:])
	require.Equal(t, strings.ToUpper(first), first)

	var mu sync.Mutex
	seen := map[string]bool{first: true}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				id := g.Next()
				mu.Lock()
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Len(t, seen, 2001)
	require.NotEqual(t, first[12:24], NewIDs(nil).Next()[12:24])
}

func TestBatch(t *testing.T) {
	ms := []*Message{steady(10), {}, {Body: []byte("x"), Flag: -1, Keys: []string{"k"}}}
	b, err := AppendBatch([]byte("head"), ms...)
	require.NoError(t, err)
	require.Equal(t, "head", string(b[:4]))
	i := 0
	for it, err := range BatchItems(b[4:]) {
		require.NoError(t, err)
		got := it.Message()
		require.Equal(t, ms[i].Tag, got.Tag)
		require.Equal(t, ms[i].Keys, got.Keys)
		require.Equal(t, string(ms[i].Body), string(got.Body))
		require.Equal(t, ms[i].Properties, got.Properties)
		require.Equal(t, ms[i].Flag, got.Flag)
		i++
	}
	require.Equal(t, 3, i)

	// Each element's first field is its size, and the smallest is 22 bytes.
	one, err := AppendBatch(nil, &Message{Flag: 5, Body: []byte("ab"), Tag: "t"})
	require.NoError(t, err)
	require.Equal(t, "\x00\x00\x00\x1f"+"\x00\x00\x00\x00"+"\x00\x00\x00\x00"+"\x00\x00\x00\x05"+"\x00\x00\x00\x02ab"+"\x00\x07TAGS\x01t\x02", string(one))

	for n := 1; n < len(one); n++ {
		for _, err := range BatchItems(one[:n]) {
			require.Equal(t, DefectBatch, err)
		}
	}
	for range BatchItems(nil) {
		t.Fatal("an empty batch has no element")
	}
	kept := []byte("kept")
	out, err := AppendBatch(kept, &Message{}, &Message{Keys: []string{""}})
	require.ErrorIs(t, err, ErrInvalidMessage)
	require.Equal(t, kept, out)
	_, err = AppendBatch(nil, &Message{DelayLevel: 1})
	require.ErrorIs(t, err, ErrInvalidMessage)
	_, err = AppendBatch(nil, &Message{Tag: "\x02"})
	require.ErrorIs(t, err, ErrInvalidMessage)
}

func TestCompress(t *testing.T) {
	for _, e := range []Encoding{None, Zlib, Zstd} {
		for _, size := range []int{0, 1, 511, 512, 4096, 70_000, 3 << 20} {
			body := bytes.Repeat([]byte("0123456789abcdef-flight "), size/24+1)[:size]
			c, err := Compress([]byte("pre"), body, e)
			require.NoError(t, err)
			require.Equal(t, "pre", string(c[:3]))
			c = c[3:]
			for _, dst := range [][]byte{nil, []byte("x"), make([]byte, 3, 1<<20)} {
				out, err := Inflate(dst, c, e, max(size, 1))
				require.NoError(t, err, "%v %d", e, size)
				require.True(t, bytes.Equal(body, out[len(dst):]), "%v %d", e, size)
			}
			if size > 1 {
				out, err := Inflate([]byte("x"), c, e, size-1)
				var se *SizeError
				require.True(t, errors.As(err, &se), "%v %d: %v", e, size, err)
				require.Equal(t, int64(size-1), se.Limit)
				require.Equal(t, "x", string(out))
			}
			if size > 0 && e != None {
				_, err = Inflate(nil, c[:len(c)-1], e, 0)
				require.ErrorIs(t, err, ErrCorrupt)
			}
		}
	}
	for _, e := range []Encoding{LZ4, 200} {
		_, err := Compress(nil, []byte("x"), e)
		require.ErrorIs(t, err, ErrUnsupportedCompression)
		raw, err := Inflate(nil, []byte("raw"), e, 1)
		require.ErrorIs(t, err, ErrUnsupportedCompression)
		require.Equal(t, "raw", string(raw))
	}
}

// A small body that inflates to much costs no more than the limit.
func TestInflateBomb(t *testing.T) {
	const size, limit = 64 << 20, 1 << 20
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	zero := make([]byte, 1<<20)
	for range size >> 20 {
		_, err := w.Write(zero)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	bombs := map[string]struct {
		b []byte
		e Encoding
	}{
		"zlib":            {z.Bytes(), Zlib},
		"zstd_announced":  {zstdBomb(true, size/(128<<10)), Zstd},
		"zstd_unknown":    {zstdBomb(false, size/(128<<10)), Zstd},
		"zstd_two_frames": {append(zstdBomb(true, 1), zstdBomb(true, size/(128<<10))...), Zstd},
	}
	for name, bomb := range bombs {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Inflate(nil, bomb.b, bomb.e, limit)
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, ErrTooLarge)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8*limit))
		})
	}
}

// zstdBomb makes a frame of blocks that each repeat one byte 128 KiB times.
func zstdBomb(announced bool, blocks int) []byte {
	b := []byte{0x28, 0xB5, 0x2F, 0xFD}
	if announced {
		n := uint32(blocks * 128 << 10)
		b = append(b, 0x80, 0x68, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	} else {
		b = append(b, 0x00, 0x68)
	}
	for i := range blocks {
		h := uint32(128<<10)<<3 | 1<<1
		if i == blocks-1 {
			h |= 1
		}
		b = append(b, byte(h), byte(h>>8), byte(h>>16), 'x')
	}
	return b
}

func TestZstdBombIsReal(t *testing.T) {
	for _, announced := range []bool{true, false} {
		out, err := Inflate(nil, zstdBomb(announced, 3), Zstd, 1<<20)
		require.NoError(t, err)
		require.Len(t, out, 3*128<<10)
	}
}

func TestEncodingBits(t *testing.T) {
	for e, want := range map[Encoding]int32{None: 0, Zlib: 0x301, Zstd: 0x201, LZ4: 0x101} {
		require.Equal(t, want, e.sysFlag())
		require.Equal(t, e, encodingOf(want|FlagCommit))
	}
	require.Equal(t, Zlib, encodingOf(1))
	require.Equal(t, None, encodingOf(0x200))
	require.Equal(t, unknownEncoding, encodingOf(0x701))
	var d Draft
	require.NoError(t, d.Encode(&Message{Encoding: Zstd}, Queue{"t", 0}, &Envelope{SysFlag: FlagPrepared | 0x300}))
	d.Stamp(0, 0, 0)
	r, err := ParseRecord(d.Bytes())
	require.NoError(t, err)
	require.Equal(t, FlagPrepared|0x201, r.SysFlag())
	require.False(t, r.Dispatchable())
}

func TestPending(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p := NewPending()
	cancel()
	_, err := p.Wait(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NotPanics(t, func() { p.Resolve(Receipt{Offset: 1}, nil); p.Resolve(Receipt{Offset: 2}, ErrClosed) })
	r, err := p.Wait(ctx)
	require.NoError(t, err, "a result that is there counts more than the context")
	require.Equal(t, int64(1), r.Offset)
	<-p.Done()

	p = NewPending()
	p.Resolve(Receipt{}, ErrDiskFull)
	<-p.Done()
	_, err = p.Wait(context.Background())
	require.ErrorIs(t, err, ErrDiskFull)

	p = NewPending()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, err := p.Wait(context.Background())
			if err != nil || r.Offset != 5 {
				t.Errorf("wait: %v %v", r, err)
			}
		})
	}
	p.Resolve(Receipt{Offset: 5}, nil)
	wg.Wait()
	require.Equal(t, 1.0, testing.AllocsPerRun(100, func() {
		q := NewPending()
		sink = q
		q.Resolve(Receipt{}, nil)
		_, _ = q.Wait(ctx)
	}))
}

var sink any

func TestFrame(t *testing.T) {
	b := make([]byte, 8)
	row := func(size int, kind FrameKind) {
		t.Helper()
		n, k := Frame(b)
		require.Equal(t, kind, k)
		require.Equal(t, size, n)
	}
	row(0, FrameNone)
	EncodeBlank(b, 8)
	row(8, FrameBlank)
	EncodeBlank(b, 7)
	row(0, FrameBad)
	EncodeBlank(b, 1<<20)
	row(1<<20, FrameBlank)
	copy(b, "\x00\x00\x00\x5c\xDA\xA3\x20\xA7")
	row(92, FrameMessage)
	copy(b, "\x00\x00\x00\x5b\xDA\xA3\x20\xA7")
	row(0, FrameBad)
	copy(b, "\xff\x00\x00\x5c\xDA\xA3\x20\xA7")
	row(0, FrameBad)
	copy(b, "\x00\x00\x00\x5d\xDA\xA3\x20\xAB")
	row(93, FrameMessage)
	copy(b, "\x00\x00\x00\x00\xDA\xA3\x20\xA7")
	row(0, FrameBad)
	for n := range 8 {
		_, k := Frame(make([]byte, n))
		require.Equal(t, FrameNone, k)
		_, k = Frame(bytes.Repeat([]byte{1}, n))
		require.Equal(t, n == 0, k == FrameNone)
	}
}

// Damage of every field that gives a length is found by its own name.
func TestRecordDefects(t *testing.T) {
	good := golden(t, "v1")
	put := func(at int, b ...byte) []byte {
		c := slices.Clone(good)
		copy(c[at:], b)
		return c
	}
	at := bytes.Index(good, []byte("hello")) - 4
	for name, row := range map[string]struct {
		b    []byte
		want error
	}{
		"short":             {good[:91], DefectShort},
		"size":              {put(3, 1), DefectSize},
		"size_negative":     {put(0, 0xff), DefectSize},
		"magic":             {put(7, 0), DefectMagic},
		"blank":             {put(4, 0xCB, 0xD4, 0x31, 0x94), DefectMagic},
		"body_negative":     {put(at, 0xff), DefectBody},
		"body_long":         {put(at, 0, 0, 1, 0), DefectBody},
		"body_to_the_end":   {put(at, 0, 0, 0, byte(len(good)-at-4)), DefectTopic},
		"body_to_the_end-1": {put(at, 0, 0, 0, byte(len(good)-at-5)), DefectTopic},
		"topic_negative":    {put(at+9, 0x80), DefectTopic},
		"topic_long":        {put(at+9, 0x7f), DefectTopic},
		"topic_empty":       {put(at+9, 0), DefectNoTopic},
		"topic_one_less":    {put(at+9, 8), DefectProps},
		"props_short":       {put(at+20, 1), DefectProps},
		"props_negative":    {put(at+19, 0xff, 0xff), DefectProps},
		"ipv6_flag":         {put(39, 0x10), DefectBody},
	} {
		t.Run(name, func(t *testing.T) {
			var r Record
			require.Equal(t, row.want, r.Reset(row.b))
			require.Zero(t, r.Size())
			touch(&r)
		})
	}
	r, err := ParseRecord(put(at+5, 'E'))
	require.NoError(t, err)
	require.Equal(t, DefectBodySum, r.VerifyBody())
	require.Equal(t, DefectBodySum, r.VerifyForeign())
	require.Equal(t, DefectSum, r.VerifyChecksum())
}

// A foreign record without properties that is torn in its topic's name has the
// right lengths and the right body.
func TestForeignTornInName(t *testing.T) {
	const topic = "orders"
	for kept := range len(topic) + 1 {
		for _, name := range []string{topic, strings.Repeat("g", 200) + topic} {
			b := bare(t, name)
			end := len(b) - 2 // the length of the properties, zero
			clear(b[end-len(topic)+kept : end])
			r, err := ParseRecord(b)
			require.NoError(t, err)
			require.NoError(t, r.VerifyBody())
			if kept == len(topic) {
				require.NoError(t, r.VerifyForeign())
				continue
			}
			require.Equal(t, DefectName, r.VerifyForeign(), "%d bytes of the name", kept)
			require.ErrorIs(t, new(Draft).Encode(&Message{}, r.Queue(), nil), ErrInvalidMessage, "we write no such record")
		}
	}
}

// bare is a record as another program writes it: without properties.
func bare(t *testing.T, topic string) []byte {
	t.Helper()
	var d Draft
	require.NoError(t, d.Encode(&Message{Body: []byte("hello")}, Queue{Topic: topic}, nil))
	d.Stamp(0, 0, 1)
	r, err := ParseRecord(d.Bytes())
	require.NoError(t, err)
	b := slices.Clone(d.Bytes()[:d.Size()-len(r.PropertyBytes())])
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	binary.BigEndian.PutUint16(b[len(b)-2:], 0)
	return b
}

// Every single flipped bit is found by the structure or the checksum.
func TestEveryBit(t *testing.T) {
	good := golden(t, "v1")
	for i := range len(good) * 8 {
		b := slices.Clone(good)
		b[i/8] ^= 1 << (i % 8)
		r, err := ParseRecord(b)
		if err == nil {
			err = r.VerifyChecksum()
		}
		require.ErrorIs(t, err, ErrCorrupt, "bit %d", i)
	}
}

// Digits that are no checksum are a wrong checksum, not a missing one: what is
// missing may be another program's record.
func TestChecksumDigits(t *testing.T) {
	for _, digits := range []string{"x000000000", "9999999999", "0000000009"} {
		b := golden(t, "v1")
		copy(b[len(b)-11:], digits)
		r, err := ParseRecord(b)
		require.NoError(t, err)
		sum, ok := r.Checksum()
		require.True(t, ok)
		require.Greater(t, sum, uint32(sumMask))
		require.Equal(t, DefectSum, r.VerifyChecksum())
	}
}

func TestStrings(t *testing.T) {
	require.Equal(t, "topic/3", Queue{"topic", 3}.String())
	require.Equal(t, "first", Start{}.String())
	require.Equal(t, First(), Start{})
	require.Equal(t, "last", Last().String())
	require.Equal(t, "offset 7", At(7).String())
	require.Contains(t, AtTime(time.Unix(0, 0)).String(), "time 19")
	require.Equal(t, "OnDisk", OnDisk.String())
	require.Equal(t, "Retry", Retry.String())
	require.Equal(t, "Upper", Upper.String())
	require.Equal(t, "zstd", Zstd.String())
}
