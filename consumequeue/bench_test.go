package consumequeue

import (
	"fmt"
	"testing"

	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

func benchOptions() Options { return Options{Synced: allSynced} }

// BenchmarkAppend is the dispatcher's share, with the flusher at work.
func BenchmarkAppend(b *testing.B) {
	for _, queues := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("queues=%d", queues), func(b *testing.B) {
			s := openOS(b, benchOptions())
			qs := make([]*Queue, queues)
			for i := range qs {
				qs[i] = s.Queue(queueName(i))
			}
			b.ReportAllocs()
			var i int64
			for b.Loop() {
				q := qs[i%int64(queues)]
				q.Append(i/int64(queues), nth(i))
				i++
			}
		})
	}
}

// BenchmarkAppendMemory leaves the files out: a tail is dropped when it is full.
func BenchmarkAppendMemory(b *testing.B) {
	o := benchOptions()
	o.Manual = true
	s := openOS(b, o)
	q := s.Queue(topic0)
	b.ReportAllocs()
	var i int64
	for b.Loop() {
		q.Append(i, nth(i))
		if i++; i%nominalTail == 0 {
			q.mu.Lock()
			q.dropLocked(q.end)
			q.mu.Unlock()
		}
	}
	s.Delete(topic0.Topic)
}

func BenchmarkFreeze(b *testing.B) {
	o := benchOptions()
	o.Manual = true
	s := openOS(b, o)
	for i := range 10_000 {
		fill(s.Queue(queueName(i)), 0, 100)
	}
	b.Run("freeze/queues=10000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Freeze(message.Mark{})
		}
	})
	b.Run("freeze+touch/queues=10000", func(b *testing.B) {
		qs := s.All()
		at := int64(100)
		b.ReportAllocs()
		for b.Loop() {
			s.Freeze(message.Mark{})
			for _, q := range qs {
				q.Append(at, nth(at))
			}
			at++
		}
	})
	b.Run("save/queues=10000", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, s.Freeze(message.Mark{})())
		}
	})
	for i := range 2500 {
		s.Delete(queueName(i * 4).Topic)
	}
}

func BenchmarkRead(b *testing.B) {
	for _, where := range []string{"tail", "file"} {
		b.Run("entries=32/from="+where, func(b *testing.B) {
			o := benchOptions()
			o.Manual = true
			s := openOS(b, o)
			q := s.Queue(topic0)
			fill(q, 0, 3000)
			if where == "file" {
				require.NoError(b, s.Flush())
			}
			dst := make([]Entry, 32)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := q.Read(1000, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFlushTenThousandQueues(b *testing.B) {
	o := benchOptions()
	o.Manual = true
	s := openOS(b, o)
	var at int64
	for b.Loop() {
		b.StopTimer()
		for i := range 10_000 {
			fill(s.Queue(queueName(i)), at, at+nominalTail)
		}
		at += nominalTail
		b.StartTimer()
		require.NoError(b, s.Flush())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/queue")
}
