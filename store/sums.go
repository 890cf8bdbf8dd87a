package store

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

// prefixSum begins the rows of meta that hold checksums of queue files: then follow
// the topic, a slash, the queue's number (4 bytes) and the file's first byte in the queue
// (8). The value is the version, 1, and a CRC-32C. On disk. Do not change.
const (
	prefixSum  = "v/sum/"
	sumVersion = 1
)

// queueSums keeps the checksums of sealed queue files in meta. Until meta is open
// there are none.
type queueSums struct{ s *Store }

func sumKey(q message.Queue, base int64) []byte {
	return binary.BigEndian.AppendUint64(sumPrefix(q), uint64(base))
}

// sumPrefix begins the rows of a queue. A topic that has files has no slash.
func sumPrefix(q message.Queue) []byte {
	return binary.BigEndian.AppendUint32([]byte(prefixSum+q.Topic+"/"), uint32(q.ID))
}

func (k queueSums) Sum(q message.Queue, base int64) (crc uint32, ok bool) {
	db := k.s.metaReady.Load()
	if db == nil {
		return 0, false
	}
	v, ok, err := db.Get(sumKey(q, base))
	if err != nil || !ok || len(v) != 5 || v[0] != sumVersion {
		return 0, false
	}
	return binary.BigEndian.Uint32(v[1:]), true
}

func (k queueSums) Keep(sums []consumequeue.FileSum) error {
	return k.apply(false, func(b *kv.Batch) {
		for _, f := range sums {
			b.Set(sumKey(f.Queue, f.Base), binary.BigEndian.AppendUint32([]byte{sumVersion}, f.CRC))
		}
	})
}

func (k queueSums) Expire(q message.Queue, below int64) error {
	return k.apply(false, func(b *kv.Batch) { b.DeleteRange(sumKey(q, 0), sumKey(q, below)) })
}

func (k queueSums) Forget(q message.Queue) error {
	return k.apply(true, func(b *kv.Batch) { b.DeleteRange(sumKey(q, 0), sumKey(q, math.MaxInt64)) })
}

func (k queueSums) ForgetTopic(topic string) error {
	prefix := prefixSum
	if topic != "" {
		prefix += topic + "/"
	}
	return k.apply(true, func(b *kv.Batch) { b.DeleteRange([]byte(prefix), prefixEnd(prefix)) })
}

// apply waits for nobody's room: queues are rebuilt on a full disk too.
func (k queueSums) apply(sync bool, fill func(b *kv.Batch)) error {
	db := k.s.metaReady.Load()
	if db == nil {
		return ErrClosed
	}
	if db.Stats().Waiting > 0 {
		return ErrDiskFull
	}
	var b kv.Batch
	fill(&b)
	return mapMeta(db.Apply(context.Background(), &b, sync))
}
