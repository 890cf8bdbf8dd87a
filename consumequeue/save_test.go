package consumequeue

import (
	"bytes"
	"encoding/binary"
	"flag"
	"hash/crc32"
	"os"
	"testing"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// The golden file freezes the format: a queue in files, one with a tail and a
// gap, an empty one that begins further on, a damaged one.
func TestGoldenImage(t *testing.T) {
	const golden = "testdata/golden/v1/queues"
	sim := memory(t)
	o := manual()
	var synced int64 = 1 << 40
	o.Synced = func() int64 { return synced }
	s := open(t, sim, o)
	fill(s.Queue(message.Queue{Topic: "inFiles", ID: 3}), 8, 12)
	damaged := s.Queue(message.Queue{Topic: "damaged", ID: 0})
	fill(damaged, 0, 2)
	require.NoError(t, s.Flush())
	synced = 0
	tail := s.Queue(message.Queue{Topic: "tail", ID: 1})
	fill(tail, 0, 5)
	tail.Append(300, nth(300))
	s.Create(message.Queue{Topic: "empty", ID: 0}, 77)
	damaged.MarkDamaged(1, "test")
	save(t, s, 30100)
	got, err := fs.Read(sim.FS(), "ember/queues")
	require.NoError(t, err)
	if *rewrite {
		require.NoError(t, os.MkdirAll("testdata/golden/v1", 0o700))
		require.NoError(t, os.WriteFile(golden, got, 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, want, got)

	again := open(t, sim, o)
	m, ok := again.Saved()
	require.True(t, ok)
	require.Equal(t, message.Mark{Offset: 30100, Fingerprint: 7}, m)
	require.Equal(t, 4, again.Stats().Queues)
	requireFilled(t, again.Queue(message.Queue{Topic: "inFiles", ID: 3}), 8, 12)
	requireBounds(t, again.Queue(message.Queue{Topic: "empty", ID: 0}), 77, 77)
	_, es := readAll(t, again.Queue(message.Queue{Topic: "tail", ID: 1}))
	require.Len(t, es, 301)
	require.Equal(t, nth(4), es[4])
	require.True(t, es[5].Blank())
	require.Equal(t, nth(300), es[300])
	_, err = again.Queue(message.Queue{Topic: "damaged", ID: 0}).Read(0, make([]Entry, 1))
	require.ErrorIs(t, err, ErrDamaged)
}

// A freeze is a moment: what changes between it and its save, or while the save
// runs, is not in the image.
func TestFreezeIsAMoment(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	q, idle := s.Queue(topic0), s.Queue(message.Queue{Topic: "idle"})
	fill(q, 0, 310)
	fill(idle, 0, 5)
	saveIt := s.Freeze(message.Mark{Offset: 31000, Fingerprint: 9})
	fill(q, 310, 900)
	require.NoError(t, s.Flush())
	require.NoError(t, s.Expire(20000))
	later := s.Queue(message.Queue{Topic: "later"})
	fill(later, 0, 5)
	fill(q, 900, 1000)
	require.NoError(t, saveIt())
	m, ok := s.Saved()
	require.True(t, ok)
	require.Equal(t, int64(31000), m.Offset)
	require.ErrorIs(t, saveIt(), ErrAbandoned, "a save runs once")

	again := open(t, sim, manual())
	requireFilled(t, again.Queue(topic0), 0, 310)
	requireFilled(t, again.Queue(message.Queue{Topic: "idle"}), 0, 5)
	_, ok = again.Lookup(message.Queue{Topic: "later"})
	require.False(t, ok)
	// The replay repeats the rest, over the files that are there already.
	fill(again.Queue(topic0), 250, 1000)
	require.NoError(t, again.Flush())
	requireFilled(t, again.Queue(topic0), 0, 1000)
	require.Empty(t, check(t, again, nil))
	requireFilled(t, q, 200, 1000)
}

func TestFreezeReplacesTheOneBefore(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	q := s.Queue(topic0)
	fill(q, 0, 10)
	first := s.Freeze(message.Mark{Offset: 1000})
	fill(q, 10, 20)
	second := s.Freeze(message.Mark{Offset: 2000})
	fill(q, 20, 30)
	require.ErrorIs(t, first(), ErrAbandoned)
	require.NoError(t, second())
	requireFilled(t, open(t, sim, manual()).Queue(topic0), 0, 20)
}

// After a save nothing but the live tails holds memory.
func TestSaveGivesChunksBack(t *testing.T) {
	s := open(t, memory(t), manual())
	for i := range 100 {
		fill(s.Queue(queueName(i)), 0, 300)
	}
	saveIt := s.Freeze(message.Mark{})
	for i := range 100 {
		fill(s.Queue(queueName(i)), 300, 600)
	}
	require.NoError(t, s.Flush())
	require.Positive(t, s.Stats().TailBytes)
	require.NoError(t, saveIt())
	require.Zero(t, s.Stats().TailBytes)
}

func TestBadImageMeansNothingSaved(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	fill(s.Queue(topic0), 0, 300)
	fill(s.Queue(message.Queue{Topic: "b"}), 5, 9)
	save(t, s, 30000)
	good, err := fs.Read(sim.FS(), "ember/queues")
	require.NoError(t, err)
	require.Greater(t, len(good), 200)
	load := func(b []byte) (*Queues, bool) {
		f, err := sim.FS().Open("ember/queues", fs.Create)
		require.NoError(t, err)
		require.NoError(t, f.Truncate(0))
		_, err = f.WriteAt(b, 0)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		s := open(t, sim, manual())
		_, ok := s.Saved()
		return s, ok
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		s, ok := load(bad)
		require.False(t, ok, "byte %d flipped", i)
		require.NotEmpty(t, s.SavedReason())
		require.Zero(t, s.Stats().Queues)
		require.Zero(t, s.Stats().TailBytes)
	}
	for n := range good {
		if n%7 == 0 {
			_, ok := load(good[:n])
			require.False(t, ok, "cut at %d", n)
		}
	}
	_, ok := load(append(bytes.Clone(good), 0))
	require.False(t, ok, "a byte too long")
	version := bytes.Clone(good)
	version[8] = 2
	binary.BigEndian.PutUint32(version[len(version)-4:], crc32.Checksum(version[:len(version)-4], castagnoli))
	s, ok = load(version)
	require.False(t, ok)
	require.Contains(t, s.SavedReason(), "version 2")
	_, ok = load(good)
	require.True(t, ok)

	o := manual()
	o.FileSize = 400
	s = open(t, sim, o)
	_, ok = s.Saved()
	require.False(t, ok, "files of another size")
}

func TestMissingFolderMeansNothingSaved(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	fill(s.Queue(topic0), 0, 300)
	require.NoError(t, s.Flush())
	save(t, s, 30000)
	require.NoError(t, s.Close())
	require.NoError(t, fs.RemoveAll(sim.FS(), "consumequeue"))
	s = open(t, sim, manual())
	_, ok := s.Saved()
	require.False(t, ok)
	require.NoError(t, s.Reset())
	fill(s.Queue(topic0), 0, 300)
	require.NoError(t, s.Flush())
	requireFilled(t, s.Queue(topic0), 0, 300)
}

func TestReset(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	q := s.Queue(topic0)
	fill(q, 0, 300)
	require.NoError(t, s.Flush())
	live := tree(t, sim.FS().Sub("consumequeue"), ".")
	save(t, s, 30000)
	stray, err := sim.FS().Open("consumequeue/topic/note.txt", fs.Create)
	require.NoError(t, err)
	require.NoError(t, stray.Close())
	fill(q, 300, 310)
	require.NoError(t, s.Reset())
	_, ok := s.Saved()
	require.False(t, ok)
	requireBounds(t, q, 0, 0)
	require.Equal(t, map[string]string{"topic/note.txt": ""}, tree(t, sim.FS().Sub("consumequeue"), "."))
	require.Empty(t, tree(t, sim.FS().Sub("ember"), "."))
	require.Zero(t, s.Stats().TailBytes)
	fill(q, 0, 300)
	require.NoError(t, s.Flush())
	require.NoError(t, sim.FS().Remove("consumequeue/topic/note.txt"))
	require.Equal(t, live, tree(t, sim.FS().Sub("consumequeue"), "."))
	again := open(t, sim, manual())
	_, ok = again.Saved()
	require.False(t, ok, "a reset that was not saved again is a reset")
}

// A failed sync of the queue files fails the save, keeps the old image, and the
// queues it was about come back from the log.
func TestFailedSyncDamages(t *testing.T) {
	for _, queues := range []int{1, 40} { // one by one, and the whole file system
		sim := memory(t)
		o := manual()
		o.Rebuild = rebuildFrom(0, func(q *Queue) int64 { _, end := q.Bounds(); return end })
		s := open(t, sim, o)
		save(t, s, 1)
		for i := range queues {
			fill(s.Queue(queueName(i)), 0, 300)
		}
		require.NoError(t, s.Flush())
		sim.FailSync("0000*", 0)
		require.Error(t, s.Freeze(message.Mark{Offset: 2})())
		m, _ := s.Saved()
		require.Equal(t, int64(1), m.Offset)
		require.Positive(t, s.Stats().Damaged)
		s.Step()
		require.Zero(t, s.Stats().Damaged)
		save(t, s, 3)
		require.NoError(t, s.Close())
		s = open(t, sim.PowerCut(0, 1), manual())
		for i := range queues {
			requireFilled(t, s.Queue(queueName(i)), 0, 300)
		}
	}
}
