package producer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

func msg(body string) *message.Message {
	return &message.Message{Topic: "t", Body: []byte(body)}
}

func keyed(key, body string) *message.Message {
	return &message.Message{Topic: "t", ShardingKey: key, Body: []byte(body)}
}

// Every rule about a message is an error of its own type, nothing is stored, and
// nothing is tried again.
func TestValidation(t *testing.T) {
	big := make([]byte, 4<<20+1)
	cases := []struct {
		name string
		m    *message.Message
		want error
	}{
		{"nil", nil, message.ErrInvalidMessage},
		{"empty_topic", &message.Message{}, message.ErrInvalidName},
		{"blank_topic", &message.Message{Topic: " "}, message.ErrInvalidName},
		{"topic_characters", &message.Message{Topic: "a/b"}, message.ErrInvalidName},
		{"long_topic", &message.Message{Topic: strings.Repeat("t", 128)}, message.ErrInvalidName},
		{"long_retry_topic", &message.Message{Topic: "%RETRY%" + strings.Repeat("t", 249)}, message.ErrInvalidName},
		{"schedule_topic", &message.Message{Topic: "SCHEDULE_TOPIC_XXXX"}, message.ErrInvalidName},
		{"half_topic", &message.Message{Topic: "RMQ_SYS_TRANS_HALF_TOPIC"}, message.ErrInvalidName},
		{"op_topic", &message.Message{Topic: "RMQ_SYS_TRANS_OP_HALF_TOPIC"}, message.ErrInvalidName},
		{"check_topic", &message.Message{Topic: "TRANS_CHECK_MAX_TIME_TOPIC"}, message.ErrInvalidName},
		{"self_test_topic", &message.Message{Topic: "SELF_TEST_TOPIC"}, message.ErrInvalidName},
		{"offset_topic", &message.Message{Topic: "OFFSET_MOVED_EVENT"}, message.ErrInvalidName},
		{"large_body", &message.Message{Topic: "t", Body: big}, message.ErrTooLarge},
		{"reserved_property", &message.Message{Topic: "t", Properties: map[string]string{"KEYS": "x"}}, message.ErrInvalidMessage},
		{"own_property", &message.Message{Topic: "t", Properties: map[string]string{"EMBER_X": "x"}}, message.ErrInvalidMessage},
		{"empty_value", &message.Message{Topic: "t", Properties: map[string]string{"a": ""}}, message.ErrInvalidMessage},
		{"separator", &message.Message{Topic: "t", Properties: map[string]string{"a": "\x01"}}, message.ErrInvalidMessage},
		{"large_properties", &message.Message{Topic: "t", Properties: map[string]string{"a": strings.Repeat("x", 32_000)}}, message.ErrTooLarge},
		{"key_with_space", &message.Message{Topic: "t", Keys: []string{"a b"}}, message.ErrInvalidMessage},
		{"tag", &message.Message{Topic: "t", Tag: "a||b"}, message.ErrInvalidMessage},
		{"two_delays", &message.Message{Topic: "t", Delay: 1, DelayLevel: 1}, message.ErrInvalidMessage},
		{"level", &message.Message{Topic: "t", DelayLevel: 19}, message.ErrInvalidMessage},
		{"negative_delay", &message.Message{Topic: "t", Delay: -1}, message.ErrInvalidMessage},
		{"durability", &message.Message{Topic: "t", Durability: 9}, message.ErrInvalidMessage},
		{"unique_id", &message.Message{Topic: "t", UniqueID: "a b"}, message.ErrInvalidMessage},
	}
	ctx := context.Background()
	s := openStore(t)
	hooked := 0
	p := newProducer(t, s, producer.OnSendFailure(func(context.Context, *message.Message, error) { hooked++ }))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := p.Send(ctx, c.m)
			require.ErrorIs(t, err, c.want)
			require.NotErrorIs(t, err, producer.ErrUnknownOutcome)
			_, err = p.SendBatch(ctx, []*message.Message{msg("good"), c.m})
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, "message 1 of the batch")
			if c.name != "level" { // only the engine knows its table
				var async error
				p.SendAsync(ctx, withKey(c.m), func(_ message.Receipt, err error) { async = err })
				require.ErrorIs(t, async, c.want, "told at once")
				require.ErrorIs(t, p.SendOneWay(withKey(c.m)), c.want)
			}
		})
	}
	require.Zero(t, s.Stats().Puts)
	require.Zero(t, hooked, "a message at fault is its sender's affair")
	_, err := p.Send(ctx, &message.Message{Topic: "t"})
	require.NoError(t, err, "an empty body is legal")

	p = newProducer(t, s, producer.WithCallerQueue())
	_, err = p.Send(ctx, &message.Message{Topic: "t", QueueID: -1})
	require.ErrorIs(t, err, message.ErrInvalidMessage)
	_, err = p.Send(ctx, &message.Message{Topic: "t", QueueID: 4})
	require.ErrorIs(t, err, message.ErrNotFound)
	r, err := p.Send(ctx, &message.Message{Topic: "t", QueueID: 3})
	require.NoError(t, err)
	require.Equal(t, int32(3), r.Queue.ID)
}

