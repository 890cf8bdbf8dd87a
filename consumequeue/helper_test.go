package consumequeue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"strings"
	"testing"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func allSynced() int64 { return math.MaxInt64 }

// manual are the options of a test that runs the flusher itself.
func manual() Options { return Options{FileSize: 200, Manual: true, Synced: allSynced} }

func memory(t testing.TB) *crash.Sim {
	t.Helper()
	sim := crash.New(1)
	require.NoError(t, sim.FS().MkdirAll("consumequeue"))
	require.NoError(t, sim.FS().MkdirAll("ember"))
	require.NoError(t, sim.FS().SyncDir("."))
	return sim
}

func open(t testing.TB, sim *crash.Sim, o Options) *Queues {
	t.Helper()
	s, err := Open(sim.FS().Sub("consumequeue"), sim.FS().Sub("ember"), o)
	require.NoError(t, err)
	t.Cleanup(func() {
		if !sim.Stopped() {
			require.NoError(t, s.Close())
		}
	})
	return s
}

func openOS(t testing.TB, o Options) *Queues {
	t.Helper()
	s, err := openDir(t, t.TempDir(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func openDir(t testing.TB, dir string, o Options) (*Queues, error) {
	t.Helper()
	root, err := fs.OS(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	require.NoError(t, root.MkdirAll("consumequeue"))
	require.NoError(t, root.MkdirAll("ember"))
	return Open(root.Sub("consumequeue"), root.Sub("ember"), o)
}

// fill appends entries for the offsets [from, to), 100 log bytes apart.
func fill(q *Queue, from, to int64) {
	for i := from; i < to; i++ {
		q.Append(i, nth(i))
	}
}

// nth is the entry that fill makes for an offset.
func nth(i int64) Entry { return Entry{Position: i * 100, Size: 100, TagHash: -i} }

func readAll(t testing.TB, q *Queue) (start int64, es []Entry) {
	t.Helper()
	start, end := q.Bounds()
	es = make([]Entry, end-start)
	n, err := q.Read(start, es)
	require.NoError(t, err)
	require.Len(t, es, n)
	return start, es
}

func requireFilled(t testing.TB, q *Queue, from, to int64) {
	t.Helper()
	start, es := readAll(t, q)
	require.Equal(t, from, start)
	require.Len(t, es, int(to-from))
	for i, e := range es {
		require.Equal(t, nth(from+int64(i)), e)
	}
}

// save freezes and saves at a mark.
func save(t testing.TB, s *Queues, offset int64) {
	t.Helper()
	require.NoError(t, s.Freeze(message.Mark{Offset: offset, Fingerprint: 7})())
}

// tree is every file below dir with its bytes.
func tree(t testing.TB, fsys fs.FS, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	var walk func(dir string)
	walk = func(dir string) {
		list, err := fsys.List(dir)
		require.NoError(t, err)
		for _, e := range list {
			name := path.Join(dir, e.Name)
			if e.Dir {
				walk(name)
				continue
			}
			b, err := fs.Read(fsys, name)
			require.NoError(t, err)
			files[name] = string(b)
		}
	}
	walk(dir)
	return files
}

type finding struct {
	path   string
	off    int64
	reason string
}

func check(t testing.TB, s *Queues, verify func(message.Queue, int64, Entry) error) []finding {
	t.Helper()
	var fs []finding
	require.NoError(t, s.Check(context.Background(), verify, func(path string, off int64, reason string) {
		fs = append(fs, finding{path, off, reason})
	}))
	return fs
}

// rebuildFrom is a Rebuild that gives back what fill made up to an end.
func rebuildFrom(from int64, end func(q *Queue) int64) func(context.Context, []*Queue) error {
	return func(ctx context.Context, qs []*Queue) error {
		for _, q := range qs {
			for i := from; i < end(q); i++ {
				q.Restore(i, nth(i))
			}
		}
		return ctx.Err()
	}
}

func blanks(n int) string {
	return strings.Repeat("\x00\x00\x00\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00", n)
}

func encode(es ...Entry) string {
	b := make([]byte, 0, len(es)*EntrySize)
	for _, e := range es {
		var x [EntrySize]byte
		e.Encode(x[:])
		b = append(b, x[:]...)
	}
	return string(b)
}

func zeros(n int) string { return strings.Repeat("\x00", n) }

var errTest = errors.New("test")

func queueName(i int) message.Queue {
	return message.Queue{Topic: fmt.Sprintf("topic-%d", i/4), ID: int32(i % 4)}
}
