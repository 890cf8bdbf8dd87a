package rocketmq

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/message"
)

const randomStrings = 12_000

func TestTagHashes(t *testing.T) {
	j, r := java(t), random(t, 1)
	tags := []string{"", "TagA", "Aa", "BB", "polygenelubricants", "\u0001", "😀"}
	for len(tags) < randomStrings {
		tags = append(tags, text(r, 0, 40))
	}
	theirs, err := j.TagHashes(t.Context(), tags)
	require.NoError(t, err)
	for i, tag := range tags {
		require.Equal(t, theirs[i], message.TagHash(tag), "tag %q", tag)
	}
}

func TestIndexHashes(t *testing.T) {
	j, r := java(t), random(t, 2)
	topics, keys := []string{"TopicTest", "", "a#b"}, []string{"k1", "", "c"}
	for len(keys) < randomStrings {
		topics, keys = append(topics, text(r, 1, 20)), append(keys, text(r, 1, 20))
	}
	joined := make([]string, len(keys))
	for i := range keys {
		joined[i] = topics[i] + "#" + keys[i]
	}
	theirs, err := j.IndexHashes(t.Context(), joined)
	require.NoError(t, err)
	for i := range keys {
		require.Equal(t, theirs[i], index.Hash(topics[i], keys[i]), "key %q", joined[i])
	}
}

func TestUniqueIDs(t *testing.T) {
	j, r := java(t), random(t, 3)
	ids, err := j.NewUniqueIDs(t.Context(), 100)
	require.NoError(t, err)
	for range 10_000 {
		ids = append(ids, fmt.Sprintf("%08X%04X%08X%08X%04X", r.Uint32(), r.IntN(1<<16), r.Uint32(), r.IntN(28*86_400_000), r.IntN(1<<16)))
		ids = append(ids, fmt.Sprintf("%016X%016X%04X%08X%08X%04X", r.Uint64()|1<<61, r.Uint64(), r.IntN(1<<16), r.Uint32(), r.IntN(28*86_400_000), r.IntN(1<<16)))
	}
	theirs, err := j.UniqueIDs(t.Context(), ids)
	require.NoError(t, err)
	for i, id := range ids {
		ours, err := message.ParseUniqKey(id)
		require.NoError(t, err, id)
		ip, err := netip.ParseAddr(theirs[i].IP)
		require.NoError(t, err, id)
		require.Equal(t, ip, ours.Addr, id)
		require.EqualValues(t, theirs[i].PID, ours.PID, id)
	}
}

// TestOurUniqueIDs: RocketMQ reads our ids without an exception, and one gives
// an address and a process although ours name neither.
func TestOurUniqueIDs(t *testing.T) {
	j := java(t)
	ids := message.NewIDs(time.Now)
	var all []string
	for range 1000 {
		all = append(all, ids.Next())
	}
	theirs, err := j.UniqueIDs(t.Context(), all)
	require.NoError(t, err)
	require.Len(t, theirs, len(all))
}

func TestOffsetIDs(t *testing.T) {
	j, r := java(t), random(t, 4)
	var ids []string
	var hosts []netip.AddrPort
	var positions []int64
	for i := range 10_000 {
		var a netip.Addr
		if i%2 == 0 {
			a = netip.AddrFrom4([4]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		} else {
			a = netip.AddrFrom16([16]byte{0x20, 1, byte(r.Uint32()), byte(r.Uint32()), 0, 15: byte(r.Uint32())})
		}
		hosts = append(hosts, netip.AddrPortFrom(a, uint16(r.Uint32())))
		positions = append(positions, r.Int64())
		ids = append(ids, message.OffsetID(hosts[i], positions[i]))
	}
	theirs, err := j.OffsetIDs(t.Context(), ids)
	require.NoError(t, err)
	for i, id := range ids {
		host, err := netip.ParseAddrPort(theirs[i].Host)
		require.NoError(t, err)
		require.Equal(t, hosts[i], host, id)
		require.Equal(t, positions[i], theirs[i].Position, id)
		host, position, err := message.ParseOffsetID(id)
		require.NoError(t, err)
		require.Equal(t, hosts[i], host)
		require.Equal(t, positions[i], position)
	}
}

func TestClientBatches(t *testing.T) {
	j, r := java(t), random(t, 5)
	for range 50 {
		var ms []*message.Message
		for range 1 + r.IntN(20) {
			ms = append(ms, randomMessage(r, "batch", 0))
		}
		b, err := message.AppendBatch(nil, ms...)
		require.NoError(t, err)
		theirs, err := j.DecodeBatch(t.Context(), b)
		require.NoError(t, err)
		require.Len(t, theirs, len(ms))
		i := 0
		for it, err := range message.BatchItems(b) {
			require.NoError(t, err)
			require.Equal(t, theirs[i].Flag, it.Flag)
			require.Equal(t, string(theirs[i].Body), string(it.Body))
			for name, v := range theirs[i].Properties {
				ours, _ := it.Property(name)
				require.Equal(t, v, ours, name)
			}
			require.Equal(t, wantProperties(ms[i]), theirs[i].Properties)
			i++
		}
		require.Equal(t, len(ms), i)
	}
}
