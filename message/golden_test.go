package message

import (
	"bufio"
	"encoding/hex"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// golden reads a record that was written down field by field: name, hex bytes,
// and a remark.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "golden", "v1", name+".txt"))
	require.NoError(t, err)
	defer f.Close()
	var b []byte
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if fs := strings.Fields(line); len(fs) == 2 {
			part, err := hex.DecodeString(fs[1])
			require.NoError(t, err, sc.Text())
			b = append(b, part...)
		}
	}
	require.NoError(t, sc.Err())
	return b
}

func goldenNames(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "v1", "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".txt"))
	}
	return names
}

// goldens says what a draft must be made of to give the golden bytes.
var goldens = map[string]struct {
	m                      Message
	q                      Queue
	e                      Envelope
	position, offset, time int64
}{
	"v1": {
		m: Message{Tag: "TagA", Keys: []string{"k1", "k2"}, ShardingKey: "42", Flag: 7, Body: []byte("hello"),
			Properties: map[string]string{"size": "9", "colour": "red"}},
		q: Queue{"TopicTest", 3}, e: Envelope{BornAt: 1700000000000},
		position: 0x1234, offset: 42, time: 1700000000123,
	},
	"empty": {q: Queue{"T", 0}, time: 1},
	"v2": {
		m: Message{Body: []byte("again")},
		q: Queue{PrefixRetry + strings.Repeat("g", 121), 1},
		e: Envelope{BornAt: 1700000000000, ReconsumeTimes: 2, Reserved: []Property{
			{Name: PropRetryTopic, Value: "orders"},
			{Name: PropOriginID, Value: "7F00000100002A9F0000000000001234"},
		}},
		position: 4096, offset: 1, time: 1700000000001,
	},
	"ipv6": {
		m: Message{Tag: "t", Body: []byte("six")},
		q: Queue{"net", 0},
		e: Envelope{BornAt: 1700000000000, SysFlag: FlagCommit, PreparedOffset: 0xffff,
			BornHost: netip.MustParseAddrPort("[2001:db8::1]:80"), StoreHost: netip.MustParseAddrPort("[2001:db8::2]:10911")},
		position: 0x100000000, offset: 5, time: 1700000000002,
	},
	"ipv6_born": {
		m: Message{Body: []byte("6")}, q: Queue{"net", 0},
		e:        Envelope{BornAt: 1, BornHost: netip.MustParseAddrPort("[2001:db8::1]:80")},
		position: 1, time: 2,
	},
	"group": {
		m: Message{Tag: "paid", Body: []byte("g1")}, q: Queue{"orders", 0},
		e:        Envelope{Reserved: []Property{{Name: PropGroup, Value: GroupValue(3), Own: true}}},
		position: 0xabc0, offset: 9, time: 5,
	},
}

func TestGoldenEncode(t *testing.T) {
	for name, g := range goldens {
		t.Run(name, func(t *testing.T) {
			want := golden(t, name)
			var d Draft
			// A used draft must give the same bytes as a new one.
			for range 2 {
				require.NoError(t, d.Encode(&g.m, g.q, &g.e))
				require.Equal(t, len(want), d.Size())
				d.Stamp(g.position, g.offset, g.time)
				require.Equal(t, hex.Dump(want), hex.Dump(d.Bytes()))
				require.Equal(t, TagHash(g.m.Tag), d.TagHash())
			}
			r, err := ParseRecord(d.Bytes())
			require.NoError(t, err)
			require.NoError(t, r.VerifyChecksum())
			require.NoError(t, r.VerifyBody())
			require.Equal(t, d.Sum(), r.Fingerprint())
			require.Equal(t, g.q, r.Queue())
			require.Equal(t, g.position, r.Position())
			require.Equal(t, g.offset, r.Offset())
			require.Equal(t, g.time, r.StoredAtMillis())
			require.Equal(t, g.m.Tag, r.Tag())
			require.Equal(t, g.m.Keys, slices.Collect(r.Keys()))
			require.Equal(t, string(g.m.Body), string(r.Body()))
			require.Equal(t, g.m.Flag, r.Flag())
			require.Equal(t, g.e.ReconsumeTimes, r.ReconsumeTimes())
			require.Equal(t, int(g.e.ReconsumeTimes)+1, r.Attempt())
			require.Equal(t, g.e.PreparedOffset, r.PreparedOffset())
			require.Equal(t, orDefault(g.e.BornHost), r.BornHost())
			require.Equal(t, orDefault(g.e.StoreHost), r.StoreHost())
			back := r.Message()
			require.Equal(t, g.m.Properties, back.Properties)
			require.Equal(t, g.m.ShardingKey, back.ShardingKey)
		})
	}
}

