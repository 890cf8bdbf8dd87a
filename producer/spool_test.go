package producer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
)

// switched is an engine that can be out of order.
func switched() (*fake, *atomic.Bool) {
	f, down := newFake(2), new(atomic.Bool)
	f.fail = func(m *message.Message, _ int) error {
		if down.Load() {
			return message.ErrDiskFull
		}
		if m.Tag == "refused" {
			return &message.InvalidError{Field: "Tag", Reason: "refused"}
		}
		return nil
	}
	return f, down
}

// What could not be sent goes out later, in order per key, whichever way it was
// sent; what comes meanwhile goes behind it.
func TestSpool(t *testing.T) {
	ctx := context.Background()
	for _, linger := range []bool{false, true} {
		dir := t.TempDir()
		spool, err := producer.OpenSpool(dir, 0)
		require.NoError(t, err)
		_, err = producer.OpenSpool(dir, 0)
		require.ErrorIs(t, err, message.ErrLocked)
		f, down := switched()
		opts := []producer.Option{producer.WithSpool(spool)}
		if linger {
			opts = append(opts, producer.WithLinger(time.Millisecond, 0))
		}
		p := producer.New(f, opts...)
		down.Store(true)
		_, err = p.Send(ctx, keyed("k", "1"))
		require.ErrorIs(t, err, message.ErrDiskFull)
		require.ErrorIs(t, err, producer.ErrSpooled)
		down.Store(false)
		_, err = p.Send(ctx, keyed("k", "2"))
		require.ErrorIs(t, err, producer.ErrPrecedingFailed, "the key waits although the engine works again")
		require.ErrorIs(t, err, producer.ErrSpooled)
		_, err = sendBy(p, "SendAsync", keyed("k", "3"))
		require.ErrorIs(t, err, producer.ErrSpooled)
		_, err = p.SendBatch(ctx, []*message.Message{keyed("k", "4"), keyed("k", "5"), keyed("l", "b1")})
		require.ErrorIs(t, err, producer.ErrSpooled)
		require.NoError(t, p.SendOneWay(keyed("k", "6")))
		_, err = p.Send(ctx, keyed("m", "other"))
		require.NoError(t, err, "other keys do not wait")
		_, err = p.Send(ctx, &message.Message{Topic: "no good"})
		require.NotErrorIs(t, err, producer.ErrSpooled, "what is at fault is not kept")
		require.NoError(t, p.Close(ctx))
		require.Equal(t, 7, spool.Len())
		require.NoError(t, spool.Close())

		// Another process takes over.
		spool, err = producer.OpenSpool(dir, 0)
		require.NoError(t, err)
		require.Equal(t, 7, spool.Len())
		require.Zero(t, spool.Torn())
		p = producer.New(f, producer.WithSpool(spool))
		down.Store(true)
		n, err := p.Resend(ctx)
		require.ErrorIs(t, err, message.ErrDiskFull)
		require.Zero(t, n)
		require.Equal(t, 7, spool.Len())
		down.Store(false)
		n, err = p.Resend(ctx)
		require.NoError(t, err)
		require.Equal(t, 7, n)
		require.Zero(t, p.Stats().Spooled)
		_, err = p.Send(ctx, keyed("k", "7"))
		require.NoError(t, err)
		q := message.Queue{Topic: "t", ID: int32(producer.FNV1a("k") % 2)}
		var k []string
		for _, m := range f.logs[q] {
			if m.ShardingKey == "k" {
				k = append(k, string(m.Body))
			}
		}
		require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7"}, k)
		require.NoError(t, p.Close(ctx))
		require.NoError(t, spool.Close())
		info, err := os.Stat(filepath.Join(dir, "spool"))
		require.NoError(t, err)
		require.Zero(t, info.Size(), "an empty spool takes no room")
	}
}

