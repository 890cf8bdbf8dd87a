package rocketmq

import (
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/interop/rocketmq/oracle"
	"github.com/embermq/embermq/message"
)

// randomMessage returns a message with everything that f allows.
func randomMessage(r *rand.Rand, topic string, f features) *message.Message {
	m := &message.Message{Topic: topic, Body: bytesOf(r, r.IntN(300))}
	if f.has(emptyBodies) && r.IntN(3) == 0 {
		m.Body = nil
	}
	if f.has(largeBodies) && r.IntN(10) == 0 {
		m.Body = bytesOf(r, 20<<10+r.IntN(45<<10))
	}
	if f.has(tags) && r.IntN(4) > 0 {
		m.Tag = []string{"TagA", "TagB", "Aa", "BB", "a b"}[r.IntN(5)]
	}
	if f.has(keys) && r.IntN(4) > 0 {
		for range 1 + r.IntN(3) {
			m.Keys = append(m.Keys, "key-"+strconv.Itoa(r.IntN(40)))
		}
	}
	if f.has(properties) {
		m.Properties = make(map[string]string)
		for range r.IntN(5) {
			m.Properties["p"+strconv.Itoa(r.IntN(20))] = strings.Repeat("v", 1+r.IntN(30))
		}
		if r.IntN(3) == 0 {
			m.ShardingKey, m.IdempotencyKey = "shard-"+strconv.Itoa(r.IntN(9)), strconv.Itoa(r.IntN(1e6))
		}
		if r.IntN(3) == 0 {
			m.ExpireAt = time.UnixMilli(1_900_000_000_000 + r.Int64N(1e9))
		}
		m.Flag = int32(r.Uint32())
	}
	if f.has(unicode) {
		if f.has(tags) {
			m.Tag = strings.ReplaceAll(text(r, 1, 20), "||", "|_")
		}
		if f.has(keys) {
			m.Keys = append(m.Keys, word(r))
		}
		if m.Properties == nil {
			m.Properties = make(map[string]string)
		}
		m.Properties["ü"+text(r, 1, 8)] = text(r, 1, 30)
	}
	if f.has(compressed) && r.IntN(2) == 0 {
		m.Encoding = []message.Encoding{message.Zlib, message.Zstd}[r.IntN(2)]
		b, err := message.Compress(nil, m.Body, m.Encoding)
		if err != nil {
			panic(err) // a bug in this test's helper process, too
		}
		m.Body = b
	}
	return m
}

// wantProperties are the properties that a message is stored with, but for
// what the store adds.
func wantProperties(m *message.Message) map[string]string {
	p := maps.Clone(m.Properties)
	if p == nil {
		p = make(map[string]string)
	}
	for name, v := range map[string]string{
		"TAGS": m.Tag, "KEYS": strings.Join(m.Keys, " "), "__SHARDINGKEY": m.ShardingKey, "__IDEMPOTENCYKEY": m.IdempotencyKey,
	} {
		if v != "" {
			p[name] = v
		}
	}
	if !m.ExpireAt.IsZero() {
		p["__EXPIRE_AT"] = strconv.FormatInt(m.ExpireAt.UnixMilli(), 10)
	}
	return p
}

// ownProperties are what a store of ours adds to a user's message.
var ownProperties = []string{message.PropCRC, message.PropGroup, message.PropUniqKey}

// equalRecord compares what Java decodes with what we do, field by field.
func equalRecord(t *testing.T, theirs *oracle.Record, ours *message.Record) {
	t.Helper()
	require.NotNil(t, theirs, "Java refuses the record")
	require.Equal(t, theirs.Topic, ours.Topic())
	require.Equal(t, theirs.Queue, ours.QueueID())
	require.Equal(t, theirs.Offset, ours.Offset())
	require.Equal(t, theirs.Position, ours.Position())
	require.Equal(t, theirs.Size, ours.Size())
	require.Equal(t, theirs.Flag, ours.Flag())
	require.Equal(t, theirs.SysFlag, ours.SysFlag())
	require.Equal(t, theirs.BornAt, ours.BornAt().UnixMilli())
	require.Equal(t, hostOf(t, theirs.BornHost), ours.BornHost())
	require.Equal(t, theirs.StoredAt, ours.StoredAtMillis())
	require.Equal(t, hostOf(t, theirs.StoreHost), ours.StoreHost())
	require.Equal(t, theirs.ReconsumeTimes, ours.ReconsumeTimes())
	require.Equal(t, theirs.PreparedOffset, ours.PreparedOffset())
	if theirs.Raw == nil {
		require.Equal(t, string(theirs.Body), string(ours.Body()))
	} else {
		require.Equal(t, theirs.ComputedCRC, crc32.ChecksumIEEE(ours.Body())&math.MaxInt32)
		require.Equal(t, theirs.Raw, ours.Bytes())
	}
	require.NoError(t, ours.VerifyBody())
	require.Equal(t, theirs.Properties, maps.Collect(ours.Properties()))
	require.Equal(t, theirs.MsgID, message.OffsetID(ours.StoreHost(), ours.Position()))
}

func hostOf(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	h, err := netip.ParseAddrPort(s)
	require.NoError(t, err)
	return h
}