func orDefault(h netip.AddrPort) netip.AddrPort {
	if !h.IsValid() {
		return netip.MustParseAddrPort("127.0.0.1:10911")
	}
	return h
}

// Every golden file parses, whoever wrote it, and not one byte shorter or longer.
func TestGoldenParse(t *testing.T) {
	for _, name := range goldenNames(t) {
		t.Run(name, func(t *testing.T) {
			b := golden(t, name)
			size, kind := Frame(b)
			require.Equal(t, FrameMessage, kind)
			require.Equal(t, len(b), size)
			r, err := ParseRecord(b)
			require.NoError(t, err)
			require.NoError(t, r.VerifyBody())
			for n := range len(b) {
				_, err := ParseRecord(b[:n])
				require.ErrorIs(t, err, ErrCorrupt, "cut to %d", n)
			}
			_, err = ParseRecord(append(slices.Clone(b), 0))
			require.Equal(t, DefectSize, err)
		})
	}
}

func TestGoldenGroup(t *testing.T) {
	b := golden(t, "group")
	r, err := ParseRecord(b)
	require.NoError(t, err)
	n, ok := r.Group()
	require.True(t, ok)
	require.Equal(t, 3, n)
	// The same bytes at another place: the property was copied there.
	b[35]++
	_, ok = r.Group()
	require.False(t, ok)
}

func TestGoldenForeign(t *testing.T) {
	r, err := ParseRecord(golden(t, "java_stale"))
	require.NoError(t, err)
	_, ok := r.Checksum()
	require.False(t, ok, "a checksum elsewhere does not count")
	require.Equal(t, DefectNoSum, r.VerifyChecksum())
	require.Equal(t, "new", r.Tag(), "the last of a name counts")
	require.Equal(t, []string{"a", "b"}, slices.Collect(r.Keys()))
	_, ok = r.Group()
	require.False(t, ok)
	require.Equal(t, "U1", r.UniqueID())

	var d Draft
	require.NoError(t, d.EncodeRecord(&r, Queue{"%RETRY%g", 0}, &Envelope{ReconsumeTimes: 1, Reserved: []Property{
		{Name: PropRetryTopic, Value: "orders"}, {Name: PropSettles, Value: " g 1 2 11", Own: true}, {Name: PropTags, Value: "other"},
	}}, PropUniqKey))
	d.Stamp(0xff, 1, 8)
	c, err := ParseRecord(d.Bytes())
	require.NoError(t, err)
	require.NoError(t, c.VerifyChecksum())
	require.Equal(t, map[string]string{
		"KEYS": "a  b", "TAGS": "other", "RETRY_TOPIC": "orders", "EMBER_SETTLES": "00000000000000ff g 1 2 11",
		"__CRC32#": string(c.PropertyBytes()[len(c.PropertyBytes())-11:][:10]),
	}, maps.Collect(c.Properties()))
	require.Equal(t, TagHash("other"), d.TagHash())
	require.Equal(t, "copy", string(c.Body()))
	require.Equal(t, int64(6), c.BornAt().UnixMilli())
	require.Equal(t, "10.0.0.1:10911", c.BornHost().String())
	rest, ok := c.OwnValue(PropSettles)
	require.True(t, ok)
	require.Equal(t, " g 1 2 11", rest)
}

func TestGoldenZlib(t *testing.T) {
	r, err := ParseRecord(golden(t, "zlib"))
	require.NoError(t, err)
	require.Equal(t, Zlib, r.Encoding(), "a compressed body without a type is zlib")
	body, err := r.Inflate(0)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("abc", 100), string(body))
	_, err = r.Inflate(299)
	require.ErrorIs(t, err, ErrTooLarge)

	var d Draft
	require.NoError(t, d.EncodeRecord(&r, Queue{"y", 1}, nil))
	d.Stamp(1, 2, 3)
	c, err := ParseRecord(d.Bytes())
	require.NoError(t, err)
	body, err = c.Inflate(300)
	require.NoError(t, err)
	require.Len(t, body, 300)
}

// The format's document shows the same bytes as the golden file.
func TestGoldenDocument(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "format", "record.md"))
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join("testdata", "golden", "v1", "v1.txt"))
	require.NoError(t, err)
	_, fields, _ := strings.Cut(string(text), "\n")
	require.Contains(t, string(doc), "```\n"+fields+"```\n")
}
