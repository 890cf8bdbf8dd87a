package message

import (
	"encoding/binary"
	"iter"
	"math"
	"strings"
	"unsafe"
)

// batchHead is what an element has in front of its body: total size, magic,
// body checksum (both zero), flag, body length. On disk. Do not change.
const batchHead = 20

// BatchItem is one element of RocketMQ's client batch: the body of a message
// that holds many. Its bytes alias the batch.
type BatchItem struct {
	Flag       int32
	Body       []byte
	Properties []byte // encoded as in a record
}

// AppendBatch appends ms, encoded as elements of a client batch, to dst. Topic,
// queue and durability are the batch's, not the element's. Messages are checked
// as by Draft.Encode; on an error dst is returned as it was.
func AppendBatch(dst []byte, ms ...*Message) ([]byte, error) {
	out := dst
	var d Draft
	for _, m := range ms {
		var err error
		if out, err = d.appendItem(out, m); err != nil {
			return dst, err
		}
	}
	return out, nil
}

func (d *Draft) appendItem(dst []byte, m *Message) ([]byte, error) {
	defer d.clearProps()
	if m.DelayLevel != 0 || m.Delay != 0 || !m.DeliverAt.IsZero() {
		return nil, &InvalidError{Field: "Delay", Reason: "an element of a batch cannot be delayed"}
	}
	if err := d.collectMessage(m); err != nil {
		return nil, err
	}
	propSize, err := d.arrange(nil, m.Keys)
	if err != nil {
		return nil, err
	}
	size := int64(batchHead) + int64(len(m.Body)) + 2 + int64(propSize)
	if int64(len(dst))+size > math.MaxInt32 {
		return nil, &SizeError{What: "batch", Size: int64(len(dst)) + size, Limit: math.MaxInt32}
	}
	be := binary.BigEndian
	dst = be.AppendUint32(dst, uint32(size))
	dst = be.AppendUint64(dst, 0)
	dst = be.AppendUint32(dst, uint32(m.Flag))
	dst = be.AppendUint32(dst, uint32(len(m.Body)))
	dst = append(dst, m.Body...)
	dst = be.AppendUint16(dst, uint16(propSize))
	n := len(dst)
	dst = append(dst, make([]byte, propSize)...)
	if _, err := d.putProps(dst, n, m.Keys); err != nil {
		return nil, err
	}
	return dst, nil
}

// BatchItems yields the elements of a client batch. As RocketMQ's broker does,
// it goes by the lengths of the parts and not by the total size. Bytes that are
// no element end it with DefectBatch.
func BatchItems(b []byte) iter.Seq2[BatchItem, error] {
	return func(yield func(BatchItem, error) bool) {
		for len(b) > 0 {
			it, n := cutItem(b)
			if n == 0 {
				yield(BatchItem{}, DefectBatch)
				return
			}
			if !yield(it, nil) {
				return
			}
			b = b[n:]
		}
	}
}

// cutItem reads the element at the start of b and returns its size, zero if
// there is none.
func cutItem(b []byte) (it BatchItem, size int) {
	if len(b) < batchHead+2 {
		return it, 0
	}
	n := int(int32(binary.BigEndian.Uint32(b[16:])))
	if n < 0 || n > len(b)-batchHead-2 {
		return it, 0
	}
	props := batchHead + n + 2
	p := int(int16(binary.BigEndian.Uint16(b[props-2:])))
	if p < 0 || p > len(b)-props {
		return it, 0
	}
	it.Flag = int32(binary.BigEndian.Uint32(b[12:]))
	it.Body = b[batchHead : batchHead+n : batchHead+n]
	it.Properties = b[props : props+p : props+p]
	return it, props + p
}

// Property returns the value of a property; the last of a name counts. It
// aliases the batch.
func (it *BatchItem) Property(name string) (string, bool) {
	return lookup(unsafe.String(unsafe.SliceData(it.Properties), len(it.Properties)), name)
}

// Message returns a copy of what the client sent, without reserved properties.
// It owns its memory.
func (it *BatchItem) Message() *Message {
	m := &Message{Flag: it.Flag, Body: append([]byte{}, it.Body...)}
	m.setProperties(string(it.Properties))
	return m
}

// setProperties sets the fields of m that are stored as properties. Reserved
// ones that no field stands for are left out.
func (m *Message) setProperties(s string) {
	for {
		name, value, rest, ok := nextProperty(s)
		if !ok {
			return
		}
		s = rest
		switch name {
		case PropTags:
			m.Tag = value
		case PropKeys:
			m.Keys = m.Keys[:0]
			for k := range strings.SplitSeq(value, " ") {
				if k != "" {
					m.Keys = append(m.Keys, k)
				}
			}
		case PropShardingKey:
			m.ShardingKey = value
		case PropIdempotency:
			m.IdempotencyKey = value
		case PropUnindexed:
			m.Unindexed = true
		case PropExpire:
			m.ExpireAt = parseMillis(value)
		default:
			if !Reserved(name) {
				if m.Properties == nil {
					m.Properties = make(map[string]string)
				}
				m.Properties[name] = value
			}
		}
	}
}
