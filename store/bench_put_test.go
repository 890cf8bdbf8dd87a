package store_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var durabilities = []struct {
	name string
	d    message.Durability
}{{"incache", message.InCache}, {"ondisk", message.OnDisk}}

// BenchmarkPut is single messages from so many producers. The limits of the same
// bytes are BenchmarkLimit; TestBars compares the two side by side.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 16 << 10} {
		for _, producers := range []int{1, 8, 64} {
			for _, sync := range durabilities {
				b.Run(fmt.Sprintf("size=%d/producers=%d/sync=%s", size, producers, sync.name), func(b *testing.B) {
					s := open(b, b.TempDir(), store.WithDurability(sync.d))
					b.SetBytes(int64(size))
					b.ReportAllocs()
					if producers == 1 {
						m, ctx := benchMessage("orders", size), context.Background()
						put(b, s, m)
						for b.Loop() {
							if _, err := s.Put(ctx, m); err != nil {
								b.Fatal(err)
							}
						}
						return
					}
					produce(b, producers, b.N, putter(s, benchMessage("orders", size)))
				})
			}
		}
	}
}

func putter(s *store.Store, m *message.Message) func() func() error {
	return func() func() error {
		ctx := context.Background()
		return func() error { _, err := s.Put(ctx, m); return err }
	}
}

// produce runs n operations on so many goroutines.
func produce(tb testing.TB, producers, n int, start func() func() error) {
	tb.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	ops := make([]func() error, producers)
	for i := range ops {
		ops[i] = start()
	}
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	if b, ok := tb.(*testing.B); ok {
		b.ResetTimer()
	}
	for _, op := range ops {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := op(); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		tb.Fatal(*err)
	}
}

func BenchmarkPutBatch(b *testing.B) {
	for _, size := range []int{100, 1 << 10} {
		for _, sync := range durabilities {
			b.Run(fmt.Sprintf("size=%d/n=100/sync=%s", size, sync.name), func(b *testing.B) {
				s := open(b, b.TempDir(), store.WithDurability(sync.d))
				ms := make([]*message.Message, 100)
				for i := range ms {
					ms[i] = benchMessage("orders", size)
				}
				b.SetBytes(int64(size * len(ms)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.PutBatch(context.Background(), ms); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkPutAsync(b *testing.B) {
	s := open(b, b.TempDir(), store.WithDurability(message.InCache))
	m, ctx := benchMessage("orders", 1<<10), context.Background()
	inFlight := make([]*message.Pending, 10_000)
	b.SetBytes(1 << 10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p := &inFlight[i%len(inFlight)]
		if *p != nil {
			if _, err := (*p).Wait(ctx); err != nil {
				b.Fatal(err)
			}
		}
		*p = s.PutAsync(ctx, m)
	}
}

// BenchmarkLimit is what BenchmarkPut cannot exceed.
func BenchmarkLimit(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 16 << 10} {
		rec := benchRecord(b, benchMessage("orders", size))
		for _, kind := range []limitKind{growing, reserved, rewritten} {
			b.Run(fmt.Sprintf("size=%d/pwrite/%v", size, kind), func(b *testing.B) {
				r := newRawLog(b, b.TempDir(), kind)
				defer r.close()
				b.SetBytes(int64(size))
				for b.Loop() {
					if err := r.write(rec); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("size=%d/gathered/n=100", size), func(b *testing.B) {
			r := newRawLog(b, b.TempDir(), growing)
			defer r.close()
			var buf []byte
			b.SetBytes(int64(size * 100))
			for b.Loop() {
				var err error
				if buf, err = r.gathered(rec, size, 100, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
		for _, producers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("size=%d/producers=%d/groupcommit", size, producers), func(b *testing.B) {
				it := &idealCommit{raw: newRawLog(b, b.TempDir(), rewritten)}
				defer it.raw.close()
				b.SetBytes(int64(size))
				produce(b, producers, b.N, it.producer(rec))
			})
		}
	}
}

func (it *idealCommit) producer(rec []byte) func() func() error {
	return func() func() error {
		done := make(chan bool, 1)
		return func() error { return it.append(rec, done) }
	}
}

// BenchmarkScan drains a queue that lies in the page cache.
func BenchmarkScan(b *testing.B) {
	for _, size := range []int{100, 1 << 10} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			s := open(b, b.TempDir(), store.WithDurability(message.InCache))
			const n = 100_000
			fill(b, s, "orders", size, n)
			q := message.Queue{Topic: "orders"}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			from := int64(0)
			took := 0
			lend := func(*message.Record) error { took++; return nil }
			for took < b.N {
				next, err := s.Scan(q, from, message.Limit{Count: 500}, nil, lend)
				if err != nil {
					b.Fatal(err)
				}
				if from = next; from == n {
					from = 0
				}
			}
		})
	}
}

// fill puts n messages of a size into queue 0 of a topic.
func fill(tb testing.TB, s *store.Store, topic string, size, n int) {
	tb.Helper()
	ms := make([]*message.Message, 1000)
	m := benchMessage(topic, size)
	for i := range ms {
		ms[i] = m
	}
	for n > 0 {
		k := min(n, len(ms))
		_, err := s.PutBatch(context.Background(), ms[:k])
		require.NoError(tb, err)
		n -= k
	}
}
