package producer_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

// openFaulty opens a store on a simulated disk whose operations can be watched.
func openFaulty(t *testing.T, opts ...store.Option) (*store.Store, *fs.Faulty) {
	t.Helper()
	disk := fs.NewFaulty(crash.New(1).FS())
	e := env.Env{Clock: clock.Real{}, PID: 1, Open: func(string, bool) (fs.FS, error) { return disk, nil }}
	s, err := store.Open("db", append(opts, store.WithEnvironment(e))...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, disk
}

// The context ends at every operation of the disk during a send, which makes a new
// topic too, and once in front of the first: what a send says of its message is
// true, and where it does not know, the unique id tells.
func TestCancelAtEveryOperation(t *testing.T) {
	for _, way := range []string{"Send", "SendAsync", "SendBatch"} {
		t.Run(way, func(t *testing.T) {
			s, disk := openFaulty(t)
			p := newProducer(t, s, producer.WithUniqueID())
			outcomes := map[string]int{}
			cut := true
			for n := int64(0); cut; n++ {
				ctx, cancel := context.WithCancel(context.Background())
				var ops atomic.Int64
				var fired atomic.Bool
				disk.Before(func(fs.Op, string) error {
					if ops.Add(1) == n {
						fired.Store(true)
						cancel()
					}
					return nil
				})
				if n == 0 {
					cancel()
				}
				topic := fmt.Sprint("topic-", n)
				id := fmt.Sprint("message-", n)
				_, err := sendCtx(ctx, p, way, &message.Message{Topic: topic, UniqueID: id, Body: []byte("x")})
				disk.Before(nil)
				cut = n == 0 || fired.Load()
				cancel()
				require.NoError(t, s.Sync(context.Background()))
				found := 0
				for _, err := range s.Find(context.Background(), index.Query{Topic: topic, Key: id, By: index.ByUniqueID}) {
					require.NoError(t, err)
					found++
				}
				var unknown *producer.UnknownError
				switch {
				case err == nil:
					outcomes["stored"]++
					require.Equal(t, 1, found)
				case errors.As(err, &unknown):
					outcomes["unknown"]++
					require.Equal(t, id, unknown.ID)
					require.LessOrEqual(t, found, 1)
				default:
					outcomes["not stored"]++
					require.ErrorIs(t, err, context.Canceled)
					require.Zero(t, found)
				}
				if found > 0 {
					require.Equal(t, id, firstOf(t, s, topic))
				}
			}
			t.Log(outcomes)
			require.Positive(t, outcomes["stored"])
			require.Positive(t, outcomes["not stored"])
		})
	}
}

func sendCtx(ctx context.Context, p *producer.Producer, way string, m *message.Message) (r message.Receipt, err error) {
	switch way {
	case "Send":
		return p.Send(ctx, m)
	case "SendBatch":
		rs, err := p.SendBatch(ctx, []*message.Message{m})
		if err != nil {
			return r, err
		}
		return rs[0], nil
	}
	done := make(chan struct{})
	p.SendAsync(ctx, m, func(got message.Receipt, e error) { r, err = got, e; close(done) })
	<-done
	return r, err
}

func firstOf(t *testing.T, s *store.Store, topic string) string {
	t.Helper()
	for q := range int32(4) {
		for _, r := range readAll(t, s, message.Queue{Topic: topic, ID: q}) {
			return r.UniqueID()
		}
	}
	return ""
}

// While the disk does not answer a sync, no more is in flight than the limits say:
// senders wait, each as long as its own context lasts, and go on when the disk does.
func TestStalledSync(t *testing.T) {
	s, disk := openFaulty(t)
	require.NoError(t, s.CreateTopic(context.Background(), store.Topic{Name: "t"}))
	stalled, release := make(chan struct{}, 1000), make(chan struct{})
	disk.Before(func(op fs.Op, _ string) error {
		if op&(fs.OpSyncData|fs.OpSync) != 0 {
			stalled <- struct{}{}
			<-release
		}
		return nil
	})
	p := newProducer(t, s, producer.WithInFlight(20, 1<<20), producer.WithTimeout(0))
	var answered, sent atomic.Int64
	done := func(_ message.Receipt, err error) {
		if answered.Add(1); err == nil {
			sent.Add(1)
		}
	}
	for range 20 { // as many as there is room for: none waits
		p.SendAsync(context.Background(), msg("x"), done)
	}
	<-stalled
	impatient, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	p.SendAsync(impatient, msg("late"), func(_ message.Receipt, err error) {
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, producer.ErrUnknownOutcome)
	})
	require.LessOrEqual(t, p.Stats().PeakInFlight, 20)
	require.Zero(t, sent.Load())
	patient := make(chan struct{})
	go func() {
		p.SendAsync(context.Background(), msg("waits"), done)
		close(patient)
	}()
	close(release)
	<-patient
	require.NoError(t, p.Close(context.Background()))
	require.Equal(t, int64(21), sent.Load())
	require.Equal(t, int64(21), answered.Load())
	require.LessOrEqual(t, p.Stats().PeakInFlight, 20)
}
