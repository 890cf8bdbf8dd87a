package commitlog

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

const benchSegment = 64 << 20

// benchGroup returns a group of one record whose size is about n.
func benchGroup(tb testing.TB, seq *Sequence, n int, onDisk bool) *Group {
	tb.Helper()
	g := &Group{OnDisk: onDisk}
	m := message.Message{Topic: "orders", Tag: "paid", Body: make([]byte, n)}
	e := g.Add()
	e.Seq = seq
	require.NoError(tb, e.Draft.Encode(&m, message.Queue{Topic: "orders"}, nil))
	return g
}

// rawFile is a segment without a log: what the machine can do at most.
func rawFile(tb testing.TB, root fs.FS, name string, written bool) fs.File {
	tb.Helper()
	f, err := root.Open(name, fs.Create)
	require.NoError(tb, err)
	require.NoError(tb, f.Truncate(benchSegment))
	if written {
		for at := int64(0); at < benchSegment; at += zeroChunk {
			_, err := f.WriteAt(zeros[:], at)
			require.NoError(tb, err)
		}
	}
	require.NoError(tb, f.Sync())
	return f
}

// BenchmarkAppendInCache compares one producer with one pwrite of the same bytes
// into files of the same kind.
func BenchmarkAppendInCache(b *testing.B) {
	for _, size := range []int{100, 1 << 10} {
		b.Run(fmt.Sprintf("size=%d/log", size), func(b *testing.B) {
			l := open(b, disk(b), Options{SegmentSize: benchSegment, MaxUnsynced: 64 << 20})
			defer l.Close()
			g := benchGroup(b, NewSequence(0), size, false)
			b.SetBytes(int64(g.Entries[0].Draft.Size()))
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Append(ctx, g); err != nil {
					b.Fatal(err)
				}
				if l.Appended() > 1<<30 {
					if _, err := l.Expire(l.Appended() - 1<<29); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run(fmt.Sprintf("size=%d/pwrite", size), func(b *testing.B) {
			root := disk(b)
			g := benchGroup(b, nil, size, false)
			p := g.Entries[0].Draft.Bytes()
			b.SetBytes(int64(len(p)))
			var f fs.File
			at, n := int64(benchSegment), 0
			for b.Loop() {
				if at+int64(len(p)) > benchSegment {
					if f != nil {
						_ = f.Close()
					}
					if n >= 8 {
						require.NoError(b, root.Remove(fmt.Sprint(n-8)))
					}
					f, at = rawFile(b, root, fmt.Sprint(n), false), 0
					require.NoError(b, f.Preallocate(0, benchSegment))
					n++
				}
				if _, err := f.WriteAt(p, at); err != nil {
					b.Fatal(err)
				}
				at += int64(len(p))
			}
			_ = f.Close()
		})
	}
}

// BenchmarkAppendOnDisk compares producers that wait for the disk with the ideal
// group commit into a file of written zeros.
func BenchmarkAppendOnDisk(b *testing.B) {
	for _, producers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("producers=%d/log", producers), func(b *testing.B) {
			l := open(b, disk(b), Options{SegmentSize: benchSegment, MaxUnsynced: 16 << 20, OnDisk: true})
			defer l.Close()
			seq := NewSequence(0)
			produce(b, producers, func() func() error {
				g := benchGroup(b, seq, 1<<10, true)
				return func() error { return l.Append(ctx, g) }
			})
			s := l.Stats()
			b.ReportMetric(float64(b.N)/float64(s.Syncs), "records/sync")
			b.ReportMetric(float64(s.Yields)/float64(s.Syncs), "yields/sync")
		})
		b.Run(fmt.Sprintf("producers=%d/ideal", producers), func(b *testing.B) {
			it := &ideal{f: rawFile(b, disk(b), "raw", true), buf: make([]byte, 0, 1<<20)}
			defer it.f.Close()
			produce(b, producers, func() func() error {
				g := benchGroup(b, nil, 1<<10, true)
				done := make(chan bool, 1)
				return func() error { return it.append(g.Entries[0].Draft.Bytes(), done) }
			})
		})
	}
}

// produce runs b.N operations on n goroutines.
func produce(b *testing.B, n int, start func() func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	ops := make([]func() error, n)
	for i := range ops {
		ops[i] = start()
	}
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for _, op := range ops {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := op(); err != nil {
					panic(err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}

// ideal is group commit and nothing else: gather, yield twice, one write, one
// sync.
type ideal struct {
	f   fs.File
	at  int64
	buf []byte

	mu   sync.Mutex
	busy bool
	data [][]byte
	wait []chan bool
}

func (it *ideal) append(p []byte, done chan bool) error {
	it.mu.Lock()
	it.data, it.wait = append(it.data, p), append(it.wait, done)
	lead := !it.busy
	it.busy = true
	it.mu.Unlock()
	if !lead && !<-done {
		return nil
	}
	for range 2 {
		runtime.Gosched()
	}
	it.mu.Lock()
	data, wait := it.data, it.wait
	it.data, it.wait = nil, nil
	it.mu.Unlock()
	it.buf = it.buf[:0]
	for _, d := range data {
		it.buf = append(it.buf, d...)
	}
	if it.at+int64(len(it.buf)) > benchSegment {
		it.at = 0
	}
	if _, err := it.f.WriteAt(it.buf, it.at); err != nil {
		return err
	}
	it.at += int64(len(it.buf))
	if err := it.f.SyncData(); err != nil {
		return err
	}
	for _, c := range wait {
		if c != done {
			c <- false
		}
	}
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.busy = len(it.wait) > 0; it.busy {
		it.wait[0] <- true
	}
	return nil
}

func BenchmarkAsync(b *testing.B) {
	for _, onDisk := range []bool{false, true} {
		b.Run(fmt.Sprintf("onDisk=%v", onDisk), func(b *testing.B) {
			free := make(chan *Group, 10_000)
			o := Options{SegmentSize: benchSegment, MaxUnsynced: 16 << 20, OnDisk: onDisk,
				Release: func(g *Group) { free <- g }}
			l := open(b, disk(b), o)
			defer l.Close()
			seq := NewSequence(0)
			for range cap(free) {
				g := benchGroup(b, seq, 1<<10, onDisk)
				g.Done = func(g *Group, err error) {
					if err != nil {
						panic(err)
					}
					g.Release()
				}
				free <- g
			}
			b.ReportAllocs()
			for b.Loop() {
				g := <-free
				if err := l.AppendAsync(ctx, g); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	l := open(b, disk(b), Options{SegmentSize: benchSegment, MaxUnsynced: 16 << 20})
	defer l.Close()
	seq := NewSequence(0)
	g := benchGroup(b, seq, 1<<10, false)
	size := g.Entries[0].Draft.Size()
	var places []int64
	for range 100_000 {
		if err := l.Append(ctx, g); err != nil {
			b.Fatal(err)
		}
		places = append(places, g.Entries[0].Position)
	}
	b.Run("scan", func(b *testing.B) {
		b.SetBytes(l.Appended())
		b.ReportAllocs()
		for b.Loop() {
			if _, err := l.Scan(0, l.Appended(), func(*message.Record) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("scan/pread", func(b *testing.B) {
		b.SetBytes(l.Appended())
		for b.Loop() {
			if _, err := l.scan(0, l.Appended(), false, func(*message.Record) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	var r message.Record
	b.Run("record", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for i := 0; b.Loop(); i++ {
			var err error
			if buf, err = l.Record(places[i*7919%len(places)], size, buf, &r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("lend", func(b *testing.B) {
		b.ReportAllocs()
		d := l.NewLender(true)
		defer d.Release()
		for i := 0; b.Loop(); i++ {
			if err := d.Lend(places[i%len(places)], size, &r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
