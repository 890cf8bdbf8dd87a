package message

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"iter"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// Record is a lazy view of one stored record. Reset checks the frame; all else
// is read from the bytes when it is asked for. The strings and slices that its
// methods return alias those bytes: they are valid as long as the bytes are
// neither changed nor reused. Clone makes a record that owns its bytes.
//
// The zero value is an empty record whose methods return zero values.
//
// Invariant: b is empty, or one whole record whose three variable parts lie
// where the offsets say.
type Record struct {
	b                []byte
	body, topic, end int32 // where the body starts; where the topic starts and ends

	// plain is the body as it was before it was compressed; nil if nobody has
	// inflated it.
	plain *[]byte

	// Home is what the store resolved for the record's queue when it was put;
	// nil in a replay. It is not part of the bytes.
	Home any
}

// ParseRecord returns a view of b, which is exactly one record.
func ParseRecord(b []byte) (Record, error) {
	var r Record
	err := r.Reset(b)
	return r, err
}

// Reset makes r a view of b, which is exactly one record. It checks the
// structure, not the checksums, does not copy and does not allocate. The error
// is a Defect; r is then empty.
func (r *Record) Reset(b []byte) error {
	*r = Record{}
	if len(b) < MinRecordSize {
		return DefectShort
	}
	be := binary.BigEndian
	if int64(be.Uint32(b)) != int64(len(b)) {
		return DefectSize
	}
	magic := be.Uint32(b[4:])
	if magic != MagicV1 && magic != MagicV2 {
		return DefectMagic
	}
	// Lengths are compared as what is left, so that no sum can overflow.
	head := headSize(int32(be.Uint32(b[36:])))
	if len(b) < head {
		return DefectShort
	}
	n := int(int32(be.Uint32(b[head-4:])))
	left := len(b) - head
	if n < 0 || n > left {
		return DefectBody
	}
	at := head + n
	left -= n
	if magic == MagicV1 {
		if left < 1 {
			return DefectTopic
		}
		n = int(int8(b[at]))
		at, left = at+1, left-1
	} else {
		if left < 2 {
			return DefectTopic
		}
		n = int(int16(be.Uint16(b[at:])))
		at, left = at+2, left-2
	}
	if n == 0 {
		return DefectNoTopic
	}
	if n < 0 || n > left {
		return DefectTopic
	}
	topic, end := at, at+n
	left -= n
	if left < 2 || int(int16(be.Uint16(b[end:]))) != left-2 {
		return DefectProps
	}
	r.b, r.body, r.topic, r.end = b, int32(head), int32(topic), int32(end)
	return nil
}

func (r *Record) u32(at int) uint32 {
	if len(r.b) < MinRecordSize {
		return 0
	}
	return binary.BigEndian.Uint32(r.b[at:])
}

func (r *Record) u64(at int) int64 {
	if len(r.b) < MinRecordSize {
		return 0
	}
	return int64(binary.BigEndian.Uint64(r.b[at:]))
}

// text returns a part of the bytes as a string that aliases them.
func (r *Record) text(from, to int32) string {
	if from >= to {
		return ""
	}
	return unsafe.String(&r.b[from], int(to-from))
}

// Bytes returns the whole record.
func (r *Record) Bytes() []byte { return r.b }

// Size is the size of the whole record.
func (r *Record) Size() int { return len(r.b) }

// Topic returns the topic that the record lies in. A message that waits lies in
// a system topic.
func (r *Record) Topic() string { return r.text(r.topic, r.end) }

// QueueID returns the number of the record's queue.
func (r *Record) QueueID() int32 { return int32(r.u32(12)) }

// Queue returns topic and queue number. The topic aliases the bytes.
func (r *Record) Queue() Queue { return Queue{Topic: r.Topic(), ID: r.QueueID()} }

// Offset is the record's offset in its queue.
func (r *Record) Offset() int64 { return r.u64(20) }

// Position is the record's position in the commit log.
func (r *Record) Position() int64 { return r.u64(28) }

// Flag is the user's own flag.
func (r *Record) Flag() int32 { return int32(r.u32(16)) }

// SysFlag holds the bits that Flag… constants name.
func (r *Record) SysFlag() int32 { return int32(r.u32(36)) }

// StoredAt is when the record was stored.
func (r *Record) StoredAt() time.Time { return millis(r.StoredAtMillis()) }

// StoredAtMillis is StoredAt in milliseconds since 1970.
func (r *Record) StoredAtMillis() int64 { return r.u64(56 + r.bornExtra()) }

// BornAt is when the producer made the message.
func (r *Record) BornAt() time.Time { return millis(r.bornMillis()) }

