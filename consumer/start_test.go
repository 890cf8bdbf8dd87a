package consumer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

// queueLine is an engine with one queue whose records were stored a minute apart.
type queueLine struct {
	Engine
	first, end int64
	epoch      time.Time // when offset 0 was stored
	err        error
	asked      time.Time // the last time somebody searched for
}

func (l *queueLine) Bounds(message.Queue) (int64, int64, error) { return l.first, l.end, l.err }

func (l *queueLine) OffsetAt(_ message.Queue, t time.Time, _ message.Bound) (int64, error) {
	l.asked = t
	n := int64((t.Sub(l.epoch) + time.Minute - 1) / time.Minute)
	return min(max(n, l.first), l.end), nil
}

func (l *queueLine) Read(_ context.Context, q message.Queue, from int64, _ message.Limit, _ message.Filter) (message.Batch, error) {
	var d message.Draft
	if err := d.Encode(&message.Message{Topic: q.Topic}, q, nil); err != nil {
		return message.Batch{}, err
	}
	d.Stamp(0, from, l.epoch.Add(time.Duration(from)*time.Minute).UnixMilli())
	r, err := message.ParseRecord(d.Bytes())
	return message.Batch{Records: []message.Record{r}, Next: from + 1}, err
}

// TestStartTable has every cell of RocketMQ's table, and ours where we differ.
func TestStartTable(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_123)
	normal, retry := message.Queue{Topic: "orders"}, message.Queue{Topic: "%RETRY%g"}
	const none = -1
	at := func(n int64) message.Start {
		return message.AtTime(now.Add(-100 * time.Minute).Add(time.Duration(n) * time.Minute))
	}
	start := func(s message.Start) []Option { return []Option{WithStart(s)} }
	cases := []struct {
		name       string
		opts       []Option
		q          message.Queue
		stored     int64
		first, end int64
		want       int64
	}{
		{"stored_first", start(message.First()), normal, 42, 10, 100, 42},
		{"stored_last", start(message.Last()), normal, 42, 10, 100, 42},
		{"stored_time", start(at(70)), normal, 42, 10, 100, 42},
		{"stored_default", nil, normal, 42, 10, 100, 42},
		{"stored_retry_first", start(message.First()), retry, 42, 10, 100, 42},
		{"stored_retry_last", start(message.Last()), retry, 42, 10, 100, 42},
		{"stored_retry_time", start(at(70)), retry, 42, 10, 100, 42},
		{"stored_zero_is_stored", start(message.Last()), normal, 0, 0, 100, 0},
		{"stored_and_expired", start(message.Last()), normal, 3, 10, 100, 10},
		{"stored_beyond_the_end", start(message.First()), normal, 120, 10, 100, 100},

		{"none_default_is_first", nil, normal, none, 10, 100, 10},
		{"none_first", start(message.First()), normal, none, 10, 100, 10},
		{"none_first_young", start(message.First()), normal, none, 0, 100, 0},
		{"none_last", start(message.Last()), normal, none, 10, 100, 100},
		{"none_last_young", start(message.Last()), normal, none, 0, 100, 100},
		{"none_last_empty", start(message.Last()), normal, none, 0, 0, 0},
		{"none_time_between", start(at(70)), normal, none, 10, 100, 70},
		{"none_time_before_all", start(at(-5)), normal, none, 10, 100, 10},
		{"none_time_behind_all", start(at(500)), normal, none, 10, 100, 100},
		{"none_offset", start(message.At(33)), normal, none, 10, 100, 33},
		{"none_offset_expired", start(message.At(3)), normal, none, 10, 100, 10},
		{"none_offset_beyond", start(message.At(500)), normal, none, 10, 100, 100},

		{"young_queue_begins_at_zero", []Option{WithStart(message.Last()), WithYoungQueues(101 * time.Minute)}, normal, none, 0, 100, 0},
		{"queue_that_is_too_old", []Option{WithStart(message.Last()), WithYoungQueues(99 * time.Minute)}, normal, none, 0, 100, 100},
		{"young_but_the_first_expired", []Option{WithStart(message.Last()), WithYoungQueues(time.Hour * 24)}, normal, none, 1, 100, 100},
		{"young_and_empty", []Option{WithStart(message.Last()), WithYoungQueues(time.Hour * 24)}, normal, none, 0, 0, 0},

		{"retry_none_default", nil, retry, none, 10, 100, 10},
		{"retry_none_first", start(message.First()), retry, none, 10, 100, 10},
		{"retry_none_last", start(message.Last()), retry, none, 10, 100, 10},
		{"retry_none_time_is_first_with_us", start(at(70)), retry, none, 10, 100, 10},
		{"retry_none_time_of_rocketmq", []Option{WithStart(at(70)), WithRetryStart(message.Last())}, retry, none, 10, 100, 100},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := newOptions(usePush, c.opts)
			require.NoError(t, o.err())
			o.start.settle(false, now)
			e := &queueLine{first: c.first, end: c.end, epoch: now.Add(-100 * time.Minute)}
			got, err := o.start.resolve(context.Background(), e, c.q, c.stored, c.stored != none, now)
			require.NoError(t, err)
			require.Equal(t, c.want, got)

			// The row of errors: nothing is decided.
			e.err = errors.New("no answer")
			_, err = o.start.resolve(context.Background(), e, c.q, c.stored, c.stored != none, now)
			require.ErrorIs(t, err, e.err)
		})
	}
}

func TestStartTimeDefault(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_999)
	o := newOptions(usePull, []Option{WithStart(message.Start{Kind: message.StartTime})})
	o.start.settle(false, now)
	e := &queueLine{end: 100, epoch: now.Add(-100 * time.Minute)}
	_, err := o.start.resolve(context.Background(), e, message.Queue{Topic: "t"}, 0, false, now)
	require.NoError(t, err)
	require.Equal(t, time.UnixMilli(1_700_000_000_000).Add(-30*time.Minute), e.asked, "whole seconds, half an hour before")
}

func TestStartOfBroadcasting(t *testing.T) {
	e := &queueLine{first: 10, end: 100}
	for name, c := range map[string]struct {
		opts []Option
		want int64
	}{
		"news by default": {nil, 100},
		"as asked":        {[]Option{WithStart(message.First())}, 10},
	} {
		o := newOptions(usePush, c.opts)
		o.start.settle(true, time.Now())
		got, err := o.start.resolve(context.Background(), e, message.Queue{Topic: "t"}, 0, false, time.Now())
		require.NoError(t, err)
		require.Equal(t, c.want, got, name)
	}
}

func TestStartOptionsRefused(t *testing.T) {
	for name, opt := range map[string]Option{
		"negative offset":     WithStart(message.At(-1)),
		"unknown kind":        WithStart(message.Start{Kind: 99}),
		"negative age":        WithYoungQueues(-1),
		"retry start of pull": WithRetryStart(message.Last()),
	} {
		require.Error(t, newOptions(usePull, []Option{opt}).err(), name)
	}
}
