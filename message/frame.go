package message

import "encoding/binary"

// Magic codes. On disk. Do not change.
const (
	// MagicV1 marks a record whose topic length is one byte.
	MagicV1 uint32 = 0xDAA320A7
	// MagicV2 marks a record whose topic length is two bytes.
	MagicV2 uint32 = 0xDAA320AB
	// MagicBlank marks the end of a segment: nothing follows in this file.
	MagicBlank uint32 = 0xCBD43194
)

const (
	// MinRecordSize is the size of the smallest record: IPv4 hosts, a topic of
	// one byte, no body, no properties.
	MinRecordSize = 92
	// FrameSize is how many bytes Frame looks at, and the size of a blank.
	FrameSize = 8
)

// FrameKind is what the first bytes of a place in a segment say about it.
type FrameKind uint8

const (
	// FrameNone: zero bytes. Nothing was written here.
	FrameNone FrameKind = iota
	// FrameMessage: a record of the returned size starts here, if the rest
	// agrees.
	FrameMessage
	// FrameBlank: the segment ends here; size is what remains of it.
	FrameBlank
	// FrameBad: neither.
	FrameBad
)

// String returns the kind in lower case.
func (k FrameKind) String() string {
	switch k {
	case FrameNone:
		return "none"
	case FrameMessage:
		return "message"
	case FrameBlank:
		return "blank"
	}
	return "bad"
}

// Frame reads the size and magic code at the start of b; it looks at no more
// than FrameSize bytes. The size is at least MinRecordSize for a message and at
// least FrameSize for a blank; it is zero for the other kinds. Whether that many
// bytes exist is for the caller to check.
func Frame(b []byte) (size int, kind FrameKind) {
	if len(b) < FrameSize {
		for _, c := range b {
			if c != 0 {
				return 0, FrameBad
			}
		}
		return 0, FrameNone
	}
	n := int32(binary.BigEndian.Uint32(b))
	switch magic := binary.BigEndian.Uint32(b[4:]); {
	case magic == MagicV1 && n >= MinRecordSize, magic == MagicV2 && n > MinRecordSize:
		return int(n), FrameMessage
	case magic == MagicBlank && n >= FrameSize:
		return int(n), FrameBlank
	case magic == 0 && n == 0:
		return 0, FrameNone
	}
	return 0, FrameBad
}

// EncodeBlank writes the mark that ends a segment into the first FrameSize bytes
// of b. remaining is what is left of the segment, the mark included.
func EncodeBlank(b []byte, remaining int) {
	binary.BigEndian.PutUint32(b, uint32(remaining))
	binary.BigEndian.PutUint32(b[4:], MagicBlank)
}