// withKey makes a message one of a lane, where all of it is validated at once.
func withKey(m *message.Message) *message.Message {
	if m == nil {
		return nil
	}
	c := *m
	c.ShardingKey = "k"
	return &c
}

func TestOptionErrors(t *testing.T) {
	p := producer.New(newFake(1), producer.WithRetries(-1), producer.WithLinger(0, 1), producer.WithResend(time.Second),
		producer.WithSelector(producer.Selector{}), producer.WithCompression(message.LZ4, 0), producer.WithInFlight(0, 1))
	_, err := p.Send(context.Background(), msg("x"))
	for _, name := range []string{"WithRetries", "WithLinger", "WithResend", "WithSelector", "WithCompression", "WithInFlight"} {
		require.ErrorContains(t, err, name)
	}
	require.NoError(t, p.Close(context.Background()))
	p = producer.New(nil)
	require.Error(t, p.SendOneWay(msg("x")))
	require.NoError(t, p.Close(context.Background()))
}

// timeout is how engines of other kinds say it.
type timeout struct{}

func (timeout) Error() string { return "i/o timeout" }
func (timeout) Timeout() bool { return true }

func TestRetries(t *testing.T) {
	busy := fmt.Errorf("full: %w", message.ErrBusy)
	cases := []struct {
		name     string
		errs     []error // of the attempts; the next one succeeds
		m        *message.Message
		opts     []producer.Option
		attempts int
		want     error // nil: stored
		unknown  bool
		moves    bool
	}{
		{"busy_once", []error{busy}, msg("x"), nil, 2, nil, false, true},
		{"busy_twice", []error{busy, busy}, msg("x"), nil, 3, nil, false, true},
		{"busy_thrice", []error{busy, busy, busy}, msg("x"), nil, 3, message.ErrBusy, false, true},
		{"timeout", []error{timeout{}}, msg("x"), nil, 2, nil, false, true},
		{"engine_deadline", []error{context.DeadlineExceeded}, msg("x"), nil, 2, nil, false, true},
		{"file_deadline", []error{os.ErrDeadlineExceeded}, msg("x"), nil, 2, nil, false, true},
		{"timeout_thrice", []error{timeout{}, timeout{}, timeout{}}, msg("x"), nil, 3, timeout{}, true, true},
		{"timeout_then_busy", []error{timeout{}, busy, busy}, msg("x"), nil, 3, message.ErrBusy, true, true},
		{"timeout_then_invalid", []error{timeout{}, &message.InvalidError{}}, msg("x"), nil, 2, message.ErrInvalidMessage, true, true},
		{"invalid", []error{&message.InvalidError{}}, msg("x"), nil, 1, message.ErrInvalidMessage, false, false},
		{"too_large", []error{&message.SizeError{}}, msg("x"), nil, 1, message.ErrTooLarge, false, false},
		{"not_found", []error{message.ErrNotFound}, msg("x"), nil, 1, message.ErrNotFound, false, false},
		{"disk_full", []error{message.ErrDiskFull}, msg("x"), nil, 1, message.ErrDiskFull, false, false},
		{"poisoned", []error{message.ErrPoisoned}, msg("x"), nil, 1, message.ErrPoisoned, true, false},
		{"strange", []error{errors.New("reset by peer")}, msg("x"), nil, 1, nil, true, false},
		{"no_retries", []error{busy}, msg("x"), []producer.Option{producer.WithRetries(0)}, 1, message.ErrBusy, false, false},
		{"key_stays", []error{busy, busy}, keyed("k", "x"), nil, 3, nil, false, false},
		{"caller_stays", []error{busy, busy}, msg("x"), []producer.Option{producer.WithCallerQueue()}, 3, nil, false, false},
		{"function_stays", []error{busy, busy}, msg("x"), []producer.Option{producer.WithSelector(producer.ByFunc(
			func(qs []message.Queue, _ *message.Message) (message.Queue, error) { return qs[2], nil }))}, 3, nil, false, false},
	}
	for _, c := range cases {
		for _, way := range []string{"Send", "SendAsync", "SendBatch", "linger"} {
			t.Run(c.name+"/"+way, func(t *testing.T) {
				f := newFake(4)
				f.fail = func(_ *message.Message, attempt int) error {
					if attempt <= len(c.errs) {
						return c.errs[attempt-1]
					}
					return nil
				}
				opts := c.opts
				if way == "linger" {
					opts = append(opts[:len(opts):len(opts)], producer.WithLinger(time.Millisecond, 0))
				}
				p := newProducer(t, f, opts...)
				_, err := sendBy(p, way, c.m)
				if c.attempts > len(c.errs) {
					require.NoError(t, err)
					require.Len(t, f.all(), 1)
				} else {
					require.Error(t, err)
					require.Empty(t, f.all())
					if c.want != nil {
						require.ErrorIs(t, err, c.want)
					}
					require.Equal(t, c.unknown, errors.Is(err, producer.ErrUnknownOutcome))
				}
				require.Len(t, f.tried, c.attempts)
				for i := 1; i < len(f.tried); i++ {
					want := f.tried[i-1].QueueID
					if c.moves {
						want = (want + 1) % 4
					}
					require.Equal(t, want, f.tried[i].QueueID)
				}
			})
		}
	}
}

