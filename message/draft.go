package message

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"strings"
)

const (
	// checksumSize is what the whole-record checksum takes at a record's end:
	// name, 0x01, ten digits, 0x02. On disk. Do not change.
	checksumSize = len(PropCRC) + 1 + checksumDigits + 1

	checksumDigits = 10
	ownDigits      = 16 // a position as lower-case hex digits. On disk.
	sumMask        = 0x7FFFFFFF

	// keptBuffer is the largest buffer that Reset keeps: a few large messages
	// must not pin their size in every pooled draft.
	keptBuffer = 1<<20 + 1<<16
)

// Draft is a record that has no place yet. Encode or EncodeRecord fills it
// without any lock held; Stamp puts in what only the log knows. A draft is
// reused for many records and then allocates nothing. It is for one goroutine at
// a time. The zero value is ready.
//
// Invariant: buf is empty or a whole record but for the stamped fields.
type Draft struct {
	buf     []byte
	props   []entry // scratch, cleared after use so that it holds on to nothing
	order   []int32 // props by name, each name once
	own     []int32 // where in buf own positions belong
	scratch [20]byte

	storedAt  int32 // where STORETIMESTAMP lies in buf
	bornFixed bool  // BORNTIMESTAMP is not the store time
	plain     bool
	tagHash   int64
	sum       uint32
}

// frame is what a record gets from the message it is made of, but for the
// properties.
type frame struct {
	topic   string
	queueID int32
	flag    int32
	body    []byte
	keys    []string
}

var noEnvelope Envelope

// Encode writes m as a record for q. The queue of m itself, its delay and its
// durability are not part of a record: the store decides about them. e may be
// nil. Encode keeps neither m nor e and does not change them.
//
// The error is an *InvalidError for a message that cannot be stored and a
// *SizeError for properties over their limit; the draft is then empty. How large
// a body may be is for the store to say.
func (d *Draft) Encode(m *Message, q Queue, e *Envelope) error {
	d.Reset()
	if e == nil {
		e = &noEnvelope
	}
	err := checkDelay(m)
	if err == nil {
		err = d.collectMessage(m)
	}
	if err == nil {
		f := frame{topic: q.Topic, queueID: q.ID, flag: m.Flag, body: m.Body, keys: m.Keys}
		err = d.build(&f, e, e.SysFlag&^(FlagCompressed|maskEncoding)|m.Encoding.sysFlag())
		d.plain = len(e.Reserved) == 0 && e.SysFlag == 0 && len(m.Keys) == 0 && m.UniqueID == "" &&
			m.IdempotencyKey == "" && m.ReplyTo == nil && m.ExpireAt.IsZero()
	}
	d.clearProps()
	return err
}

// EncodeRecord copies a stored record to another queue: for a retry, a dead
// letter, a fired timer, a committed half. Body and compression, flag and
// properties stay, and so do the born time and host unless e has others. Left
// out are the checksum, every EMBER_ property (they speak of the record they
// stand in) and the names in drop. e.Reserved replaces properties of the same
// name. src is not kept.
//
// The error is a *SizeError if the properties do not fit any more, or an
// *InvalidError for a reserved property that cannot be stored.
func (d *Draft) EncodeRecord(src *Record, q Queue, e *Envelope, drop ...string) error {
	d.Reset()
	env := noEnvelope
	if e != nil {
		env = *e
	}
	if env.BornAt == 0 {
		env.BornAt = src.bornMillis()
	}
	if !env.BornHost.IsValid() {
		env.BornHost = src.BornHost()
	}
	for rest := src.propertyText(); ; {
		var name, value string
		var ok bool
		if name, value, rest, ok = nextProperty(rest); !ok {
			break
		}
		if name == PropCRC || strings.HasPrefix(name, PrefixOwn) || slices.Contains(drop, name) {
			continue
		}
		d.add(name, value, entryPlain)
	}
	const kept = FlagCompressed | FlagMultiTags | FlagUnwrap | FlagInnerBatch | maskEncoding
	f := frame{topic: q.Topic, queueID: q.ID, flag: src.Flag(), body: src.StoredBody()}
	err := d.build(&f, &env, env.SysFlag&^kept|src.SysFlag()&kept)
	d.clearProps()
	return err
}