func (r *Record) bornMillis() int64 { return r.u64(40) }

// bornExtra is how many bytes more an IPv6 born host takes.
func (r *Record) bornExtra() int { return hostSize(r.SysFlag()&FlagBornIPv6 != 0) - 8 }

// BornHost is the producer's host.
func (r *Record) BornHost() netip.AddrPort {
	if len(r.b) == 0 {
		return netip.AddrPort{}
	}
	return getHost(r.b[48 : 56+r.bornExtra()])
}

// StoreHost is the host of the store that wrote the record first.
func (r *Record) StoreHost() netip.AddrPort {
	if len(r.b) == 0 {
		return netip.AddrPort{}
	}
	return getHost(r.b[64+r.bornExtra() : r.body-16])
}

// ReconsumeTimes is how often the message was delivered before, in vain.
func (r *Record) ReconsumeTimes() int32 { return int32(r.u32(int(r.body) - 16)) }

// Attempt is the number of this delivery: 1 for the first.
func (r *Record) Attempt() int { return int(r.ReconsumeTimes()) + 1 }

// PreparedOffset is, on a committed message, the position of its half.
func (r *Record) PreparedOffset() int64 { return r.u64(int(r.body) - 12) }

// Body returns the body. One that was put compressed is as it is stored, and
// Encoding tells how, until InflateBody has been called.
func (r *Record) Body() []byte {
	if r.plain != nil {
		return *r.plain
	}
	return r.StoredBody()
}

// StoredBody returns the body as it is stored, compressed or not.
func (r *Record) StoredBody() []byte {
	if len(r.b) == 0 {
		return nil
	}
	n := int32(r.u32(int(r.body) - 4))
	return r.b[r.body : r.body+n : r.body+n]
}

// Encoding says how Body is compressed.
func (r *Record) Encoding() Encoding {
	if r.plain != nil {
		return None
	}
	return encodingOf(r.SysFlag())
}

// InflateBody makes Body return the body as it was before it was compressed, and
// Encoding None. The record's bytes, SysFlag among them, stay as they are stored.
// The errors are Inflate's; the record is then as it was.
func (r *Record) InflateBody(limit int) error {
	if r.Encoding() == None {
		return nil
	}
	b, err := r.Inflate(limit)
	if err != nil {
		return err
	}
	r.plain = &b
	return nil
}

// Inflate returns the body as it was before it was compressed. A body that is
// not compressed is returned as it is and aliases the record; otherwise the
// result is the caller's. A result over limit bytes is a *SizeError; zero is
// DefaultInflateLimit. A compression that is not supported gives the stored body
// and ErrUnsupportedCompression.
func (r *Record) Inflate(limit int) ([]byte, error) {
	if r.Encoding() == None {
		return r.Body(), nil
	}
	return Inflate(nil, r.Body(), r.Encoding(), limit)
}

// PropertyBytes returns the encoded properties, the checksum included.
func (r *Record) PropertyBytes() []byte {
	if len(r.b) == 0 {
		return nil
	}
	return r.b[r.end+2:]
}

func (r *Record) propertyText() string { return r.text(r.end+2, int32(len(r.b))) }

// Property returns the value of a property. When a name stands there twice, the
// last counts. It builds no map.
func (r *Record) Property(name string) (string, bool) { return lookup(r.propertyText(), name) }

// Properties yields all properties in the order of the bytes, reserved ones
// included. A name that stands there twice comes twice; the last counts.
func (r *Record) Properties() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for s := r.propertyText(); ; {
			name, value, rest, ok := nextProperty(s)
			if !ok || !yield(name, value) {
				return
			}
			s = rest
		}
	}
}

// Tag returns the tag, or "".
func (r *Record) Tag() string {
	v, _ := r.Property(PropTags)
	return v
}

// UniqueID returns the message's unique id, or "".
func (r *Record) UniqueID() string {
	v, _ := r.Property(PropUniqKey)
	return v
}

// Keys yields the keys that the index finds the message by.
func (r *Record) Keys() iter.Seq[string] {
	return func(yield func(string) bool) {
		keys, _ := r.Property(PropKeys)
		for keys != "" {
			var k string
			k, keys, _ = strings.Cut(keys, " ")
			if k != "" && !yield(k) {
				return
			}
		}
	}
}

