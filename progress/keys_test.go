package progress

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

// These bytes are on disk in every directory ever made.
func TestGoldenRows(t *testing.T) {
	require.Equal(t, "p/g/billing", string(groupKey("billing")))
	require.Equal(t, "p/o/billing\x00orders\x00\x00\x00\x01\x02",
		string(appendOffsetKey(nil, "billing", "orders", 258)))
	require.Equal(t, []byte{1, 0, 0, 0, 0, 0, 0, 1, 2}, encodeEpoch(258))
	require.Equal(t, []byte{1, 0, 0, 0, 0, 0, 0, 1, 2}, appendOffset(nil, 258))
	require.Equal(t, []byte{
		1, 3,
		0, 0, 0, 0, 0, 0, 0, 7,
		0, 0, 0, 0, 0, 0, 1, 0,
		0xff, 0xff, 0xff, 0xff,
		0, 0, 0, 2,
	}, encodeGroup(groupRow{epoch: 7, seen: 256,
		settings: Group{Broadcast: true, Disabled: true, RetryMax: -1, RetryQueues: 2}}))
}

func TestKeysSortByGroupTopicQueue(t *testing.T) {
	var keys [][]byte
	for _, g := range []string{"a", "a%", "a-b", "ab", "b"} {
		for _, topic := range []string{"t", "t-1", "t1"} {
			for _, id := range []int32{0, 1, 255, 256, 1<<31 - 1} {
				keys = append(keys, appendOffsetKey(nil, g, topic, id))
			}
		}
	}
	require.True(t, slices.IsSortedFunc(keys, bytes.Compare))
	inside := func(k, from, to []byte) bool {
		return bytes.Compare(k, from) >= 0 && bytes.Compare(k, to) < 0
	}
	for _, k := range keys {
		g, q, err := parseOffsetKey(k)
		require.NoError(t, err)
		for _, name := range []string{"a", "a%", "a-b", "ab", "b"} {
			from, to := groupRange(name)
			require.Equal(t, name == g, inside(k, from, to), "%q in group %s", k, name)
			from, to = topicRange(name, "t")
			require.Equal(t, name == g && q.Topic == "t", inside(k, from, to), "%q in %s t", k, name)
		}
	}
}

func TestRowsThatAreRefused(t *testing.T) {
	group := encodeGroup(groupRow{epoch: 1, settings: Group{RetryMax: 16, RetryQueues: 1}})
	with := func(b []byte, i int, v byte) []byte {
		b = bytes.Clone(b)
		b[i] = v
		return b
	}
	const g = "p/g/billing"
	const o = "p/o/billing\x00orders\x00\x00\x00\x00\x01"
	for name, c := range map[string]struct {
		key, value string
		want       error
	}{
		"epoch_empty":           {keyEpoch, "", message.ErrCorrupt},
		"epoch_short":           {keyEpoch, "\x01\x00", message.ErrCorrupt},
		"epoch_version_0":       {keyEpoch, string(with(encodeEpoch(3), 0, 0)), message.ErrCorrupt},
		"epoch_newer":           {keyEpoch, string(with(encodeEpoch(3), 0, 2)), message.ErrUnknownFormat},
		"group_no_name":         {"p/g/", string(group), message.ErrCorrupt},
		"group_zero_in_name":    {"p/g/a\x00b", string(group), message.ErrCorrupt},
		"group_short":           {g, string(group[:25]), message.ErrCorrupt},
		"group_long":            {g, string(group) + "\x00", message.ErrCorrupt},
		"group_newer":           {g, string(with(group, 0, 9)), message.ErrUnknownFormat},
		"group_flags":           {g, string(with(group, 1, 4)), message.ErrCorrupt},
		"group_retry_max":       {g, string(with(group, 18, 0x7f)), message.ErrCorrupt},
		"group_retry_max_0":     {g, string(with(group, 21, 0)), message.ErrCorrupt},
		"group_retry_queues":    {g, string(with(group, 22, 0xff)), message.ErrCorrupt},
		"group_retry_queues_0":  {g, string(with(group, 25, 0)), message.ErrCorrupt},
		"group_epoch_not_given": {g, string(with(group, 9, 6)), message.ErrCorrupt},
		"group_epoch_0":         {g, string(with(group, 9, 0)), message.ErrCorrupt},
		"offset_no_group":       {"p/o/\x00orders\x00\x00\x00\x00\x01", string(appendOffset(nil, 3)), message.ErrCorrupt},
		"offset_no_topic":       {"p/o/billing\x00\x00\x00\x00\x00\x01", string(appendOffset(nil, 3)), message.ErrCorrupt},
		"offset_no_queue":       {"p/o/billing\x00orders\x00", string(appendOffset(nil, 3)), message.ErrCorrupt},
		"offset_queue_sign":     {"p/o/billing\x00orders\x00\x80\x00\x00\x01", string(appendOffset(nil, 3)), message.ErrCorrupt},
		"offset_short":          {o, "\x01\x00", message.ErrCorrupt},
		"offset_negative":       {o, string(appendOffset(nil, -1)), message.ErrCorrupt},
		"offset_newer":          {o, string(with(appendOffset(nil, 3), 0, 3)), message.ErrUnknownFormat},
		"offset_stray_group":    {"p/o/other\x00orders\x00\x00\x00\x00\x01", string(appendOffset(nil, 3)), message.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			db := newDB(t)
			db.put(keyEpoch, string(encodeEpoch(5)))
			db.put(g, string(group))
			db.put(c.key, c.value)
			_, err := Open(bg, db, Options{Bounds: newLog().bounds, SyncLog: newLog().sync})
			require.ErrorIs(t, err, c.want)
			if c.want == message.ErrCorrupt {
				var ce *message.CorruptError
				require.ErrorAs(t, err, &ce)
				require.NotEmpty(t, ce.Path)
				require.NotEmpty(t, ce.Reason)
			}
			require.Zero(t, db.applies)
		})
	}
}

// FuzzRows takes any key and value. What a decoder accepts, the encoder writes
// back to the byte: one state has one form on disk.
func FuzzRows(f *testing.F) {
	f.Add([]byte("p/e"), encodeEpoch(9))
	f.Add(groupKey("billing"), encodeGroup(groupRow{epoch: 1, settings: Group{RetryMax: 16, RetryQueues: 1}}))
	f.Add(appendOffsetKey(nil, "billing", "orders", 3), appendOffset(nil, 41))
	f.Add([]byte("p/o/a\x00b\x00\xff\xff\xff\xff"), []byte{1, 0xff, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		typed := func(err error) bool {
			if err == nil {
				return true
			}
			if !errors.Is(err, message.ErrCorrupt) && !errors.Is(err, message.ErrUnknownFormat) {
				t.Fatalf("untyped error %v", err)
			}
			return false
		}
		if name, err := parseGroupKey(key); typed(err) {
			require.Equal(t, key, groupKey(name))
		}
		if group, q, err := parseOffsetKey(key); typed(err) {
			require.Equal(t, key, appendOffsetKey(nil, group, q.Topic, q.ID))
		}
		if epoch, err := decodeEpoch(key, value); typed(err) {
			require.Equal(t, value, encodeEpoch(epoch))
		}
		if r, err := decodeGroup(key, value); typed(err) {
			require.Equal(t, value, encodeGroup(r))
		}
		if offset, err := decodeOffset(key, value); typed(err) {
			require.Equal(t, value, appendOffset(nil, offset))
		}
	})
}