// checkDelay wants at most one way of saying when.
func checkDelay(m *Message) error {
	ways := 0
	if m.DelayLevel != 0 {
		ways++
		if m.DelayLevel < 0 {
			return &InvalidError{Field: "DelayLevel", Reason: "negative"}
		}
	}
	if m.Delay != 0 {
		ways++
		if m.Delay < 0 {
			return &InvalidError{Field: "Delay", Reason: "negative"}
		}
	}
	if !m.DeliverAt.IsZero() {
		ways++
	}
	if ways > 1 {
		return &InvalidError{Field: "Delay", Reason: "more than one of DelayLevel, Delay and DeliverAt is set"}
	}
	return nil
}

// build lays the record out. Everything that Stamp fills in is left as it is.
func (d *Draft) build(f *frame, e *Envelope, sysFlag int32) error {
	propSize, err := d.arrange(e.Reserved, f.keys)
	if err != nil {
		return err
	}
	propSize += checksumSize
	if propSize > MaxProperties {
		return &SizeError{What: "properties", Size: int64(propSize), Limit: MaxProperties}
	}
	if f.topic == "" {
		return &InvalidError{Field: "Topic", Reason: "empty"}
	}
	if strings.IndexByte(f.topic, 0) >= 0 {
		return &InvalidError{Field: "Topic", Reason: "holds a NUL byte"}
	}
	// RocketMQ asks for more than 127 UTF-16 units. A topic of legal characters
	// has as many bytes; for any other, bytes are what the length byte of V1
	// must hold.
	magic, topicLen := MagicV1, 1
	if len(f.topic) > math.MaxInt8 {
		magic, topicLen = MagicV2, 2
		if len(f.topic) > math.MaxInt16 {
			return &SizeError{What: "topic", Size: int64(len(f.topic)), Limit: math.MaxInt16}
		}
	}
	sysFlag &^= FlagBornIPv6 | FlagStoreIPv6
	if isIPv6(e.BornHost) {
		sysFlag |= FlagBornIPv6
	}
	if isIPv6(e.StoreHost) {
		sysFlag |= FlagStoreIPv6
	}
	head := headSize(sysFlag)
	size := int64(head) + int64(len(f.body)) + int64(topicLen+len(f.topic)+2+propSize)
	if size > math.MaxInt32 {
		return &SizeError{What: "record", Size: size, Limit: math.MaxInt32}
	}
	if int64(cap(d.buf)) < size {
		d.buf = make([]byte, 0, size)
	}
	b := d.buf[:size]
	putHead(b, f, e, magic, sysFlag)
	n := head + copy(b[head:], f.body)
	d.storedAt = int32(48 + hostSize(sysFlag&FlagBornIPv6 != 0))
	d.bornFixed = e.BornAt != 0

	if topicLen == 2 {
		b[n] = byte(len(f.topic) >> 8)
		n++
	}
	b[n] = byte(len(f.topic))
	n++
	n += copy(b[n:], f.topic)
	binary.BigEndian.PutUint16(b[n:], uint16(propSize))
	if n, err = d.putProps(b, n+2, f.keys); err != nil {
		return err
	}
	n += copy(b[n:], PropCRC)
	b[n] = nameEnd
	b[n+1+checksumDigits] = valueEnd
	d.buf = b
	return nil
}

// headSize is the size of everything in front of the body.
func headSize(sysFlag int32) int {
	return 72 + hostSize(sysFlag&FlagBornIPv6 != 0) + hostSize(sysFlag&FlagStoreIPv6 != 0)
}