func TestSpoolKeepsEverything(t *testing.T) {
	ctx := context.Background()
	spool, err := producer.OpenSpool(t.TempDir(), 0)
	require.NoError(t, err)
	f, down := switched()
	p := producer.New(f, producer.WithSpool(spool), producer.WithCallerQueue())
	m := message.Message{
		Topic: "t", Tag: "tag", ShardingKey: "k", IdempotencyKey: "i", UniqueID: "u", QueueID: 1, Keys: []string{"a", "\xff"},
		Body: []byte{0, 1, 2}, Properties: map[string]string{"p": "\xfe"}, DeliverAt: time.Now().Add(time.Hour).Round(0),
		ExpireAt: time.Now().Add(2 * time.Hour).Round(0), Unindexed: true, Durability: message.InCache, Flag: 7,
		ReplyTo: &message.ReplyTo{Correlation: "c", Client: "d", TTL: time.Second},
	}
	down.Store(true)
	_, err = p.Send(ctx, &m)
	require.ErrorIs(t, err, producer.ErrSpooled)
	delayed := message.Message{Topic: "t", Delay: time.Hour}
	_, err = p.Send(ctx, &delayed)
	require.ErrorIs(t, err, producer.ErrSpooled)
	down.Store(false)
	n, err := p.Resend(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	got := f.tried[len(f.tried)-2]
	require.True(t, m.DeliverAt.Equal(got.DeliverAt))
	require.True(t, m.ExpireAt.Equal(got.ExpireAt))
	got.DeliverAt, got.ExpireAt = m.DeliverAt, m.ExpireAt
	require.Equal(t, m, got)
	got = f.tried[len(f.tried)-1]
	require.Zero(t, got.Delay)
	require.WithinDuration(t, time.Now().Add(time.Hour), got.DeliverAt, time.Minute, "a delay counts from the first attempt")

	// What the engine will never take is set aside, and in nobody's way.
	down.Store(true)
	for _, m := range []*message.Message{keyed("k", "1"), {Topic: "t", ShardingKey: "k", Tag: "refused"}, keyed("k", "2")} {
		_, err = p.Send(ctx, m)
		require.ErrorIs(t, err, producer.ErrSpooled)
	}
	down.Store(false)
	n, err = p.Resend(ctx)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, 1, spool.Refused())
	require.Zero(t, spool.Len())
	require.NoError(t, p.Close(ctx))
	require.NoError(t, spool.Close())

	_, err = newProducer(t, f).Resend(ctx)
	require.ErrorIs(t, err, message.ErrUnsupported)
}

func TestSpoolLimit(t *testing.T) {
	ctx := context.Background()
	spool, err := producer.OpenSpool(t.TempDir(), 2000)
	require.NoError(t, err)
	f, down := switched()
	p := producer.New(f, producer.WithSpool(spool))
	down.Store(true)
	for range 10 {
		_, err = p.Send(ctx, msg("0123456789"))
		require.ErrorIs(t, err, message.ErrDiskFull)
	}
	require.NotErrorIs(t, err, producer.ErrSpooled)
	require.ErrorIs(t, err, message.ErrTooLarge, "the error says that the spool is full")
	require.Positive(t, spool.Len())
	require.NoError(t, p.Close(ctx))
	require.NoError(t, spool.Close())
}

func TestResendByTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spool, err := producer.OpenSpoolFS(crash.New(1).FS(), 0)
		require.NoError(t, err)
		f, down := switched()
		p := producer.New(f, producer.WithSpool(spool), producer.WithResend(time.Minute))
		down.Store(true)
		for i := range 30 {
			_, err = p.Send(context.Background(), msg(fmt.Sprint(i)))
			require.ErrorIs(t, err, producer.ErrSpooled)
		}
		time.Sleep(90 * time.Second)
		require.Equal(t, 30, spool.Len())
		down.Store(false)
		time.Sleep(time.Minute)
		require.Zero(t, spool.Len())
		require.Len(t, f.all(), 30)
		require.NoError(t, p.Close(context.Background()))
		require.NoError(t, spool.Close())
	})
}

// The disk is cut after every operation in turn: what a failed send reported as
// spooled is there afterwards, in order, and goes out; nothing else is.
func TestSpoolCrash(t *testing.T) {
	whole := spoolRun(t, crash.New(7))
	require.Greater(t, whole, 30)
	for n := range whole {
		for _, mid := range []bool{false, true} {
			sim := crash.New(uint64(n))
			sim.StopAfter(n, mid)
			kept := make(map[string]bool)
			sent := make(map[string]bool)
			spoolWork(sim, kept, sent)
			spoolSurvives(t, sim.Kill(), kept, sent)
			for _, mode := range crash.Modes {
				spoolSurvives(t, sim.PowerCut(mode, uint64(n)), kept, sent)
			}
		}
	}
}

