package producer_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
)

// The three outcomes of a request, through a store.
func TestRequest(t *testing.T) {
	ctx := context.Background()
	s := openStore(t)
	p := newProducer(t, s, producer.WithCallerQueue())
	q := message.Queue{Topic: "sums"}
	ready := make(chan struct{})
	served := make(chan message.Record, 1)
	go func() {
		<-ready
		w := s.Watch(nil, q)
		defer w.Close()
		for at := int64(0); at < 1; {
			if _, err := w.Next(ctx); err != nil {
				return
			}
			b, err := s.Read(ctx, q, at, message.Limit{}, nil)
			if err != nil {
				return
			}
			for _, r := range b.Records {
				if producer.Reply(&r, &message.Message{Tag: "answer", Body: append([]byte("4 = "), r.Body()...)}) == nil {
					served <- r
				}
			}
			at = b.Next
		}
	}()
	_, err := p.Send(ctx, &message.Message{Topic: "sums", QueueID: 1})
	require.NoError(t, err)
	close(ready)
	r, err := p.Request(ctx, &message.Message{Topic: "sums", Body: []byte("2+2")})
	require.NoError(t, err)
	require.Equal(t, "4 = 2+2", string(r.Body()))
	require.Equal(t, "answer", r.Tag())
	require.Equal(t, int64(-1), r.Position())
	request := <-served
	id, ok := r.Property("CORRELATION_ID")
	require.True(t, ok)
	asked, _ := request.Property("CORRELATION_ID")
	require.Equal(t, asked, id)
	require.NotEmpty(t, request.UniqueID())
	ttl, _ := request.Property("TTL")
	require.NotEmpty(t, ttl)

	require.ErrorIs(t, producer.Reply(&request, &message.Message{}), message.ErrNotFound, "the first answer counts")
	plain := readAll(t, s, message.Queue{Topic: "sums", ID: 1})
	require.ErrorIs(t, producer.Reply(&plain[0], &message.Message{}), message.ErrInvalidMessage)
	require.ErrorIs(t, producer.Reply(&request, nil), message.ErrInvalidMessage)

	// Not sent.
	_, err = p.Request(ctx, &message.Message{Topic: "no good"})
	require.ErrorIs(t, err, message.ErrInvalidName)
	require.NotErrorIs(t, err, producer.ErrNoReply)
	_, err = p.Request(ctx, nil)
	require.ErrorIs(t, err, message.ErrInvalidMessage)
}

func TestRequestWithoutReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(1)
		p := producer.New(f, producer.WithReplyTimeout(5*time.Second))
		began := time.Now()
		_, err := p.Request(context.Background(), msg("x"))
		require.ErrorIs(t, err, producer.ErrNoReply)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 5*time.Second, time.Since(began))
		require.Equal(t, []string{"x"}, f.all(), "it is stored")
		require.Equal(t, 5*time.Second, f.tried[0].ReplyTo.TTL)

		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began = time.Now()
		_, err = p.Request(ctx, msg("y"))
		require.ErrorIs(t, err, producer.ErrNoReply)
		require.Equal(t, time.Second, time.Since(began))

		go func() {
			time.Sleep(time.Second)
			_ = p.Close(context.Background())
		}()
		_, err = p.Request(context.Background(), msg("z"))
		require.ErrorIs(t, err, message.ErrClosed)
		require.NoError(t, p.Close(context.Background()))
	})
}
