package producer_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

func benchMessage(size int) *message.Message {
	return &message.Message{Topic: "orders", Tag: "paid", Keys: []string{"order-1", "customer-7"},
		Properties: map[string]string{"a": "1", "b": "2", "c": "3"}, Body: make([]byte, size)}
}

// BenchmarkSend puts Send beside Put of the same bytes.
func BenchmarkSend(b *testing.B) {
	for _, d := range []message.Durability{message.InCache, message.OnDisk} {
		for _, size := range []int{100, 1024} {
			for _, what := range []string{"put", "send"} {
				b.Run(fmt.Sprintf("sync=%v/size=%d/%s", d, size, what), func(b *testing.B) {
					s := openStore(b, store.WithDurability(d))
					p := newProducer(b, s)
					m, ctx := benchMessage(size), context.Background()
					put := s.Put
					if what == "send" {
						put = p.Send
					}
					_, err := put(ctx, m)
					require.NoError(b, err)
					b.ReportAllocs()
					for b.Loop() {
						if _, err := put(ctx, m); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

// BenchmarkSendAsync sends from one goroutine, OnDisk: beside BenchmarkSend.
func BenchmarkSendAsync(b *testing.B) {
	for _, c := range []struct {
		name string
		keys int
		opts []producer.Option
	}{
		{"plain", 0, nil},
		{"keys=1", 1, nil},
		{"keys=1000", 1000, nil},
		{"linger", 0, []producer.Option{producer.WithLinger(1e6, 64<<10)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := openStore(b)
			p := newProducer(b, s, c.opts...)
			ms := []*message.Message{benchMessage(1024)}
			for i := range c.keys {
				m := benchMessage(1024)
				m.ShardingKey = fmt.Sprint("key-", i)
				ms = append(ms, m)
			}
			if c.keys > 0 {
				ms = ms[1:]
			}
			ctx := context.Background()
			var wg sync.WaitGroup
			done := func(_ message.Receipt, err error) {
				if err != nil {
					b.Error(err)
				}
				wg.Done()
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				wg.Add(1)
				p.SendAsync(ctx, ms[i%len(ms)], done)
				i++
			}
			wg.Wait()
		})
	}
}

// BenchmarkOverhead is a send to an engine that does nothing.
func BenchmarkOverhead(b *testing.B) {
	p := newProducer(b, nothing{})
	m, ctx := benchMessage(100), context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Send(ctx, m); err != nil {
			b.Fatal(err)
		}
	}
}

type nothing struct{}

func (nothing) QueueCount(string) (int, error) { return 4, nil }
func (nothing) Put(ctx context.Context, m *message.Message) (message.Receipt, error) {
	return message.Receipt{Queue: message.Queue{Topic: m.Topic, ID: m.QueueID}}, nil
}
func (nothing) PutBatch(_ context.Context, ms []*message.Message) ([]message.Receipt, error) {
	return make([]message.Receipt, len(ms)), nil
}
func (nothing) PutAsync(context.Context, *message.Message) *message.Pending {
	p := message.NewPending()
	p.Resolve(message.Receipt{}, nil)
	return p
}
