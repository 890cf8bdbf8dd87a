package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/interop"
	"github.com/embermq/embermq/interop/rocketmq/oracle"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// handOver is a store with committed offsets, delayed messages and transactions
// that a broker takes over.
type handOver struct {
	dir       string
	clock     *clock.Manual
	s         *store.Store
	committed map[int32]int64 // billing's offsets in orders
	pending   map[string]bool // bodies of delayed messages that still wait
	fired     int
	cancelled int
	levels    map[int]int // of the messages that wait; 0: to a time of their own
	undecided []string    // bodies of half messages
}

// TestBroker hands a directory to a real broker and takes it back: consumption
// goes on at the exact offsets, every delayed message that was pending arrives
// once and no other, half messages are asked about.
func TestBroker(t *testing.T) {
	t.Parallel()
	if !*brokerFlag {
		t.Skip("takes a minute: -broker runs it")
	}
	h := &handOver{dir: filepath.Join(t.TempDir(), "store")}
	h.fill(t)
	out := filepath.Join(t.TempDir(), "out")
	report, err := interop.Export(t.Context(), h.dir, out)
	require.NoError(t, err)
	require.Equal(t, len(h.pending), report.Timers+report.Levels)
	require.Equal(t, len(h.undecided), report.Halves)
	require.Empty(t, report.Warnings)
	conf := filepath.Join(t.TempDir(), "broker.conf")
	require.NoError(t, os.WriteFile(conf, []byte(strings.Join(report.Broker, "\n")+"\n"), 0o600))

	b, err := oracle.StartBroker(t.Context(), conf, "billing", "payments", "orders", "delayed", "paid")
	needJava(t, err)
	defer b.Kill()
	got := h.listen(t, b)
	for q, offsets := range got.orders {
		slices.Sort(offsets) // the consumer's threads race
		for i, offset := range offsets {
			require.Equal(t, h.committed[q]+int64(i), offset, "offsets of orders/%d", q)
		}
		require.Equal(t, int64(100), offsets[len(offsets)-1]+1)
	}
	require.Len(t, got.orders, 4)
	for body := range h.pending {
		require.Equal(t, 1, got.delayed[body], "%s", body)
	}
	require.Len(t, got.delayed, len(h.pending))
	for _, body := range h.undecided {
		require.Positive(t, got.checks[body], "check of %s", body)
		want := 1
		if strings.HasSuffix(body, "no") {
			want = 0
		}
		require.Equal(t, want, got.paid[body], "%s", body)
	}
	fmt.Printf("broker: %d delayed messages arrived once (%d by level: %v), %d had been fired and %d cancelled, %d half messages were asked about\n",
		len(h.pending), report.Levels, h.levels, h.fired, h.cancelled, len(h.undecided))

	im, err := interop.Import(t.Context(), out, store.WithRetention(0))
	require.NoError(t, err)
	require.Zero(t, im.Pending, "%+v", im)
	require.Zero(t, im.Halves, "%+v", im)
	s, err := store.Open(out, store.WithRetention(0))
	require.NoError(t, err)
	defer s.Close()
	for q := range int32(4) {
		at, ok, err := s.Committed(t.Context(), "billing", message.Queue{Topic: "orders", ID: q})
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, int64(100), at, "billing in orders/%d", q)
	}
	check, err := s.Check(t.Context())
	require.NoError(t, err)
	require.Empty(t, check.Damages)
	require.NoError(t, s.Close())
}

// fill makes the store. Its clock begins in the past and ends now.
func (h *handOver) fill(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	began := time.Now().Add(-6 * time.Minute).Truncate(time.Second)
	h.clock = clock.NewManual(began)
	e := env.Real()
	e.Clock = h.clock
	var err error
	h.s, err = store.Open(h.dir, store.WithEnvironment(e), store.WithSegmentSize(1<<20), store.WithQueueFileSize(60_000),
		store.WithIndexSizes(1000, 4000), store.WithRetention(0))
	require.NoError(t, err)
	defer h.s.Close()
	for _, name := range []string{"orders", "delayed", "paid"} {
		require.NoError(t, h.s.CreateTopic(ctx, store.Topic{Name: name, WriteQueues: 4}))
	}
	h.committed = map[int32]int64{0: 41, 1: 0, 2: 99, 3: 7}
	for i := range 400 {
		_, err := h.s.Put(ctx, &message.Message{Topic: "orders", QueueID: int32(i % 4), Body: fmt.Appendf(nil, "order-%d", i)})
		require.NoError(t, err)
	}
	h.delay(t, began)
	h.transact(t)
	// What was delivered before the export has been consumed.
	offsets := make(map[message.Queue]int64)
	for q, at := range h.committed {
		offsets[message.Queue{Topic: "orders", ID: q}] = at
		for _, topic := range []string{"delayed", "paid"} {
			_, end, err := h.s.Bounds(message.Queue{Topic: topic, ID: q})
			require.NoError(t, err)
			offsets[message.Queue{Topic: topic, ID: q}] = end
		}
	}
	require.NoError(t, h.s.Commit(ctx, "billing", offsets))
	require.NoError(t, h.s.Close())
}

