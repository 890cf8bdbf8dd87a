package message

import (
	"bytes"
	"strconv"
	"testing"
)

// steady is the message that the allocation bars speak of: a tag, two keys,
// three properties.
func steady(size int) *Message {
	return &Message{
		Topic: "orders", Tag: "paid", Keys: []string{"order-4711", "customer-42"},
		Body:       bytes.Repeat([]byte("x"), size),
		Properties: map[string]string{"colour": "red", "size": "9", "region": "north"},
	}
}

func BenchmarkEncodeStamp(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 16 << 10, 1 << 20} {
		b.Run("size="+strconv.Itoa(size), func(b *testing.B) {
			m, q := steady(size), Queue{Topic: "orders", ID: 3}
			var d Draft
			b.SetBytes(int64(size))
			b.ReportAllocs()
			pos := int64(0)
			for b.Loop() {
				if err := d.Encode(m, q, nil); err != nil {
					b.Fatal(err)
				}
				d.Stamp(pos, 7, 1700000000000)
				pos += int64(d.Size())
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 1 << 20} {
		b.Run("size="+strconv.Itoa(size), func(b *testing.B) {
			m, q := steady(size), Queue{Topic: "orders", ID: 3}
			var d Draft
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := d.Encode(m, q, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkStamp(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 4 << 10, 16 << 10, 1 << 20} {
		b.Run("size="+strconv.Itoa(size), func(b *testing.B) {
			var d Draft
			if err := d.Encode(steady(size), Queue{Topic: "orders", ID: 3}, nil); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			pos := int64(0)
			for b.Loop() {
				d.Stamp(pos, 7, 1700000000000)
				pos++
			}
		})
	}
}

func BenchmarkRecord(b *testing.B) {
	var d Draft
	if err := d.Encode(steady(1<<10), Queue{Topic: "orders", ID: 3}, nil); err != nil {
		b.Fatal(err)
	}
	d.Stamp(1, 2, 3)
	rec := d.Bytes()
	b.Run("reset", func(b *testing.B) {
		var r Record
		for b.Loop() {
			if err := r.Reset(rec); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("reset-tag-property", func(b *testing.B) {
		var r Record
		for b.Loop() {
			if err := r.Reset(rec); err != nil {
				b.Fatal(err)
			}
			if _, ok := r.Property("size"); !ok || r.Tag() != "paid" {
				b.Fatal("property")
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		b.SetBytes(int64(len(rec)))
		var r Record
		for b.Loop() {
			if err := r.Reset(rec); err != nil {
				b.Fatal(err)
			}
			if err := r.VerifyChecksum(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkTagHash(b *testing.B) {
	for b.Loop() {
		_ = TagHash("delayed-flight")
	}
}
