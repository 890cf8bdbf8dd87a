package producer_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

// A message keeps the trace it was sent with on its whole way: delayed, retried by
// a timer and at once, dead and redriven.
func TestTraceStaysToTheEnd(t *testing.T) {
	ctx := context.Background()
	s := openStore(t)
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "t", WriteQueues: 1}))
	p := newProducer(t, s, producer.WithTrace(func(_ context.Context, c message.Carrier) {
		c.Set("traceparent", goodTrace)
		c.Set("tracestate", "vendor=1")
	}))
	_, err := p.Send(ctx, &message.Message{Topic: "t", Delay: time.Millisecond})
	require.NoError(t, err)
	m, err := s.Groups().Join(ctx, group.Member{Group: "g", Subscriptions: map[string]string{"t": "*"}})
	require.NoError(t, err)
	seen := 0
	arrives := func(q message.Queue, offset int64) {
		t.Helper()
		w := s.Watch(nil, q)
		defer w.Close()
		for {
			if rs := readAll(t, s, q); int64(len(rs)) > offset {
				c := message.CarrierOfRecord(&rs[offset])
				require.Equal(t, goodTrace, c.Get("traceparent"))
				require.Equal(t, "vendor=1", c.Get("tracestate"))
				seen++
				return
			}
			_, err := w.Next(ctx)
			require.NoError(t, err)
		}
	}
	q, retry := message.Queue{Topic: "t"}, message.Queue{Topic: "%RETRY%g"}
	settle := func(q message.Queue, offset int64, kind message.VerdictKind, after time.Duration) {
		t.Helper()
		require.NoError(t, s.Settle(ctx, m.Claim(),
			message.Verdict{Queue: q, Offset: offset - 1, Kind: message.DoneThrough},
			message.Verdict{Queue: q, Offset: offset, Kind: kind, After: after}))
	}
	arrives(q, 0)
	settle(q, 0, message.Retry, time.Millisecond)
	arrives(retry, 0)
	settle(retry, 0, message.Retry, -1)
	arrives(retry, 1)
	settle(retry, 1, message.DeadLetter, 0)
	arrives(message.Queue{Topic: "%DLQ%g"}, 0)
	require.NoError(t, m.Leave(ctx))
	_, err = s.DeadLetters().Redrive(ctx, "g", store.Redrive{})
	require.NoError(t, err)
	arrives(q, 1)
	require.Equal(t, 5, seen)
}
