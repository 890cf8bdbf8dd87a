package message_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

func TestFillerHasAnySize(t *testing.T) {
	for size := message.MinFiller; size < message.MinFiller+300; size++ {
		b := message.Filler(4096, size, 1_700_000_000_000)
		require.Len(t, b, size)
		var r message.Record
		require.NoError(t, r.Reset(b))
		require.NoError(t, r.VerifyChecksum())
		require.NoError(t, r.VerifyBody())
		require.True(t, r.Filler())
		require.False(t, r.Dispatchable())
		require.Equal(t, int64(4096), r.Position())
		require.Contains(t, message.TopicLost, r.Topic())
	}
	require.Equal(t, 1<<22, len(message.Filler(0, 1<<22, 0)))
}
