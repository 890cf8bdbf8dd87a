package message

import (
	"bytes"
	"cmp"
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
	prefix      uint64 // the first eight bytes of name, for cheap comparison
	kind        entryKind
}

// add puts a property behind the others. The fields are set in place: this runs
// for every property of every message.
func (d *Draft) add(name, value string, kind entryKind) {
	n := len(d.props)
	if n == cap(d.props) {
		d.props = slices.Grow(d.props, 8)
	}
	d.props = d.props[:n+1]
	en := &d.props[n]
	en.name, en.value, en.prefix, en.kind = name, value, prefixOf(name), kind
}

// prefixOf packs the first eight bytes so that unequal numbers compare as the
// names do. Equal ones say nothing.
func prefixOf(s string) (p uint64) {
	switch {
	case len(s) >= 8:
		return uint64(load32(s))<<32 | uint64(load32(s[4:]))
	case len(s) >= 4:
		// The two loads overlap and agree where they do.
		return uint64(load32(s))<<32 | uint64(load32(s[len(s)-4:]))<<(64-8*len(s))
	}
	for i := range len(s) {
		p |= uint64(s[i]) << (56 - 8*i)
	}
	return p
}

func load32(s string) uint32 {
	return uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3])
}

// compare orders entries by name.
func (en *entry) compare(other *entry) int {
	if en.prefix != other.prefix {
		return cmp.Compare(en.prefix, other.prefix)
	}
	return strings.Compare(en.name, other.name)
}

type entryKind uint8

const (
	entryPlain entryKind = iota
	entryKeys            // the value is the message's keys, joined
	entryOwn             // the record's own position goes in front of the value
	entryGone            // the property is left out
)

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
	f := frame{topic: q.Topic, queueID: q.ID, flag: src.Flag(), body: src.Body()}
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

// collectMessage gathers what a user sets into d.props, and checks it but for
// separator bytes, which build counts for all properties at once.
func (d *Draft) collectMessage(m *Message) error {
	if m.Encoding >= LZ4 {
		return &InvalidError{Field: "Encoding", Reason: m.Encoding.String() + " cannot be written"}
	}
	size := 0
	for name, value := range m.Properties {
		switch {
		case name == "":
			return &InvalidError{Field: "Properties", Reason: "empty name"}
		case value == "":
			return &InvalidError{Field: "Properties[" + name + "]", Reason: "empty value"}
		case Reserved(name):
			return &InvalidError{Field: "Properties[" + name + "]", Reason: "reserved name"}
		}
		size += len(name) + len(value) + 2
		d.add(name, value, entryPlain)
	}
	if m.Tag != "" {
		if strings.Contains(m.Tag, "||") {
			return &InvalidError{Field: "Tag", Reason: "contains ||, which separates tags in a filter"}
		}
		size += len(PropTags) + len(m.Tag) + 2
		d.add(PropTags, m.Tag, entryPlain)
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
		d.add(PropKeys, "", entryKeys)
	}
	if m.ShardingKey != "" {
		size += len(PropShardingKey) + len(m.ShardingKey) + 2
		d.add(PropShardingKey, m.ShardingKey, entryPlain)
	}
	if m.IdempotencyKey != "" {
		size += len(PropIdempotency) + len(m.IdempotencyKey) + 2
		d.add(PropIdempotency, m.IdempotencyKey, entryPlain)
	}
	if !m.ExpireAt.IsZero() {
		// The text lies in d itself: props are written before scratch is
		// used again.
		t := strconv.AppendInt(d.scratch[:0], m.ExpireAt.UnixMilli(), 10)
		size += len(PropExpire) + len(t) + 2
		d.add(PropExpire, unsafe.String(unsafe.SliceData(t), len(t)), entryPlain)
	}
	if size > MaxUserProperties {
		return &SizeError{What: "user properties", Size: int64(size), Limit: MaxUserProperties}
	}
	return nil
}

// arrange adds the reserved properties to the others and sets d.order: all by
// name, and of equal names only the last. It returns how large they are when
// encoded, without the checksum.
func (d *Draft) arrange(reserved []Property, keys []string) (int, error) {
	for i := range reserved {
		p := &reserved[i]
		kind := entryPlain
		switch {
		case p.Name == "":
			return 0, &InvalidError{Field: "Reserved", Reason: "empty name"}
		case p.Name == PropCRC:
			return 0, &InvalidError{Field: "Reserved[" + PropCRC + "]", Reason: "the encoder's own"}
		case p.Own:
			kind = entryOwn
		case p.Value == "":
			kind = entryGone
		}
		d.add(p.Name, p.Value, kind)
	}
	d.sortProps()
	size, n := 0, 0
	for i, at := range d.order {
		en := &d.props[at]
		if i+1 < len(d.order) && en.compare(&d.props[d.order[i+1]]) == 0 || en.kind == entryGone {
			continue // a later one of this name counts
		}
		size += len(en.name) + len(en.value) + 2
		switch en.kind {
		case entryOwn:
			size += ownDigits
		case entryKeys:
			size += joinedSize(keys)
		}
		d.order[n] = at
		n++
	}
	d.order = d.order[:n]
	return size, nil
}

// sortProps sets d.order to all of d.props by name, equal names in their order.
// A handful is the usual number; many must not cost the square.
func (d *Draft) sortProps() {
	d.order = d.order[:0]
	if len(d.props) > 24 {
		for i := range d.props {
			d.order = append(d.order, int32(i))
		}
		slices.SortFunc(d.order, func(a, b int32) int {
			return cmp.Or(d.props[a].compare(&d.props[b]), cmp.Compare(a, b))
		})
		return
	}
	for i := range d.props {
		en, j := &d.props[i], i
		d.order = append(d.order, int32(i))
		for ; j > 0; j-- {
			before := &d.props[d.order[j-1]]
			if en.prefix > before.prefix || en.prefix == before.prefix && en.name >= before.name {
				break
			}
			d.order[j] = d.order[j-1]
		}
		d.order[j] = int32(i)
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
	d.body = sumBody(f.body)
	putHead(b, f, e, magic, sysFlag, d.body.crc)
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
func putHead(b []byte, f *frame, e *Envelope, magic uint32, sysFlag int32, bodyCRC uint32) {
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
	for _, at := range d.order {
		en := &d.props[at]
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
	if countSeparators(b[start:n]) != 2*len(d.order) {
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