// sendBy sends one message and waits for the outcome.
func sendBy(p *producer.Producer, way string, m *message.Message) (r message.Receipt, err error) {
	ctx := context.Background()
	switch way {
	case "Send":
		return p.Send(ctx, m)
	case "SendBatch":
		rs, err := p.SendBatch(ctx, []*message.Message{m})
		if len(rs) == 1 {
			r = rs[0]
		}
		return r, err
	}
	done := make(chan struct{})
	p.SendAsync(ctx, m, func(got message.Receipt, e error) { r, err = got, e; close(done) })
	<-done
	return r, err
}

// All attempts share one budget, and a send that ends with it says that nobody
// knows.
func TestBudget(t *testing.T) {
	for _, way := range []string{"Send", "SendAsync", "SendBatch", "linger"} {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(4)
				f.stall = true
				opts := []producer.Option{producer.WithUniqueID()}
				if way == "linger" {
					opts = append(opts, producer.WithLinger(time.Millisecond, 0))
				}
				p := producer.New(f, opts...)
				began := time.Now()
				_, err := sendBy(p, way, msg("x"))
				require.Equal(t, 3*time.Second, time.Since(began))
				var unknown *producer.UnknownError
				require.ErrorAs(t, err, &unknown)
				require.Len(t, unknown.ID, 32)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Contains(t, err.Error(), unknown.ID)
				f.release()
				require.NoError(t, p.Close(context.Background()))
			})
		})
	}
}

// With a unique id a query answers what the error could not: stored or not.
// The context ends at every point of a send that an engine can tell apart.
func TestUnknownOutcomeIsAnswered(t *testing.T) {
	for _, way := range []string{"Send", "SendAsync", "SendBatch", "linger"} {
		for _, point := range []string{"before", "during_lost", "during_stored", "after"} {
			t.Run(way+"/"+point, func(t *testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				e := &cutEngine{Store: openStore(t), point: point, cancel: cancel}
				opts := []producer.Option{producer.WithUniqueID()}
				if way == "linger" {
					opts = append(opts, producer.WithLinger(time.Millisecond, 0))
				}
				p := newProducer(t, e, opts...)
				if point == "before" {
					cancel()
				}
				done := make(chan error, 1)
				switch way {
				case "Send":
					_, err := p.Send(ctx, msg("x"))
					done <- err
				case "SendBatch":
					_, err := p.SendBatch(ctx, []*message.Message{msg("x")})
					done <- err
				default:
					p.SendAsync(ctx, msg("x"), func(_ message.Receipt, err error) { done <- err })
				}
				err := <-done
				stored := len(e.ids) > 0
				switch {
				case err == nil:
					require.True(t, stored)
				case point == "before":
					require.ErrorIs(t, err, context.Canceled)
					require.NotErrorIs(t, err, producer.ErrUnknownOutcome)
					require.False(t, stored)
				default:
					var unknown *producer.UnknownError
					require.ErrorAs(t, err, &unknown)
					require.Equal(t, stored, e.find(t, unknown.ID))
					require.Equal(t, point == "during_stored", stored)
				}
			})
		}
	}
}

