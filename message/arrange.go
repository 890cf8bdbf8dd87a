package message

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unsafe"
)

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
		if i := strings.IndexByte(m.Tag, '|'); i >= 0 && strings.Contains(m.Tag[i:], "||") {
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
	if m.UniqueID != "" {
		if strings.IndexByte(m.UniqueID, ' ') >= 0 {
			return &InvalidError{Field: "UniqueID", Reason: "contains a space"}
		}
		size += len(PropUniqKey) + len(m.UniqueID) + 2
		d.add(PropUniqKey, m.UniqueID, entryPlain)
	}
	if m.ReplyTo != nil {
		n, err := d.addReplyTo(m.ReplyTo)
		if err != nil {
			return err
		}
		size += n
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
	if m.Unindexed {
		size += len(PropUnindexed) + 1 + 2
		d.add(PropUnindexed, "1", entryPlain)
	}
	if size > MaxUserProperties {
		return &SizeError{What: "user properties", Size: int64(size), Limit: MaxUserProperties}
	}
	return nil
}

// addReplyTo adds the properties of a question and returns their size.
func (d *Draft) addReplyTo(r *ReplyTo) (size int, err error) {
	switch {
	case r.Correlation == "":
		return 0, &InvalidError{Field: "ReplyTo", Reason: "empty correlation id"}
	case r.Client == "":
		return 0, &InvalidError{Field: "ReplyTo", Reason: "empty client"}
	case r.TTL < 0:
		return 0, &InvalidError{Field: "ReplyTo", Reason: "negative TTL"}
	}
	ttl := strconv.FormatInt(r.TTL.Milliseconds(), 10)
	d.add(PropCorrelation, r.Correlation, entryPlain)
	d.add(PropReplyTo, r.Client, entryPlain)
	d.add(PropTTL, ttl, entryPlain)
	return len(PropCorrelation) + len(r.Correlation) + len(PropReplyTo) + len(r.Client) + len(PropTTL) + len(ttl) + 6, nil
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
		if i+1 < len(d.order) {
			if next := &d.props[d.order[i+1]]; next.prefix == en.prefix && next.name == en.name {
				continue // a later one of this name counts
			}
		}
		if en.kind == entryGone {
			continue
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
func (d *Draft) sortProps() {
	n := len(d.props)
	if cap(d.order) < n {
		d.order = make([]int32, n, max(n, 8))
	}
	d.order = d.order[:n]
	if n <= maxRanked && d.rankProps() {
		return
	}
	for i := range d.order {
		d.order[i] = int32(i)
	}
	slices.SortFunc(d.order, func(a, b int32) int {
		return cmp.Or(d.props[a].compare(&d.props[b]), cmp.Compare(a, b))
	})
}

// maxRanked is up to where ranks are cheaper than sorting.
const maxRanked = 16

// rankProps gives every property its rank: how many prefixes are smaller. A map
// yields its entries in random order, so any branch on a comparison would be
// guessed wrong every other time, which costs more than all the comparisons do:
// there is none here. It gives up, and returns false, if two prefixes are equal.
func (d *Draft) rankProps() bool {
	var rank [maxRanked]uint8
	var ties uint64
	for i := range d.props {
		p, r := d.props[i].prefix, uint64(0)
		for j := range d.props[:i] {
			other := d.props[j].prefix
			diff, less := bits.Sub64(p, other, 0)
			ties |= (diff - 1) &^ diff // the top bit, if diff is zero
			r += 1 - less
			rank[j&(maxRanked-1)] += uint8(less)
		}
		rank[i&(maxRanked-1)] = uint8(r)
	}
	if ties>>63 != 0 {
		return false
	}
	for i := range d.props {
		d.order[rank[i&(maxRanked-1)]] = int32(i)
	}
	return true
}

// joinedSize is the size of keys joined by one space.
func joinedSize(keys []string) int {
	n := len(keys) - 1
	for _, k := range keys {
		n += len(k)
	}
	return n
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
	case PropUniqKey:
		return "UniqueID"
	case PropCorrelation, PropReplyTo, PropTTL:
		return "ReplyTo"
	}
	return "Properties[" + en.name + "]"
}

func (d *Draft) clearProps() {
	clear(d.props)
	d.props = d.props[:0]
}