// delay puts 1,000 delayed messages in the six minutes before now: by nine levels
// and to times of their own, due from then to 40 seconds from now, some of the
// latter cancelled. While the puts take less than that, of most levels some wait.
func (h *handOver) delay(t *testing.T, began time.Time) {
	t.Helper()
	ctx := t.Context()
	h.pending, h.levels = make(map[string]bool), make(map[int]int)
	now := time.Now().Truncate(time.Millisecond)
	last := now.Add(40 * time.Second)
	table := []time.Duration{time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute}
	due := make(map[string]time.Time)
	level := make(map[string]int)
	for i := range 1000 {
		h.clock.Set(began.Add(time.Duration(i) * now.Sub(began) / 1000).Truncate(time.Millisecond))
		m := &message.Message{Topic: "delayed", QueueID: int32(i % 4), Body: fmt.Appendf(nil, "m%d", i)}
		if i%2 == 0 {
			m.DelayLevel = 1 + i/2%len(table)
			due[string(m.Body)] = h.clock.Now().Add(table[m.DelayLevel-1])
			level[string(m.Body)] = m.DelayLevel
			if due[string(m.Body)].After(last) {
				m.DelayLevel = 3 // no test waits for minutes
				due[string(m.Body)], level[string(m.Body)] = h.clock.Now().Add(table[2]), 3
			}
		} else {
			m.DeliverAt = h.clock.Now().Add(time.Duration(1+i*7919%25_000) * time.Millisecond)
			if i%3 == 0 {
				m.DeliverAt = now.Add(time.Duration(i*7919%40_000) * time.Millisecond)
			}
			due[string(m.Body)] = m.DeliverAt
		}
		r, err := h.s.Put(ctx, m)
		require.NoError(t, err)
		if i%10 == 3 {
			how, err := h.s.Timers().Cancel(ctx, r.Timer)
			require.NoError(t, err)
			if how.String() == "cancelled" {
				delete(due, string(m.Body))
				h.cancelled++
			}
		}
	}
	h.clock.Set(time.Now())
	for body, at := range due {
		if at.After(h.clock.Now()) {
			h.pending[body] = true
			h.levels[level[body]]++
		} else {
			h.fired++
		}
	}
	require.GreaterOrEqual(t, len(h.levels), 1+4, "times and four levels: %v", h.levels)
	require.Positive(t, h.levels[0], "%v", h.levels)
	require.Eventually(t, func() bool { return h.s.Timers().Len() == int64(len(h.pending)) }, 20*time.Second, 10*time.Millisecond,
		"%d pending", len(h.pending))
}

// transact leaves half messages without a verdict between others that have one.
func (h *handOver) transact(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for i := range 12 {
		body := fmt.Sprintf("pay-%d-%s", i, []string{"yes", "no"}[i/3%2])
		_, id, err := h.s.Halves().Prepare(ctx, &message.Message{Topic: "paid", Body: []byte(body)}, "payments", message.HalfOptions{})
		require.NoError(t, err)
		switch i % 3 {
		case 0:
			_, _, err = h.s.Halves().Commit(ctx, id)
		case 1:
			_, err = h.s.Halves().Rollback(ctx, id)
		default:
			h.undecided = append(h.undecided, body)
		}
		require.NoError(t, err)
	}
}

// received is what came out of the broker.
type received struct {
	orders  map[int32][]int64
	delayed map[string]int
	paid    map[string]int
	checks  map[string]int
}

// listen waits until everything has arrived, and then a little longer for what
// must not.
func (h *handOver) listen(t *testing.T, b *oracle.Broker) received {
	t.Helper()
	got := received{make(map[int32][]int64), make(map[string]int), make(map[string]int), make(map[string]int)}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	stopped := false
	quiet := time.NewTimer(time.Hour)
	for {
		select {
		case <-ctx.Done():
			require.NoError(t, errors.New("not everything has arrived"), "%d of %d delayed, checks %v, paid %v, orders %d\n%s",
				len(got.delayed), len(h.pending), got.checks, got.paid, len(got.orders), b.Stderr())
		case <-quiet.C:
			require.NoError(t, b.Stop())
			stopped = true
		case line, ok := <-b.Lines:
			if !ok {
				require.True(t, stopped, "the broker ended:\n%s", b.Stderr())
				return got
			}
			got.add(t, line)
			if h.complete(&got) && !stopped {
				quiet.Reset(4 * time.Second)
			}
		}
	}
}

func (r *received) add(t *testing.T, line string) {
	t.Helper()
	var topic, body string
	var queue int32
	var offset int64
	if body, ok := strings.CutPrefix(line, "check "); ok {
		r.checks[body]++
		return
	}
	if n, _ := fmt.Sscanf(line, "got %s %d %d %s", &topic, &queue, &offset, &body); n != 4 {
		return
	}
	switch topic {
	case "orders":
		r.orders[queue] = append(r.orders[queue], offset)
	case "delayed":
		r.delayed[body]++
	case "paid":
		r.paid[body]++
	}
}

func (h *handOver) complete(r *received) bool {
	orders := 0
	for _, offsets := range r.orders {
		orders += len(offsets)
	}
	return len(r.delayed) >= len(h.pending) && len(r.checks) >= len(h.undecided) && orders >= 400-41-99-7
}
