package message

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"strconv"
	"strings"
	"unsafe"
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
	keptBuffer = 1 << 20
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
	own     []int32 // where in buf own positions belong
	scratch [20]byte

	bodyEnd   int32 // where the body ends in buf
	storedAt  int32 // where STORETIMESTAMP lies in buf
	bornFixed bool  // BORNTIMESTAMP is not the store time
	tagHash   int64
	body      bodySum
	sum       uint32
}

// entry is one property on its way into a draft.
type entry struct {
	name, value string
	kind        entryKind
}

type entryKind uint8

const (
	entryPlain entryKind = iota
	entryKeys            // the value is the message's keys, joined
	entryOwn             // the record's own position goes in front of the value
	entryGone            // the property is left out
)

// frame is everything of a record but its properties.
type frame struct {
	topic   string
	queueID int32
	flag    int32
	body    []byte
	keys    []string
	env     *Envelope
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
		f := frame{topic: q.Topic, queueID: q.ID, flag: m.Flag, body: m.Body, keys: m.Keys, env: e}
		err = d.build(&f, e.SysFlag&^(FlagCompressed|maskEncoding)|m.Encoding.sysFlag())
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
	for name, value := range src.Properties() {
		if name == PropCRC || strings.HasPrefix(name, PrefixOwn) || slices.Contains(drop, name) {
			continue
		}
		d.props = append(d.props, entry{name: name, value: value})
	}
	const kept = FlagCompressed | FlagMultiTags | FlagUnwrap | FlagInnerBatch | maskEncoding
	f := frame{topic: q.Topic, queueID: q.ID, flag: src.Flag(), body: src.Body(), env: &env}
	err := d.build(&f, env.SysFlag&^kept|src.SysFlag()&kept)
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

// collectMessage gathers what a user sets into d.props, and checks it but for
// separator bytes, which build counts for all properties at once.
func (d *Draft) collectMessage(m *Message) error {
	if m.Encoding >= LZ4 {
		return &InvalidError{Field: "Encoding", Reason: m.Encoding.String() + " cannot be written"}
	}
	size := 0
	add := func(name, value string) {
		size += len(name) + len(value) + 2
		d.props = append(d.props, entry{name: name, value: value})
	}
	for name, value := range m.Properties {
		switch {
		case name == "":
			return &InvalidError{Field: "Properties", Reason: "empty name"}
		case value == "":
			return &InvalidError{Field: "Properties[" + name + "]", Reason: "empty value"}
		case Reserved(name):
			return &InvalidError{Field: "Properties[" + name + "]", Reason: "reserved name"}
		}
		add(name, value)
	}
	if m.Tag != "" {
		if strings.Contains(m.Tag, "||") {
			return &InvalidError{Field: "Tag", Reason: "contains ||, which separates tags in a filter"}
		}
		add(PropTags, m.Tag)
	}
	if len(m.Keys) > 0 {
		size += len(PropKeys) + 1 + len(m.Keys)
		for _, k := range m.Keys {
			if k == "" {
				return &InvalidError{Field: "Keys", Reason: "empty key"}
			}
			if strings.IndexByte(k, ' ') >= 0 {
				return &InvalidError{Field: "Keys", Reason: "a key contains a space, which separates keys"}
			}
			size += len(k)
		}
		d.props = append(d.props, entry{name: PropKeys, kind: entryKeys})
	}
	if m.ShardingKey != "" {
		add(PropShardingKey, m.ShardingKey)
	}
	if m.IdempotencyKey != "" {
		add(PropIdempotency, m.IdempotencyKey)
	}
	if !m.ExpireAt.IsZero() {
		// The text lies in d itself: props are written before scratch is
		// used again.
		t := strconv.AppendInt(d.scratch[:0], m.ExpireAt.UnixMilli(), 10)
		add(PropExpire, unsafe.String(unsafe.SliceData(t), len(t)))
	}
	if size > MaxUserProperties {
		return &SizeError{What: "user properties", Size: int64(size), Limit: MaxUserProperties}
	}
	return nil
}

// arrange puts the reserved properties among the others, sorts all by name, and
// keeps of equal names the last. It returns how large they are when encoded,
// without the checksum.
func (d *Draft) arrange(reserved []Property, keys []string) (int, error) {
	for i := range reserved {
		p := &reserved[i]
		en := entry{name: p.Name, value: p.Value}
		switch {
		case p.Name == "":
			return 0, &InvalidError{Field: "Reserved", Reason: "empty name"}
		case p.Name == PropCRC:
			return 0, &InvalidError{Field: "Reserved[" + PropCRC + "]", Reason: "the encoder's own"}
		case p.Own:
			en.kind = entryOwn
		case p.Value == "":
			en.kind = entryGone
		}
		d.props = append(d.props, en)
	}
	sortEntries(d.props)
	size, n := 0, 0
	for i := range d.props {
		en := &d.props[i]
		if i+1 < len(d.props) && d.props[i+1].name == en.name || en.kind == entryGone {
			continue // a later one of this name counts
		}
		size += len(en.name) + len(en.value) + 2
		switch en.kind {
		case entryOwn:
			size += ownDigits
		case entryKeys:
			size += joinedSize(keys)
		}
		if n != i {
			d.props[n] = *en
		}
		n++
	}
	clear(d.props[n:])
	d.props = d.props[:n]
	return size, nil
}

// sortEntries sorts by name and keeps the order of equal names. A handful is
// the usual number; many must not cost the square.
func sortEntries(es []entry) {
	if len(es) > 24 {
		slices.SortStableFunc(es, func(a, b entry) int { return strings.Compare(a.name, b.name) })
		return
	}
	for i := 1; i < len(es); i++ {
		if es[i-1].name <= es[i].name {
			continue
		}
		en, j := es[i], i
		for ; j > 0 && en.name < es[j-1].name; j-- {
			es[j] = es[j-1]
		}
		es[j] = en
	}
}

// joinedSize is the size of keys joined by one space.
func joinedSize(keys []string) int {
	n := len(keys) - 1
	for _, k := range keys {
		n += len(k)
	}
	return n
}

// build lays the record out. Everything that Stamp fills in is left as it is.
func (d *Draft) build(f *frame, sysFlag int32) error {
	e := f.env
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
		d.buf = make([]byte, size)
	}
	b := d.buf[:size]
	d.body = sumBody(f.body)
	putHead(b, f, magic, sysFlag, d.body.crc)
	n := head + copy(b[head:], f.body)
	d.bodyEnd = int32(n)
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
func putHead(b []byte, f *frame, magic uint32, sysFlag int32, bodyCRC uint32) {
	e := f.env
	be := binary.BigEndian
	_ = b[:MinRecordSize]
	be.PutUint32(b[0:], uint32(len(b)))
	be.PutUint32(b[4:], magic)
	be.PutUint32(b[8:], bodyCRC&sumMask)
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

// putProps writes the properties from b[n] on and returns where they end.
// Separator bytes inside names or values show in their number, which is
// far cheaper to count than to look for in each text.
func (d *Draft) putProps(b []byte, n int, keys []string) (int, error) {
	start := n
	for i := range d.props {
		en := &d.props[i]
		n += copy(b[n:], en.name)
		b[n] = nameEnd
		n++
		switch en.kind {
		case entryOwn:
			d.own = append(d.own, int32(n))
			n += copy(b[n:], "0000000000000000")
		case entryKeys:
			for k, key := range keys {
				if k > 0 {
					b[n] = ' '
					n++
				}
				n += copy(b[n:], key)
			}
		}
		n += copy(b[n:], en.value)
		if en.name == PropTags {
			d.tagHash = TagHash(en.value)
		}
		b[n] = valueEnd
		n++
	}
	if countSeparators(b[start:n]) != 2*len(d.props) {
		return 0, d.findSeparator(keys)
	}
	return n, nil
}

// countSeparators counts the bytes 0x01 and 0x02.
func countSeparators(b []byte) int {
	return bytes.Count(b, []byte{nameEnd}) + bytes.Count(b, []byte{valueEnd})
}

// findSeparator names the property that has a separator byte in it.
func (d *Draft) findSeparator(keys []string) error {
	for _, k := range keys {
		if err := checkText("Keys", k); err != nil {
			return err
		}
	}
	for i := range d.props {
		en := &d.props[i]
		if err := checkText("property name", en.name); err != nil {
			return err
		}
		if err := checkText(en.field(), en.value); err != nil {
			return err
		}
	}
	return &InvalidError{Field: "Properties", Reason: "changed while they were encoded"}
}

// field is the name of the Message field that a property comes from.
func (en *entry) field() string {
	switch en.name {
	case PropTags:
		return "Tag"
	case PropShardingKey:
		return "ShardingKey"
	case PropIdempotency:
		return "IdempotencyKey"
	}
	return "Properties[" + en.name + "]"
}

func (d *Draft) clearProps() {
	clear(d.props)
	d.props = d.props[:0]
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
// RocketMQ does.
func putDigits(b []byte, v uint32) {
	_ = b[checksumDigits-1]
	for i := range checksumDigits {
		b[i] = byte('0' + v%10)
		v /= 10
	}
}

// Bytes returns the record. It aliases the draft and is valid until the draft is
// encoded or reset again.
func (d *Draft) Bytes() []byte { return d.buf }

// Size is the record's size; zero for an empty draft.
func (d *Draft) Size() int { return len(d.buf) }

// TagHash is the hash of the record's tag for its queue entry.
func (d *Draft) TagHash() int64 { return d.tagHash }

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
	d.tagHash, d.sum = 0, 0
}

// GroupValue is the value of a PropGroup property for an atomic group of n
// records: four hex digits. n is at most 65,535.
func GroupValue(n int) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[n>>12&15], digits[n>>8&15], digits[n>>4&15], digits[n&15]})
}
