package index

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

var bigFile = flag.Bool("index.big", false, "fill a file of RocketMQ's size and measure")

func BenchmarkApply(b *testing.B) {
	x, err := Open(memory(b).FS().Sub("index"), memory(b).FS().Sub("ember"), Options{Synced: allSynced, Manual: true})
	require.NoError(b, err)
	defer x.Close()
	gen := newGenerator()
	b.ReportAllocs()
	for b.Loop() {
		x.Apply(gen.next())
		if gen.n%chunkItems == 0 {
			b.StopTimer()
			x.Step()
			b.StartTimer()
		}
	}
}

// generator makes records of one key each by changing one record's bytes.
type generator struct {
	b   []byte
	r   message.Record
	key int // where the key's digits stand
	n   int
}

func newGenerator() *generator {
	r := encode(&message.Message{Topic: "TopicTest", Keys: []string{"key-00000000"}, Body: make([]byte, 100)}, envelope(""), 0, epoch.UnixMilli())
	g := &generator{b: append([]byte(nil), r.Bytes()...)}
	for i := range g.b {
		if i+12 <= len(g.b) && string(g.b[i:i+4]) == "key-" {
			g.key = i + 4
		}
	}
	return g
}

// at makes record n.
func (g *generator) at(n int) *message.Record {
	v := n
	for i := 7; i >= 0; i-- {
		g.b[g.key+i] = byte('0' + v%10)
		v /= 10
	}
	binary.BigEndian.PutUint64(g.b[28:], uint64(n*len(g.b)))
	binary.BigEndian.PutUint64(g.b[56:], uint64(epoch.UnixMilli()+int64(n/100)))
	if err := g.r.Reset(g.b); err != nil {
		panic(err)
	}
	return &g.r
}

func (g *generator) next() *message.Record {
	g.n++
	return g.at(g.n - 1)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestBigFile fills a file of RocketMQ's size from a scan of the log, asks it,
// and opens it again. The figures are for reading; nothing is asserted of times.
func TestBigFile(t *testing.T) {
	if !*bigFile {
		t.Skip("-index.big")
	}
	const n = 19_999_999
	root, err := fs.OS(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, root.MkdirAll("index"))
	require.NoError(t, root.MkdirAll("ember"))
	gen := newGenerator()
	size := int64(len(gen.b))
	o := Options{Slots: 5_000_000, Entries: 20_000_000, Synced: allSynced, FeedBytes: 1}
	o.Scan = func(from, to int64, f func(*message.Record) error) (int64, error) {
		for i := from / size; i*size < to; i++ {
			if err := f(gen.at(int(i))); err != nil {
				return i * size, err
			}
		}
		return to, nil
	}
	before := heap()
	x, err := Open(root.Sub("index"), root.Sub("ember"), o)
	require.NoError(t, err)
	ctx := context.Background()
	x.feed.applied = n * size
	start := time.Now()
	require.NoError(t, x.Rebuild(0))
	require.NoError(t, x.Wait(ctx, math.MaxInt64))
	took := time.Since(start)
	t.Logf("bulk rebuild: %.2f M keys/s; heap %d MiB more", n/took.Seconds()/1e6, (heap()-before)>>20)

	ask := func(name string, x *Index) {
		read := newGenerator()
		times := make([]time.Duration, 0, 20_000)
		rnd := rand.New(rand.NewPCG(1, 2))
		for range cap(times) {
			i := rnd.IntN(n)
			q := Query{Topic: "TopicTest", Key: fmt.Sprintf("key-%08d", i)}
			at := time.Now()
			res, err := x.Find(ctx, q, func(p int64) (*message.Record, error) { return read.at(int(p / size)), nil }, func(*message.Record) bool { return true })
			times = append(times, time.Since(at))
			require.NoError(t, err)
			require.Equal(t, 1, res.Found, q.Key)
		}
		slices.Sort(times)
		t.Logf("%s: query p50 %v, p99 %v, max %v", name, times[len(times)/2], times[len(times)*99/100], times[len(times)-1])
	}
	ask("full file", x)
	start = time.Now()
	save(t, x, message.Mark{Offset: n * size})
	t.Logf("save: %v", time.Since(start))

	// As after a kill: the file counts as active and its slots are computed.
	im := x.last
	require.NoError(t, x.Close())
	last := &im.rows[len(im.rows)-1]
	last.active, last.slotsInFile = true, false
	require.NoError(t, fs.WriteFile(root.Sub("ember"), stateName, im.encode(x.g)))
	faulty := fs.NewFaulty(root.Sub("index"))
	before = heap()
	start = time.Now()
	y, err := Open(faulty, root.Sub("ember"), o)
	require.NoError(t, err)
	opened := time.Since(start)
	require.NoError(t, y.Wait(ctx, math.MaxInt64))
	t.Logf("reopen: Open %v, ready after %v, %d MiB read, heap %d MiB more", opened, time.Since(start), faulty.Counts().BytesRead>>20, (heap()-before)>>20)
	ask("reopened", y)
	require.NoError(t, y.Close())
}