// TestDraftsDecode: Java's decoder and Java's recovery take the records that our
// encoder makes, and see in them what we put in.
func TestDraftsDecode(t *testing.T) {
	j := java(t)
	v4, v6 := netip.MustParseAddrPort("10.1.2.3:10911"), netip.MustParseAddrPort("[2001:db8::1:2]:65535")
	long := "%RETRY%" + strings.Repeat("g", 200)
	type row struct {
		name     string
		m        message.Message
		e        message.Envelope
		topic    string
		inflated []byte
	}
	rows := []row{
		{name: "empty"},
		{name: "unicode", m: message.Message{Tag: "标签😀", Keys: []string{"ключ", "鍵", "k"}, Properties: map[string]string{"имя😀": "значение 𝒳", "z": " "}}},
		{name: "v1 longest topic", topic: strings.Repeat("t", 127)},
		{name: "v2 shortest topic", topic: strings.Repeat("t", 128)},
		{name: "v2 longest topic", topic: long + strings.Repeat("g", 48)},
		{name: "born v6", e: message.Envelope{BornHost: v6, StoreHost: v4}},
		{name: "store v6", e: message.Envelope{BornHost: v4, StoreHost: v6}},
		{name: "both v6, v2", topic: long, e: message.Envelope{BornHost: v6, StoreHost: v6}, m: message.Message{Body: []byte("x")}},
		{name: "flags", m: message.Message{Flag: -1}, e: message.Envelope{ReconsumeTimes: 15, PreparedOffset: 1 << 40, SysFlag: message.FlagCommit, BornAt: 7}},
		{name: "reserved", e: message.Envelope{Reserved: []message.Property{{Name: "UNIQ_KEY", Value: "7F000001"}, {Name: message.PropGroup, Value: message.GroupValue(3), Own: true}}}},
		{name: "many properties", m: message.Message{Properties: manyProperties(300)}},
		{name: "every field", m: message.Message{Tag: "t", Keys: []string{"a", "b"}, ShardingKey: "s", IdempotencyKey: "i", ExpireAt: time.UnixMilli(1_800_000_000_123), Properties: map[string]string{"a": "1", "B": "2"}}},
	}
	for _, n := range []int{0, 1, 2, 3, 255, 256, 4095, 4096, 65_535, 65_536} {
		rows = append(rows, row{name: fmt.Sprintf("body %d", n), m: message.Message{Body: []byte(strings.Repeat("b", n))}})
		for _, enc := range []message.Encoding{message.Zlib, message.Zstd} {
			plain := []byte(strings.Repeat("compress me ", n/12+1))
			b, err := message.Compress(nil, plain, enc)
			require.NoError(t, err)
			rows = append(rows, row{name: fmt.Sprintf("%v body %d", enc, n), m: message.Message{Body: b, Encoding: enc}, inflated: plain})
		}
	}
	r := random(t, 6)
	for i := range 300 {
		rows = append(rows, row{name: fmt.Sprintf("random %d", i), m: *randomMessage(r, "", features(r.Uint32()))})
	}

	store, err := j.Open(t.Context(), oracle.Config{Dir: t.TempDir(), Segment: 1 << 20, QueueFile: 6000, Slots: 100, Entries: 400, AppendCRC: true, ForceCRC: true})
	require.NoError(t, err)
	require.True(t, store.Loaded)
	t.Cleanup(func() { require.NoError(t, store.Close(background())) })

	var drafts [][]byte
	for i := range rows {
		var d message.Draft
		topic := rows[i].topic
		if topic == "" {
			topic = "topic"
		}
		require.NoError(t, d.Encode(&rows[i].m, message.Queue{Topic: topic, ID: int32(i)}, &rows[i].e), rows[i].name)
		d.Stamp(int64(i)<<33, int64(i)<<31, 1_700_000_000_000+int64(i))
		drafts = append(drafts, slices.Clone(d.Bytes()))
	}
	theirs, err := j.Decode(t.Context(), drafts)
	require.NoError(t, err)
	sizes, err := store.Check(t.Context(), drafts)
	require.NoError(t, err)
	for i := range rows {
		ours, err := message.ParseRecord(drafts[i])
		require.NoError(t, err, rows[i].name)
		equalRecord(t, theirs[i], &ours)
		require.Equal(t, len(drafts[i]), sizes[i], "%s: Java's recovery refuses the record", rows[i].name)
		if rows[i].inflated != nil {
			require.Equal(t, string(rows[i].inflated), string(theirs[i].Inflated), rows[i].name)
		}
	}

	// The same records with one bit changed anywhere: Java with the checksum
	// refuses all of them, so every bit of a record of ours is covered.
	var bad [][]byte
	for _, b := range drafts[:40] {
		b = slices.Clone(b)
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		bad = append(bad, b)
	}
	sizes, err = store.Check(t.Context(), bad)
	require.NoError(t, err)
	for i, size := range sizes {
		ours, err := message.ParseRecord(bad[i])
		if err == nil {
			err = ours.VerifyChecksum()
		}
		require.Error(t, err, "row %d", i)
		require.Equal(t, -1, size, "row %d", i)
	}
}

func manyProperties(n int) map[string]string {
	p := make(map[string]string)
	for i := range n {
		p[fmt.Sprintf("name-%d", i)] = strings.Repeat("x", 1+i%60)
	}
	return p
}