func spoolSurvives(t *testing.T, sim *crash.Sim, kept, sent map[string]bool) {
	t.Helper()
	spool, err := producer.OpenSpoolFS(sim.FS(), 0)
	require.NoError(t, err, sim.Name())
	f := newFake(1)
	p := producer.New(f, producer.WithSpool(spool))
	left := spool.Len()
	got, err := p.Resend(context.Background())
	require.NoError(t, err, sim.Name())
	require.Equal(t, left, got)
	after := f.bodies(message.Queue{Topic: "t"})
	seen := maps.Clone(sent)
	last := -1
	for _, b := range after {
		var i int
		_, err := fmt.Sscan(b, &i)
		require.NoError(t, err)
		require.Greater(t, i, last, "%s: out of order: %v", sim.Name(), after)
		last, seen[b] = i, true
	}
	for b := range kept {
		require.True(t, seen[b], "%s: %s was promised and is lost", sim.Name(), b)
	}
	require.NoError(t, p.Close(context.Background()))
	require.NoError(t, spool.Close())
}

// spoolRun does the work once and counts the operations.
func spoolRun(t *testing.T, sim *crash.Sim) int {
	t.Helper()
	kept, sent := make(map[string]bool), make(map[string]bool)
	spoolWork(sim, kept, sent)
	require.Len(t, kept, 12)
	require.Len(t, sent, 8)
	return sim.Ops()
}

// spoolWork spools messages of one key, sends some again, and spools more.
func spoolWork(sim *crash.Sim, kept, sent map[string]bool) {
	spool, err := producer.OpenSpoolFS(sim.FS(), 0)
	if err != nil {
		return
	}
	ctx := context.Background()
	f := newFake(1)
	down := true
	var mu sync.Mutex
	f.fail = func(m *message.Message, _ int) error {
		mu.Lock()
		defer mu.Unlock()
		if down || len(sent) == 8 {
			return message.ErrDiskFull
		}
		sent[string(m.Body)] = true
		return nil
	}
	p := producer.New(f, producer.WithSpool(spool))
	send := func(from, to int) {
		for i := from; i < to; i++ {
			if _, err := p.Send(ctx, keyed("k", fmt.Sprint(i))); errors.Is(err, producer.ErrSpooled) {
				kept[fmt.Sprint(i)] = true
			}
		}
	}
	send(0, 10)
	mu.Lock()
	down = false
	mu.Unlock()
	_, _ = p.Resend(ctx)
	send(10, 12)
	_ = p.Close(ctx)
	_ = spool.Close()
}

// A frame that a crash has cut is set aside, damage in front of whole ones is not.
func TestSpoolDamage(t *testing.T) {
	ctx := context.Background()
	fill := func(dir string) {
		spool, err := producer.OpenSpool(dir, 0)
		require.NoError(t, err)
		f, down := switched()
		down.Store(true)
		p := producer.New(f, producer.WithSpool(spool))
		for i := range 3 {
			_, err := p.Send(ctx, msg(fmt.Sprint(i)))
			require.ErrorIs(t, err, producer.ErrSpooled)
		}
		require.NoError(t, p.Close(ctx))
		require.NoError(t, spool.Close())
	}
	dir := t.TempDir()
	fill(dir)
	name := filepath.Join(dir, "spool")
	b, err := os.ReadFile(name)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(name, b[:len(b)-5], 0o600))
	spool, err := producer.OpenSpool(dir, 0)
	require.NoError(t, err)
	require.Equal(t, 2, spool.Len())
	require.Positive(t, spool.Torn())
	require.NoError(t, spool.Close())
	torn, err := os.ReadFile(filepath.Join(dir, "torn-1"))
	require.NoError(t, err)
	require.Equal(t, b[len(b)-5-len(torn):len(b)-5], torn)

	bad := append([]byte(nil), b...)
	bad[40] ^= 1
	require.NoError(t, os.WriteFile(name, bad, 0o600))
	_, err = producer.OpenSpool(dir, 0)
	var corrupt *message.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Zero(t, corrupt.Offset)
}

func FuzzSpoolFile(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x00\x00\x09\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sim := crash.New(1)
		file, err := sim.FS().Open("spool", 2)
		require.NoError(t, err)
		_, err = file.WriteAt(b, 0)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		spool, err := producer.OpenSpoolFS(sim.FS(), 0)
		if err != nil {
			require.ErrorIs(t, err, message.ErrCorrupt)
			return
		}
		require.NoError(t, spool.Close())
	})
}