// cutEngine ends the sender's context at a point of its choice.
type cutEngine struct {
	*store.Store
	point  string
	cancel func()
	ids    []string
}

func (e *cutEngine) cut(m *message.Message, put func() error) error {
	if e.point == "during_lost" {
		e.cancel()
		return context.Canceled
	}
	if err := put(); err != nil {
		return err
	}
	e.ids = append(e.ids, m.UniqueID)
	if e.point == "during_stored" {
		e.cancel()
		return context.Canceled
	}
	return nil
}

func (e *cutEngine) Put(ctx context.Context, m *message.Message) (r message.Receipt, err error) {
	err = e.cut(m, func() error { r, err = e.Store.Put(ctx, m); return err })
	return r, err
}

func (e *cutEngine) PutBatch(ctx context.Context, ms []*message.Message) (rs []message.Receipt, err error) {
	err = e.cut(ms[0], func() error { rs, err = e.Store.PutBatch(ctx, ms); return err })
	return rs, err
}

func (e *cutEngine) PutAsync(ctx context.Context, m *message.Message) *message.Pending {
	p := message.NewPending()
	p.Resolve(e.Put(ctx, m))
	return p
}

func (e *cutEngine) find(t *testing.T, id string) bool {
	t.Helper()
	for q := range int32(4) {
		if _, _, err := e.Bounds(message.Queue{Topic: "t", ID: q}); err != nil {
			continue
		}
		for _, r := range readAll(t, e.Store, message.Queue{Topic: "t", ID: q}) {
			if r.UniqueID() == id {
				return true
			}
		}
	}
	return false
}

func TestSendLeavesTheMessageAlone(t *testing.T) {
	f := newFake(4)
	p := newProducer(t, f, producer.WithUniqueID(), producer.WithDedupe(nil), producer.WithCompression(message.Zstd, 1))
	m := &message.Message{Topic: "t", QueueID: 99, Body: make([]byte, 100)}
	before := *m
	for _, way := range []string{"Send", "SendAsync", "SendBatch"} {
		_, err := sendBy(p, way, m)
		require.NoError(t, err)
		require.Equal(t, before, *m)
	}
	for _, sent := range f.tried {
		require.Len(t, sent.UniqueID, 32)
		require.Len(t, sent.IdempotencyKey, 32)
		require.Equal(t, message.Zstd, sent.Encoding)
		require.Less(t, len(sent.Body), 100)
	}
}

// The names of a message are given once and stay through its attempts.
func TestNamesStay(t *testing.T) {
	f := newFake(4)
	f.fail = func(_ *message.Message, n int) error {
		if n < 3 {
			return message.ErrBusy
		}
		return nil
	}
	keys := 0
	p := newProducer(t, f, producer.WithUniqueID(), producer.WithDedupe(func(m *message.Message) string {
		keys++
		return "key of " + string(m.Body)
	}))
	_, err := p.Send(context.Background(), msg("x"))
	require.NoError(t, err)
	require.Equal(t, 1, keys)
	require.Len(t, f.tried, 3)
	for _, m := range f.tried {
		require.Equal(t, f.tried[0].UniqueID, m.UniqueID)
		require.Equal(t, "key of x", m.IdempotencyKey)
	}
	m := msg("y")
	m.UniqueID, m.IdempotencyKey = "MINE", "mine"
	_, _ = p.Send(context.Background(), m)
	require.Equal(t, "MINE", f.tried[3].UniqueID)
	require.Equal(t, "mine", f.tried[3].IdempotencyKey)
}

