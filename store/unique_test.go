package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// A message's own unique id counts more than the one that the store would give.
func TestUniqueIDOfMessage(t *testing.T) {
	ctx := context.Background()
	for _, opts := range [][]store.Option{nil, {store.WithUniqueID()}} {
		s := open(t, t.TempDir(), opts...)
		_, err := s.Put(ctx, &message.Message{Topic: "t", UniqueID: "MINE"})
		require.NoError(t, err)
		rs, err := s.PutBatch(ctx, []*message.Message{{Topic: "t", UniqueID: "FIRST"}, {Topic: "t"}})
		require.NoError(t, err)
		require.Len(t, rs, 2)
		_, err = s.PutAsync(ctx, &message.Message{Topic: "t", UniqueID: "ASYNC"}).Wait(ctx)
		require.NoError(t, err)
		later, err := s.Put(ctx, &message.Message{Topic: "t", UniqueID: "LATER", Delay: time.Hour})
		require.NoError(t, err)
		require.Equal(t, message.TimerID("LATER"), later.Timer, "a timer's handle is its unique id")

		b, err := s.Read(ctx, message.Queue{Topic: "t"}, 0, message.Limit{}, nil)
		require.NoError(t, err)
		require.Len(t, b.Records, 4)
		require.Equal(t, "MINE", b.Records[0].UniqueID())
		require.Equal(t, "FIRST", b.Records[1].UniqueID())
		require.Equal(t, len(opts) > 0, b.Records[2].UniqueID() != "")
		require.Equal(t, "ASYNC", b.Records[3].UniqueID())
		for _, id := range []string{"MINE", "FIRST", "ASYNC", "LATER"} {
			found := 0
			for h, err := range s.FindAll(ctx, index.Query{Topic: "t", Key: id}) {
				require.NoError(t, err)
				require.Equal(t, id, h.Record.UniqueID())
				found++
			}
			require.Equal(t, 1, found, id)
		}
		require.NoError(t, s.Close())
	}
}

// Read inflates what Scan lends as it is stored.
func TestReadInflates(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	plain := make([]byte, 5000)
	packed, err := message.Compress(nil, plain, message.Zstd)
	require.NoError(t, err)
	_, err = s.Put(ctx, &message.Message{Topic: "t", Body: packed, Encoding: message.Zstd})
	require.NoError(t, err)
	_, err = s.Put(ctx, &message.Message{Topic: "t", Body: []byte("no zlib"), Encoding: message.Zlib})
	require.NoError(t, err)
	b, err := s.Read(ctx, message.Queue{Topic: "t"}, 0, message.Limit{}, nil)
	require.NoError(t, err)
	require.Len(t, b.Records, 2)
	require.Equal(t, plain, b.Records[0].Body())
	require.Equal(t, message.None, b.Records[0].Encoding())
	require.NotZero(t, b.Records[0].SysFlag()&message.FlagCompressed)
	require.Equal(t, []byte("no zlib"), b.Records[1].Body(), "what does not inflate comes as it is stored")
	require.Equal(t, message.Zlib, b.Records[1].Encoding())
	_, err = s.Scan(message.Queue{Topic: "t"}, 0, message.Limit{Count: 1}, nil, func(r *message.Record) error {
		require.Equal(t, packed, r.Body())
		require.Equal(t, message.Zstd, r.Encoding())
		return nil
	})
	require.NoError(t, err)
}

// The queue count of a topic that does not exist yet is what it would get.
func TestQueueCountOfNewTopic(t *testing.T) {
	s := open(t, t.TempDir(), store.WithTopicQueues(7))
	n, err := s.QueueCount("soon")
	require.NoError(t, err)
	require.Equal(t, 7, n)
	require.Empty(t, s.Topics())
	for _, name := range []string{"", "no good", message.TopicTimer} {
		_, err = s.QueueCount(name)
		require.ErrorIs(t, err, store.ErrNotFound, name)
	}
	s = open(t, t.TempDir(), store.WithoutTopicCreation())
	_, err = s.QueueCount("never")
	require.ErrorIs(t, err, store.ErrNotFound)
}
