package consumequeue

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"testing"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

// Any bytes as the saved image: no panic, no memory from an announced count, and
// what loads can be used and saved again. The fuzzer gets the checksum for free.
func FuzzImage(f *testing.F) {
	golden, err := os.ReadFile("testdata/golden/v1/queues")
	require.NoError(f, err)
	f.Add(golden)
	f.Add([]byte{})
	f.Add(golden[:headerLen])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > trailerLen {
			b = bytes.Clone(b)
			binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
		}
		sim := crash.New(1)
		require.NoError(t, sim.FS().MkdirAll("consumequeue"))
		require.NoError(t, sim.FS().MkdirAll("ember"))
		writeAt(t, sim.FS(), "ember/queues", b, 0)
		o := manual()
		s, err := Open(sim.FS().Sub("consumequeue"), sim.FS().Sub("ember"), o)
		require.NoError(t, err)
		require.LessOrEqual(t, s.Stats().TailBytes, int64(len(b))*16+4096)
		_, ok := s.Saved()
		if !ok {
			require.Zero(t, s.Stats().Queues)
			require.NoError(t, s.Reset())
		}
		var es [40]Entry
		for _, q := range s.All() {
			start, end := q.Bounds()
			_, _ = q.Read(start, es[:])
			_, _ = q.Read(max(start, end-10), es[:])
			q.Append(end, Entry{Position: 1, Size: 1})
		}
		if !ok {
			return
		}
		require.NoError(t, s.Freeze(message.Mark{Offset: 1})())
		again, err := Open(sim.FS().Sub("consumequeue"), sim.FS().Sub("ember"), o)
		require.NoError(t, err)
		_, ok = again.Saved()
		require.True(t, ok, again.SavedReason())
		require.Equal(t, s.Stats().Queues, again.Stats().Queues)
	})
}

// Any bytes as a queue file: reads give entries or typed errors, never a panic,
// and the queue goes on.
func FuzzQueueFile(f *testing.F) {
	f.Add([]byte(encode(nth(0), nth(1), nth(2))), uint8(0))
	f.Add([]byte(blanks(3)+encode(nth(3))), uint8(3))
	f.Add([]byte{}, uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, start uint8) {
		sim := crash.New(1)
		require.NoError(t, sim.FS().MkdirAll("consumequeue"))
		require.NoError(t, sim.FS().MkdirAll("ember"))
		o := manual()
		o.Rebuild = rebuildFrom(0, func(*Queue) int64 { return 30 })
		s, err := Open(sim.FS().Sub("consumequeue"), sim.FS().Sub("ember"), o)
		require.NoError(t, err)
		q := s.Queue(topic0)
		fill(q, int64(start%10), 15)
		require.NoError(t, s.Flush())
		require.NoError(t, s.Freeze(message.Mark{})())
		require.NoError(t, s.Close())
		const name = "consumequeue/topic/0/00000000000000000000"
		require.NoError(t, fs.RemoveAll(sim.FS(), name))
		writeAt(t, sim.FS(), name, b, 0)
		if len(b)%3 != 0 {
			truncate(t, sim.FS(), name, 200)
		}
		s, err = Open(sim.FS().Sub("consumequeue"), sim.FS().Sub("ember"), o)
		require.NoError(t, err)
		check(t, s, nil)
		q = s.Queue(topic0)
		fill(q, 15, 20)
		from, end := q.Bounds()
		es := make([]Entry, end-from)
		n, err := q.Read(from, es)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			s.Step()
			requireFilled(t, q, from, 20)
			return
		}
		for _, e := range es[:n] {
			require.True(t, e.valid())
		}
		_ = s.Flush()
		require.NoError(t, s.Close())
	})
}