// putHead writes the fields in front of the body. The stamped ones are zero.
func putHead(b []byte, f *frame, e *Envelope, magic uint32, sysFlag int32) {
	be := binary.BigEndian
	_ = b[:MinRecordSize]
	be.PutUint32(b[0:], uint32(len(b)))
	be.PutUint32(b[4:], magic)
	be.PutUint32(b[8:], crc32.ChecksumIEEE(f.body)&sumMask)
	be.PutUint32(b[12:], uint32(f.queueID))
	be.PutUint32(b[16:], uint32(f.flag))
	be.PutUint64(b[20:], 0) // QUEUEOFFSET
	be.PutUint64(b[28:], 0) // PHYSICALOFFSET
	be.PutUint32(b[36:], uint32(sysFlag))
	be.PutUint64(b[40:], uint64(e.BornAt))
	b = putHost(b[48:], e.BornHost)
	be.PutUint64(b, 0) // STORETIMESTAMP
	b = putHost(b[8:], e.StoreHost)
	be.PutUint32(b, uint32(e.ReconsumeTimes))
	be.PutUint64(b[4:], uint64(e.PreparedOffset))
	be.PutUint32(b[12:], uint32(len(f.body)))
}

// Stamp gives the record its place: its position in the log, its offset in the
// queue and the store time in milliseconds. It fills in own positions and then
// the checksum over the whole record. It is the only part that runs under the
// log's lock, so it does nothing else. A draft may be stamped again. Stamping an
// empty draft does nothing.
func (d *Draft) Stamp(position, offset, storedAt int64) {
	b := d.buf
	if len(b) == 0 {
		return
	}
	be := binary.BigEndian
	be.PutUint64(b[20:], uint64(offset))
	be.PutUint64(b[28:], uint64(position))
	if !d.bornFixed {
		be.PutUint64(b[40:], uint64(storedAt))
	}
	be.PutUint64(b[d.storedAt:], uint64(storedAt))
	for _, at := range d.own {
		putHex(b[at:], uint64(position))
	}
	d.sum = crc32.ChecksumIEEE(b[:len(b)-checksumSize]) & sumMask
	putDigits(b[len(b)-1-checksumDigits:], d.sum)
}

// putHex writes 16 lower-case hex digits.
func putHex(b []byte, v uint64) {
	const digits = "0123456789abcdef"
	_ = b[ownDigits-1]
	for i := ownDigits - 1; i >= 0; i-- {
		b[i] = digits[v&15]
		v >>= 4
	}
}

// putDigits writes ten decimal digits, the least significant first, as
// RocketMQ does. The lower eight are taken apart side by side in one word: into
// two numbers of four digits, then four of two, then eight of one.
func putDigits(b []byte, v uint32) {
	_ = b[checksumDigits-1]
	high, low := v/1e8, v%1e8
	w := uint64(low/1e4) | uint64(low%1e4)<<32
	top := (w * 10486 >> 20) & 0x7F_0000007F
	w = top | (w-100*top)<<16
	top = (w * 103 >> 10) & 0x000F000F000F000F
	w = top | (w-10*top)<<8
	binary.BigEndian.PutUint64(b, w|0x3030303030303030)
	b[8], b[9] = byte('0'+high%10), byte('0'+high/10)
}

// Lend empties the draft and gives it memory that the next record is built in, if
// it fits there.
func (d *Draft) Lend(b []byte) {
	d.Reset()
	d.buf = b[:0]
}

// Bytes returns the record. It aliases the draft and is valid until the draft is
// encoded or reset again.
func (d *Draft) Bytes() []byte { return d.buf }

// Size is the record's size; zero for an empty draft.
func (d *Draft) Size() int { return len(d.buf) }

// TagHash is the hash of the record's tag for its queue entry.
func (d *Draft) TagHash() int64 { return d.tagHash }

// Plain reports that the record has nothing but a body, a tag, a sharding key and
// properties of the user's own: no keys, no unique id, nothing that the store or
// RocketMQ gives a meaning. False may be wrong.
func (d *Draft) Plain() bool { return d.plain }

// Sum is the checksum that the last Stamp wrote: the record's fingerprint.
func (d *Draft) Sum() uint32 { return d.sum }

// Reset empties the draft and keeps its memory for the next one, unless that is
// much more than most messages need.
func (d *Draft) Reset() {
	d.buf = d.buf[:0]
	if cap(d.buf) > keptBuffer {
		d.buf = nil
	}
	d.own = d.own[:0]
	d.tagHash, d.sum, d.plain = 0, 0, false
}

// GroupValue is the value of a PropGroup property for an atomic group of n
// records: four hex digits. n is at most 65,535.
func GroupValue(n int) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[n>>12&15], digits[n>>8&15], digits[n>>4&15], digits[n&15]})
}
