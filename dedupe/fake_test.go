package dedupe

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/kv/kvtest"
	"github.com/embermq/embermq/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	bg      = context.Background()
	errDisk = kvtest.ErrDisk
	day     = time.UnixMilli(1_700_000_000_000)
)

// memLog is a log in memory: records one behind the other.
type memLog struct {
	records []message.Record
	start   int64 // what lies below is gone
	clock   *clock.Manual
}

func newMemLog() *memLog { return &memLog{clock: clock.NewManual(day)} }

func (l *memLog) end() int64 {
	if n := len(l.records); n > 0 {
		return l.records[n-1].Position() + int64(l.records[n-1].Size())
	}
	return 0
}

func (l *memLog) mark() message.Mark {
	if n := len(l.records); n > 0 {
		return message.Mark{Offset: l.end(), Fingerprint: l.records[n-1].Fingerprint()}
	}
	return message.Mark{}
}

// add appends a message to a queue, with more properties.
func (l *memLog) add(t testing.TB, m *message.Message, in message.Queue, more ...message.Property) *message.Record {
	t.Helper()
	var d message.Draft
	require.NoError(t, d.Encode(m, in, &message.Envelope{Reserved: more}))
	d.Stamp(l.end(), int64(len(l.records)), l.clock.Now().UnixMilli())
	r, err := message.ParseRecord(slices.Clone(d.Bytes()))
	require.NoError(t, err)
	l.records = append(l.records, r)
	return &l.records[len(l.records)-1]
}

func (l *memLog) read(position int64, r *message.Record) error {
	i, ok := slices.BinarySearchFunc(l.records, position, func(r message.Record, p int64) int { return int(r.Position() - p) })
	if !ok || position < l.start {
		return message.ErrNotFound
	}
	*r = l.records[i]
	return nil
}

func (l *memLog) open(t testing.TB, d *kvtest.Mem, window time.Duration, count int) *Window {
	t.Helper()
	w, err := New(d, Options{Window: window, Count: count, Read: l.read, Clock: l.clock, saveBytes: 100})
	require.NoError(t, err)
	return w
}

func keyed(topic, key string) *message.Message {
	return &message.Message{Topic: topic, IdempotencyKey: key}
}

// put is what the store does: claim, append, apply, answer, end.
func (l *memLog) put(t testing.TB, w *Window, m *message.Message) (r message.Receipt, stored bool) {
	t.Helper()
	c, r, err := w.Claim(bg, m.Topic, m.IdempotencyKey)
	require.NoError(t, err)
	if c == nil {
		return r, false
	}
	rec := l.add(t, m, message.Queue{Topic: m.Topic, ID: m.QueueID})
	w.Apply(rec)
	r = receiptOf(rec, m.Topic)
	c.Answer(r)
	c.End()
	return r, true
}

func numbered(i int) string { return "key-" + strconv.Itoa(i) }
