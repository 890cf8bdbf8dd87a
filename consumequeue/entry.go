package consumequeue

import (
	"encoding/binary"
	"math"
	"strconv"
	"unsafe"

	"github.com/embermq/embermq/message"
)

// EntrySize is the length of an entry in a file. On disk. Do not change.
const EntrySize = 20

// blankSize is the size field of a pre-blank entry. On disk. Do not change.
const blankSize = math.MaxInt32

// maxOffset bounds queue offsets, so that no byte offset of a file overflows.
const maxOffset = int64(1) << 58

// Entry names the record of one queue offset.
//
//	offset  size  field
//	     0     8  Position
//	     8     4  Size
//	    12     8  TagHash
//
// All three are big-endian in a file.
type Entry struct {
	// Position is where the record begins in the commit log.
	Position int64
	// TagHash is the hash of the record's tag, zero without one; for a record of
	// a delay level it is the time it is due.
	TagHash int64
	// Size is the record's length.
	Size int32
}

// Blank is the pre-blank entry: it fills offsets that have no record, below a
// queue's first offset and where the log has lost records.
var Blank = Entry{Size: blankSize}

// Blank reports whether the entry stands for no record.
func (e Entry) Blank() bool { return e == Blank }

// end is the log position behind the record.
func (e Entry) end() int64 { return e.Position + int64(e.Size) }

// valid is RocketMQ's test: what fails it ends a queue.
func (e Entry) valid() bool { return e.Position >= 0 && e.Size > 0 }

// Encode writes the entry's 20 bytes to b.
func (e Entry) Encode(b []byte) {
	_ = b[EntrySize-1]
	binary.BigEndian.PutUint64(b, uint64(e.Position))
	binary.BigEndian.PutUint32(b[8:], uint32(e.Size))
	binary.BigEndian.PutUint64(b[12:], uint64(e.TagHash))
}

// Decode reads an entry from the first 20 bytes of b.
func Decode(b []byte) Entry {
	_ = b[EntrySize-1]
	return Entry{
		Position: int64(binary.BigEndian.Uint64(b)),
		Size:     int32(binary.BigEndian.Uint32(b[8:])),
		TagHash:  int64(binary.BigEndian.Uint64(b[12:])),
	}
}

// fillBlank writes pre-blank entries over b.
func fillBlank(b []byte) {
	if len(b) < EntrySize {
		return
	}
	Blank.Encode(b)
	for n := EntrySize; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}

// raw is the last len(dst)*20 bytes of dst's own memory: a read puts encoded
// entries there and unpack decodes them in place, without a second buffer.
func raw(dst []Entry) []byte {
	const size = int(unsafe.Sizeof(Entry{}))
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(dst))), len(dst)*size)
	return b[len(dst)*(size-EntrySize):]
}

// unpack decodes what was read into raw(dst). Decoding goes forward: entry i
// ends at size*(i+1), never behind the beginning of encoded entry i+1, because
// the encoded ones end where dst ends and are not longer.
func unpack(dst []Entry) {
	b := raw(dst)
	for i := range dst {
		e := Decode(b[i*EntrySize:])
		dst[i] = e
	}
}

// fileName is the name of the queue file that begins at byte offset base.
func fileName(base int64) string {
	var b [20]byte
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + base%10)
		base /= 10
	}
	return string(b[:])
}

// parseFileName is the inverse of fileName; false for anything else.
func parseFileName(name string) (base int64, ok bool) {
	if len(name) != 20 {
		return 0, false
	}
	for i := range len(name) {
		if name[i] < '0' || name[i] > '9' {
			return 0, false
		}
	}
	base, err := strconv.ParseInt(name, 10, 64)
	return base, err == nil
}

// dirName is the folder of a queue's files.
func dirName(q message.Queue) string {
	return q.Topic + "/" + strconv.FormatInt(int64(q.ID), 10)
}

// pathSafe reports whether the topic may become a folder's name. The store
// checks names before they get here; a foreign log is checked by nobody.
func pathSafe(topic string) bool {
	if topic == "" || topic == "." || topic == ".." {
		return false
	}
	for i := range len(topic) {
		if c := topic[i]; c == '/' || c == '\\' || c == ':' || c < ' ' {
			return false
		}
	}
	return true
}