// Checksum returns the checksum that stands in the record's last 20 bytes; ok
// is false if none does. One that stands elsewhere does not count: programs
// that copy records copy it too. Digits that are no checksum give a sum that no
// record has.
func (r *Record) Checksum() (sum uint32, ok bool) {
	p := r.PropertyBytes()
	if len(p) < checksumSize {
		return 0, false
	}
	p = p[len(p)-checksumSize:]
	const name = PropCRC + "\x01"
	if string(p[:len(name)]) != name || p[checksumSize-1] != valueEnd {
		return 0, false
	}
	var v uint64
	for i := checksumSize - 2; i >= len(name); i-- {
		c := p[i] - '0'
		if c > 9 {
			return noSum, true
		}
		v = v*10 + uint64(c)
	}
	if v > sumMask {
		return noSum, true
	}
	return uint32(v), true
}

// noSum is no checksum: those have 31 bits.
const noSum = 0xFFFFFFFF

// Fingerprint computes the checksum over the record, without the last 20 bytes
// if a checksum stands there. For a record that verifies it is what Checksum
// returns; a foreign record has one too.
func (r *Record) Fingerprint() uint32 {
	b := r.b
	if _, ok := r.Checksum(); ok {
		b = b[:len(b)-checksumSize]
	}
	return crc32.ChecksumIEEE(b) & sumMask
}

// VerifyChecksum compares the record's checksum with its bytes. The error is
// DefectNoSum or DefectSum.
func (r *Record) VerifyChecksum() error {
	sum, ok := r.Checksum()
	if !ok {
		return DefectNoSum
	}
	if crc32.ChecksumIEEE(r.b[:len(r.b)-checksumSize])&sumMask != sum {
		return DefectSum
	}
	return nil
}

// VerifyBody compares the body with its own checksum, the only one that a
// foreign record has. An empty body has none. The error is DefectBodySum.
func (r *Record) VerifyBody() error {
	body := r.StoredBody()
	if len(body) > 0 && crc32.ChecksumIEEE(body)&sumMask != r.u32(8) {
		return DefectBodySum
	}
	return nil
}

// VerifyForeign checks what a record without our checksum can be checked by: the
// body by its own checksum, and the topic, whose name holds no NUL byte. A record
// without properties that is torn inside its topic's name has one, and all its
// lengths fit. The error is DefectBodySum or DefectName.
func (r *Record) VerifyForeign() error {
	if strings.IndexByte(r.Topic(), 0) >= 0 {
		return DefectName
	}
	return r.VerifyBody()
}

// OwnValue returns what follows the position in an EMBER_ property of this
// record. ok is false if there is no such property or if it begins with another
// position: then it was copied from another record and says nothing.
func (r *Record) OwnValue(name string) (rest string, ok bool) {
	v, ok := r.Property(name)
	if !ok || len(v) < ownDigits {
		return "", false
	}
	var own [ownDigits]byte
	putHex(own[:], uint64(r.Position()))
	if v[:ownDigits] != string(own[:]) {
		return "", false
	}
	return v[ownDigits:], true
}

// Group returns how many records belong to the atomic group that this record
// begins.
func (r *Record) Group() (n int, ok bool) {
	v, ok := r.OwnValue(PropGroup)
	if !ok || len(v) != 4 {
		return 0, false
	}
	for i := range len(v) {
		c := v[i]
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | int(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | int(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, n > 0
}

// Dispatchable reports whether the record belongs into its queue: prepared
// messages and rollbacks do not.
func (r *Record) Dispatchable() bool {
	t := r.SysFlag() & maskTransaction
	return t == 0 || t == FlagCommit
}

// Clone returns a record that owns its bytes. Home stays.
func (r *Record) Clone() Record {
	c := *r
	c.b = bytes.Clone(r.b)
	if r.plain != nil {
		b := bytes.Clone(*r.plain)
		c.plain = &b
	}
	return c
}

// Message returns a copy of what the user sent, as far as the record has it:
// without delay, durability and reserved properties, and with the body that Body
// returns. It owns its memory. Putting it sends the message again: so it is without
// UniqueID, and without IdempotencyKey, by which a store would take it for the first.
// Property(PropIdempotency) has the key, for whoever forwards and wants it.
func (r *Record) Message() *Message {
	if len(r.b) == 0 {
		return &Message{}
	}
	c := r.Clone()
	m := &Message{
		Topic:    c.Topic(),
		QueueID:  c.QueueID(),
		Body:     c.Body(),
		Flag:     c.Flag(),
		Encoding: c.Encoding(),
	}
	m.setProperties(c.propertyText())
	m.IdempotencyKey = ""
	return m
}

// millis turns a time on disk into a time.
func millis(ms int64) time.Time { return time.UnixMilli(ms) }

// parseMillis reads milliseconds in decimal; what is not a number is no time.
func parseMillis(s string) time.Time {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return millis(ms)
}
