package rocketmq

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/interop/rocketmq/oracle"
	"github.com/embermq/embermq/store"
)

// innerBatch is the flag of a record that holds several messages.
const innerBatch = 1 << 7

// TestRefused: a directory whose queues have another form, made by Java, is
// refused with the name of a topic, and Java still opens it then.
func TestRefused(t *testing.T) {
	j := java(t)
	for name, row := range map[string]struct {
		c    oracle.Config
		m    oracle.Message
		made string // by Java, which is why the directory is refused
		says string
	}{
		"batch queues": {oracle.Config{BatchTopics: []string{"batchy"}},
			oracle.Message{Topic: "batchy", SysFlag: innerBatch, Properties: map[string]string{"INNER_NUM": "2"}},
			"batchconsumequeue/batchy/0", "topic batchy has a batch consume queue"},
		"RocksDB": {oracle.Config{RocksDB: true}, oracle.Message{Topic: "rocky"},
			"consumequeue/CURRENT", "the queues of topic rocky and of all others"},
	} {
		t.Run(name, func(t *testing.T) {
			c := row.c
			c.Dir, c.Segment, c.QueueFile, c.Slots, c.Entries = filepath.Join(t.TempDir(), "store"), 1<<20, 6000, 100, 400
			s, err := j.Open(t.Context(), c)
			require.NoError(t, err)
			require.True(t, s.Loaded)
			got, err := s.Put(t.Context(), row.m)
			require.NoError(t, err)
			require.True(t, got[0].OK(), "%+v", got)
			require.NoError(t, s.Close(t.Context()))
			_, err = os.Stat(filepath.Join(c.Dir, row.made))
			require.NoError(t, err)

			_, err = store.Open(c.Dir)
			require.ErrorIs(t, err, store.ErrUnsupported)
			require.ErrorContains(t, err, row.says)

			s, err = j.Open(t.Context(), c)
			require.NoError(t, err)
			require.True(t, s.Loaded)
			rs, err := s.Look(t.Context(), got[0].Position)
			require.NoError(t, err)
			require.Len(t, rs, 1)
			require.NoError(t, s.Close(t.Context()))
		})
	}
}
