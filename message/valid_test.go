package message_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

// TestCheckAgreesWithEncode makes odd messages and asks both.
func TestCheckAgreesWithEncode(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	odd := []string{"", "a", "b c", "x||y", "\x01", "\x02z", "TAGS", "EMBER_X", "UNIQ_KEY", "é", strings.Repeat("p", 31_700)}
	pick := func() string {
		if rnd.IntN(3) > 0 {
			return "plain"
		}
		return odd[rnd.IntN(len(odd))]
	}
	for range 20_000 {
		m := &message.Message{Topic: "t", Tag: pick(), ShardingKey: pick(), UniqueID: pick(), IdempotencyKey: pick()}
		if rnd.IntN(2) == 0 {
			m.Keys = []string{pick(), pick()}
		}
		if rnd.IntN(2) == 0 {
			m.Properties = map[string]string{"p": pick(), pick(): "v"}
		}
		if rnd.IntN(4) == 0 {
			m.ReplyTo = &message.ReplyTo{Correlation: pick(), Client: pick(), TTL: time.Duration(rnd.IntN(3) - 1)}
		}
		if rnd.IntN(4) == 0 {
			m.DelayLevel, m.Delay = rnd.IntN(3)-1, time.Duration(rnd.IntN(3)-1)
		}
		if rnd.IntN(4) == 0 {
			m.ExpireAt = time.UnixMilli(rnd.Int64N(1e15))
		}
		m.Unindexed = rnd.IntN(4) == 0
		m.Encoding = message.Encoding(rnd.IntN(4))
		var d message.Draft
		encode, check := d.Encode(m, message.Queue{Topic: "t"}, nil), m.Check()
		if encode == nil {
			require.NoError(t, check, "seed %d: %+v", seed, m)
			continue
		}
		require.Error(t, check, "seed %d: %v for %+v", seed, encode, m)
	}
}

func TestCheckTopicOfMessage(t *testing.T) {
	for topic, want := range map[string]error{
		"orders": nil, "%RETRY%g": nil, "a|b": nil,
		"": message.ErrInvalidName, "a b": message.ErrInvalidName, strings.Repeat("t", 128): message.ErrInvalidName,
		"SCHEDULE_TOPIC_XXXX": message.ErrInvalidName, "RMQ_SYS_TRANS_HALF_TOPIC": message.ErrInvalidName,
		"RMQ_SYS_TRANS_OP_HALF_TOPIC": message.ErrInvalidName, "TRANS_CHECK_MAX_TIME_TOPIC": message.ErrInvalidName,
		"SELF_TEST_TOPIC": message.ErrInvalidName, "OFFSET_MOVED_EVENT": message.ErrInvalidName,
		"rmq_sys_wheel_timer": message.ErrInvalidName,
	} {
		require.ErrorIs(t, (&message.Message{Topic: topic}).Check(), want, topic)
	}
}

func BenchmarkCheckFields(b *testing.B) {
	m := &message.Message{Topic: "orders", Tag: "paid", Keys: []string{"order-1", "customer-7"},
		Properties: map[string]string{"a": "1", "b": "2", "c": "3"}, ShardingKey: "42"}
	b.ReportAllocs()
	for b.Loop() {
		if err := m.CheckFields(); err != nil {
			b.Fatal(err)
		}
	}
}