func TestCompressionThroughStore(t *testing.T) {
	ctx := context.Background()
	s := openStore(t)
	p := newProducer(t, s, producer.WithCompression(message.Zlib, 1000), producer.WithCallerQueue())
	text := bytes.Repeat([]byte("compressible "), 1000)
	noise := make([]byte, 2000)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	packed, err := message.Compress(nil, text, message.Zstd)
	require.NoError(t, err)
	for _, m := range []*message.Message{{Body: text}, {Body: text[:999]}, {Body: noise}, {Body: packed, Encoding: message.Zstd}} {
		m.Topic = "t"
		_, err := p.Send(ctx, m)
		require.NoError(t, err)
	}
	var stored []message.Encoding
	_, err = s.Scan(message.Queue{Topic: "t"}, 0, message.Limit{}, nil, func(r *message.Record) error {
		stored = append(stored, r.Encoding())
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []message.Encoding{message.Zlib, message.None, message.None, message.Zstd}, stored)
	rs := readAll(t, s, message.Queue{Topic: "t"})
	require.Equal(t, text, rs[0].Body())
	require.Equal(t, noise, rs[2].Body())
	require.Equal(t, text, rs[3].Body())
}

func TestDelays(t *testing.T) {
	ctx := context.Background()
	s := openStore(t)
	p := newProducer(t, s, producer.WithTrace(func(_ context.Context, c message.Carrier) { c.Set("traceparent", goodTrace) }))
	for name, m := range map[string]*message.Message{
		"level": {Topic: "t", DelayLevel: 3}, "delay": {Topic: "t", Delay: time.Hour}, "at": {Topic: "t", DeliverAt: time.Now().Add(time.Hour)},
	} {
		r, err := p.Send(ctx, m)
		require.NoError(t, err, name)
		require.Equal(t, int64(-1), r.Offset)
		require.Equal(t, name != "level", r.Timer != "", name)
		if r.Timer != "" {
			_, err := s.Timers().Cancel(ctx, r.Timer)
			require.NoError(t, err)
		}
	}
	// A delayed message arrives with the trace it was sent with.
	r, err := p.Send(ctx, &message.Message{Topic: "t", Delay: time.Millisecond})
	require.NoError(t, err)
	w := s.Watch(nil, r.Queue)
	defer w.Close()
	for {
		_, err = w.Next(ctx)
		require.NoError(t, err)
		if rs := readAll(t, s, r.Queue); len(rs) > 0 {
			require.Equal(t, goodTrace, message.CarrierOfRecord(&rs[0]).Get("traceparent"))
			return
		}
	}
}

const goodTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestTrace(t *testing.T) {
	f := newFake(1)
	f.fail = func(_ *message.Message, n int) error {
		if n == 1 {
			return message.ErrBusy
		}
		return nil
	}
	type ctxKey struct{}
	p := newProducer(t, f, producer.WithTrace(func(ctx context.Context, c message.Carrier) {
		if v, ok := ctx.Value(ctxKey{}).(string); ok {
			c.Set("traceparent", v)
			c.Set("tracestate", "vendor=1")
		}
	}))
	props := map[string]string{"colour": "red"}
	_, err := p.Send(context.WithValue(context.Background(), ctxKey{}, goodTrace), &message.Message{Topic: "t", Body: []byte("a"), Properties: props})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"colour": "red"}, props)
	require.Len(t, f.tried, 2)
	for _, m := range f.tried {
		require.Equal(t, map[string]string{"colour": "red", "traceparent": goodTrace, "tracestate": "vendor=1"}, m.Properties)
	}
	_, err = p.Send(context.WithValue(context.Background(), ctxKey{}, "00-bad"), &message.Message{Topic: "t", Body: []byte("b"), Properties: props})
	require.NoError(t, err)
	require.Equal(t, props, f.tried[2].Properties, "a malformed header is dropped")
	// Also one that the user has set, without a tracer.
	p = newProducer(t, f)
	_, err = p.Send(context.Background(), &message.Message{Topic: "t", Body: []byte("c"), Properties: map[string]string{"traceparent": "x", "tracestate": "y", "z": "1"}})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"z": "1"}, f.tried[len(f.tried)-1].Properties)
}

