package producer_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

func openTx(t *testing.T, check message.Checker, o producer.TxOptions) (*store.Store, *producer.TxProducer) {
	t.Helper()
	s, err := store.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	p, err := producer.NewTx(s.Halves(), "bank", check, o)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return s, p
}

func TestTxSend(t *testing.T) {
	own := errors.New("no money")
	ctx, end := context.WithCancel(context.Background())
	bg := context.Background()
	for _, c := range []struct {
		name  string
		ctx   context.Context
		local func(context.Context, message.HalfID) error
		how   message.Decision
		is    error
	}{
		{"committed", bg, func(context.Context, message.HalfID) error { return nil }, message.Committed, nil},
		{"rolled back", bg, func(context.Context, message.HalfID) error { return own }, message.RolledBack, own},
		{"undecided", bg, func(context.Context, message.HalfID) error { return errors.Join(own, producer.ErrUndecided) }, message.Undecided, own},
		{"panic", bg, func(context.Context, message.HalfID) error { panic("no") }, message.Undecided, producer.ErrUndecided},
		{"context ends, nothing else", ctx, func(context.Context, message.HalfID) error { end(); return nil }, message.Committed, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, p := openTx(t, nil, producer.TxOptions{})
			r, how, err := p.Send(c.ctx, &message.Message{Topic: "transfers", Body: []byte("x")}, c.local)
			require.ErrorIs(t, err, c.is)
			require.Equal(t, c.how, how)
			_, last, err := s.Bounds(message.Queue{Topic: "transfers"})
			require.NoError(t, err)
			if c.how == message.Committed {
				require.Zero(t, r.Offset)
				require.EqualValues(t, 1, last)
			} else {
				require.EqualValues(t, -1, r.Offset)
				require.Zero(t, last)
			}
			pending := int64(0)
			if c.how == message.Undecided {
				pending = 1
			}
			require.Equal(t, pending, s.Halves().Len())
		})
	}
}

func TestTxContextEndsWithError(t *testing.T) {
	s, p := openTx(t, nil, producer.TxOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	_, how, err := p.Send(ctx, &message.Message{Topic: "transfers"}, func(ctx context.Context, _ message.HalfID) error {
		cancel()
		return ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, message.Undecided, how)
	require.EqualValues(t, 1, s.Halves().Len())
}

// TestTxNotStored: without a half on disk the local transaction does not run.
func TestTxNotStored(t *testing.T) {
	_, p := openTx(t, nil, producer.TxOptions{})
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	ran := func(context.Context, message.HalfID) error { t.Error("ran"); return nil }
	for want, c := range map[error]struct {
		ctx context.Context
		m   *message.Message
	}{
		message.ErrInvalidMessage: {context.Background(), &message.Message{Topic: "t", DelayLevel: 1}},
		message.ErrInvalidName:    {context.Background(), &message.Message{Topic: "no topic"}},
		context.Canceled:          {ended, &message.Message{Topic: "t"}},
	} {
		_, _, err := p.Send(c.ctx, c.m, ran)
		require.ErrorIs(t, err, want)
	}
	_, _, err := p.Send(context.Background(), nil, ran)
	require.ErrorIs(t, err, message.ErrInvalidMessage)
	_, _, err = p.Send(context.Background(), &message.Message{Topic: "t"}, nil)
	require.ErrorIs(t, err, message.ErrInvalidMessage)
}

// TestTxSomebodyElse decides first: the sender learns it.
func TestTxSomebodyElse(t *testing.T) {
	s, p := openTx(t, nil, producer.TxOptions{})
	ctx := context.Background()
	_, how, err := p.Send(ctx, &message.Message{Topic: "t"}, func(ctx context.Context, id message.HalfID) error {
		_, err := s.Halves().Rollback(ctx, id)
		return err
	})
	require.ErrorIs(t, err, message.ErrFenced)
	require.Equal(t, message.RolledBack, how)
	_, how, err = p.Send(ctx, &message.Message{Topic: "t"}, func(ctx context.Context, id message.HalfID) error {
		_, _, err := s.Halves().Commit(ctx, id)
		return errors.Join(err, errors.New("no"))
	})
	require.ErrorIs(t, err, message.ErrFenced)
	require.Equal(t, message.Committed, how)
}

func TestTxSelector(t *testing.T) {
	s, err := store.Open(t.TempDir())
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.CreateTopic(context.Background(), store.Topic{Name: "t", WriteQueues: 8}))
	p, err := producer.NewTx(s.Halves(), "g", nil, producer.TxOptions{Queues: s.QueueCount})
	require.NoError(t, err)
	defer p.Close()
	used := map[int32]bool{}
	for range 8 {
		r, _, err := p.Send(context.Background(), &message.Message{Topic: "t"}, func(context.Context, message.HalfID) error { return nil })
		require.NoError(t, err)
		used[r.Queue.ID] = true
	}
	require.Len(t, used, 8)
	_, err = producer.NewTx(s.Halves(), "", nil, producer.TxOptions{})
	require.ErrorIs(t, err, message.ErrInvalidName)
}
