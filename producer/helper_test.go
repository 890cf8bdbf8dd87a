package producer_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openStore opens a store that is closed with the test.
func openStore(tb testing.TB, opts ...store.Option) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.TempDir(), opts...)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return s
}

func newProducer(tb testing.TB, e producer.Engine, opts ...producer.Option) *producer.Producer {
	tb.Helper()
	p := producer.New(e, opts...)
	tb.Cleanup(func() { require.NoError(tb, p.Close(context.Background())) })
	return p
}

// fake is an engine in memory. fail is asked about every message before it is
// stored; stall holds answers back.
type fake struct {
	queues int
	fail   func(m *message.Message, attempt int) error

	mu       sync.Mutex
	logs     map[message.Queue][]message.Message
	attempts map[string]int
	tried    []message.Message
	batches  []int
	position int64
	stalled  []func()
	stall    bool
	held     int // stalled messages, now and at most
	peak     int
}

func newFake(queues int) *fake {
	return &fake{queues: queues, logs: make(map[message.Queue][]message.Message), attempts: make(map[string]int)}
}

func (f *fake) QueueCount(topic string) (int, error) {
	if topic == "missing" {
		return 0, message.ErrNotFound
	}
	return f.queues, nil
}

func (f *fake) store(ms []*message.Message) ([]message.Receipt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range ms {
		f.tried = append(f.tried, *m)
		id := string(m.Body)
		f.attempts[id]++
		if f.fail != nil {
			if err := f.fail(m, f.attempts[id]); err != nil {
				return nil, err
			}
		}
	}
	var rs []message.Receipt
	for _, m := range ms {
		q := message.Queue{Topic: m.Topic, ID: m.QueueID}
		f.logs[q] = append(f.logs[q], *m)
		f.position++
		rs = append(rs, message.Receipt{Queue: q, Offset: int64(len(f.logs[q]) - 1), Position: f.position})
	}
	f.batches = append(f.batches, len(ms))
	return rs, nil
}

func (f *fake) Put(ctx context.Context, m *message.Message) (message.Receipt, error) {
	rs, err := f.PutBatch(ctx, []*message.Message{m})
	if err != nil {
		return message.Receipt{}, err
	}
	return rs[0], nil
}

func (f *fake) PutBatch(ctx context.Context, ms []*message.Message) ([]message.Receipt, error) {
	if f.isStalled() {
		<-ctx.Done()
		return nil, fmt.Errorf("fake: %w", ctx.Err())
	}
	return f.store(ms)
}

func (f *fake) isStalled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stall
}

func (f *fake) PutAsync(_ context.Context, m *message.Message) *message.Pending {
	p := message.NewPending()
	c := *m
	answer := func() {
		rs, err := f.store([]*message.Message{&c})
		if err != nil {
			p.Resolve(message.Receipt{}, err)
			return
		}
		p.Resolve(rs[0], nil)
	}
	f.mu.Lock()
	if f.stall {
		f.stalled = append(f.stalled, answer)
		f.held++
		f.peak = max(f.peak, f.held)
		f.mu.Unlock()
		return p
	}
	f.mu.Unlock()
	answer()
	return p
}

// release answers what was stalled.
func (f *fake) release() {
	f.mu.Lock()
	f.stall, f.held = false, 0
	answers := f.stalled
	f.stalled = nil
	f.mu.Unlock()
	for _, a := range answers {
		a()
	}
}

// bodies are what a queue holds.
func (f *fake) bodies(q message.Queue) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, m := range f.logs[q] {
		out = append(out, string(m.Body))
	}
	return out
}

func (f *fake) all() (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.logs {
		for _, m := range l {
			out = append(out, string(m.Body))
		}
	}
	return out
}

// readAll reads a queue of a store.
func readAll(tb testing.TB, s *store.Store, q message.Queue) (out []message.Record) {
	tb.Helper()
	start, end, err := s.Bounds(q)
	require.NoError(tb, err)
	for at := start; at < end; {
		b, err := s.Read(context.Background(), q, at, message.Limit{Count: 1000}, nil)
		require.NoError(tb, err)
		out, at = append(out, b.Records...), b.Next
	}
	return out
}