func TestInterceptorsAndLog(t *testing.T) {
	f := newFake(1)
	f.fail = func(m *message.Message, _ int) error {
		if string(m.Body) == "bad" {
			return message.ErrDiskFull
		}
		return nil
	}
	type ctxKey struct{}
	var calls []string
	tracer := func(name string) producer.Option {
		return producer.WithInterceptor(producer.Interceptor{
			Before: func(ctx context.Context, m *message.Message) (context.Context, error) {
				calls = append(calls, name+" before")
				m.Tag += name
				if string(m.Body) == "refused" && name == "2" {
					return nil, errors.New("refused")
				}
				return context.WithValue(ctx, ctxKey{}, name), nil
			},
			After: func(ctx context.Context, m *message.Message, _ message.Receipt, err error) {
				calls = append(calls, fmt.Sprint(name, " after ", ctx.Value(ctxKey{}), " ", err))
			},
		})
	}
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	p := newProducer(t, f, tracer("1"), tracer("2"), producer.WithInterceptor(producer.Interceptor{}), producer.LogSends(log), producer.WithUniqueID())
	for _, way := range []string{"Send", "SendAsync", "SendBatch"} {
		calls = nil
		out.Reset()
		m := &message.Message{Topic: "t", Body: []byte("good"), Keys: []string{"k1", "k2"}, UniqueID: "ID1"}
		_, err := sendBy(p, way, m)
		require.NoError(t, err)
		require.Equal(t, []string{"1 before", "2 before", "2 after 2 <nil>", "1 after 2 <nil>"}, calls)
		require.Equal(t, "12", f.tried[len(f.tried)-1].Tag)
		line := out.String()
		require.Equal(t, 1, strings.Count(line, "\n"))
		for _, want := range []string{"topic=t", `keys="k1 k2"`, "id=ID1", "queue=0", "offset=", "time="} {
			require.Contains(t, line, want)
		}
		require.NotContains(t, line, "error")
	}
	out.Reset()
	_, err := p.Send(context.Background(), msg("bad"))
	require.ErrorIs(t, err, message.ErrDiskFull)
	require.Contains(t, out.String(), `error="disk full"`)
	calls = nil
	_, err = p.Send(context.Background(), msg("refused"))
	require.EqualError(t, err, "refused")
	require.Equal(t, []string{"1 before", "2 before", "2 after 1 refused", "1 after 1 refused"}, calls)
}

func TestBatches(t *testing.T) {
	ctx := context.Background()
	f := newFake(4)
	p := newProducer(t, f)
	var ms []*message.Message
	for i := range 10 {
		ms = append(ms, msg(fmt.Sprint(i)))
	}
	rs, err := p.SendBatch(ctx, ms)
	require.NoError(t, err)
	for i, r := range rs {
		require.Equal(t, rs[0].Queue, r.Queue, "one queue for all without a key")
		require.Equal(t, rs[0].Offset+int64(i), r.Offset)
	}
	rs, err = p.SendBatch(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, rs)

	// Over the limit.
	small := newProducer(t, f, producer.WithMaxBatch(1000))
	_, err = small.SendBatch(ctx, ms)
	require.ErrorIs(t, err, message.ErrTooLarge)
	f.batches = nil
	split := newProducer(t, f, producer.WithMaxBatch(1000), producer.WithSplit())
	rs, err = split.SendBatch(ctx, ms)
	require.NoError(t, err)
	require.Len(t, rs, 10)
	require.Equal(t, []int{6, 4}, f.batches)
	_, err = split.SendBatch(ctx, []*message.Message{msg(strings.Repeat("x", 1000))})
	require.ErrorIs(t, err, message.ErrTooLarge)

	// The second group fails: the receipts tell what is stored.
	f.fail = func(m *message.Message, _ int) error {
		if string(m.Body) == "8" {
			return message.ErrDiskFull
		}
		return nil
	}
	rs, err = split.SendBatch(ctx, ms)
	var partial *producer.PartialError
	require.ErrorAs(t, err, &partial)
	require.ErrorIs(t, err, message.ErrDiskFull)
	require.Equal(t, 6, partial.Stored)
	require.Len(t, rs, 6)

	// An engine with a lower limit than the producer thinks.
	s := openStore(t, store.WithSegmentSize(8<<10), store.WithMaxUnsynced(8<<10))
	for i := range ms {
		ms[i].Body = make([]byte, 3000)
	}
	_, err = newProducer(t, s).SendBatch(ctx, ms)
	require.ErrorIs(t, err, message.ErrTooLarge)
	rs, err = newProducer(t, s, producer.WithSplit()).SendBatch(ctx, ms)
	require.NoError(t, err)
	require.Len(t, rs, 10)
}
