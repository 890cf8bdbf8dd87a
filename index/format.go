package index

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// The layout of an index file, docs/format/index.md. On disk. Do not renumber.
const (
	HeaderSize = 40
	EntrySize  = 20
	slotSize   = 4
)

// pieceEntries is how many entries are written at once: 65,520 bytes.
const pieceEntries = 3276

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is the start of an index file. Times are milliseconds since 1970,
// positions are those of records.
type Header struct {
	BeginTime, EndTime         int64 // of the first and the last entry's record
	BeginPosition, EndPosition int64
	UsedSlots                  int32
	Next                       int32 // number of the next entry; the first is 1
}

// Encode writes the header into b, at least HeaderSize bytes.
func (h Header) Encode(b []byte) {
	_ = b[HeaderSize-1]
	be := binary.BigEndian
	be.PutUint64(b, uint64(h.BeginTime))
	be.PutUint64(b[8:], uint64(h.EndTime))
	be.PutUint64(b[16:], uint64(h.BeginPosition))
	be.PutUint64(b[24:], uint64(h.EndPosition))
	be.PutUint32(b[32:], uint32(h.UsedSlots))
	be.PutUint32(b[36:], uint32(h.Next))
}

// DecodeHeader reads a header from b, at least HeaderSize bytes. A count that is
// not positive reads as 1, as RocketMQ reads it.
func DecodeHeader(b []byte) Header {
	_ = b[HeaderSize-1]
	be := binary.BigEndian
	return Header{
		BeginTime: int64(be.Uint64(b)), EndTime: int64(be.Uint64(b[8:])),
		BeginPosition: int64(be.Uint64(b[16:])), EndPosition: int64(be.Uint64(b[24:])),
		UsedSlots: int32(be.Uint32(b[32:])), Next: max(int32(be.Uint32(b[36:])), 1),
	}
}

// Entry is one key of one record.
type Entry struct {
	Hash     int32 // of topic#key, never negative
	Position int64
	Seconds  int32 // store time behind the file's BeginTime, whole seconds
	Prev     int32 // the entry before it in the slot's chain, 0 for none
}

// Encode writes the entry into b, at least EntrySize bytes.
func (e Entry) Encode(b []byte) {
	_ = b[EntrySize-1]
	be := binary.BigEndian
	be.PutUint32(b, uint32(e.Hash))
	be.PutUint64(b[4:], uint64(e.Position))
	be.PutUint32(b[12:], uint32(e.Seconds))
	be.PutUint32(b[16:], uint32(e.Prev))
}

// DecodeEntry reads an entry from b, at least EntrySize bytes.
func DecodeEntry(b []byte) Entry {
	_ = b[EntrySize-1]
	be := binary.BigEndian
	return Entry{
		Hash: int32(be.Uint32(b)), Position: int64(be.Uint64(b[4:])),
		Seconds: int32(be.Uint32(b[12:])), Prev: int32(be.Uint32(b[16:])),
	}
}

// geometry is the size of an index file: its slots, and its entries with the
// entry 0 that is never used.
type geometry struct{ slots, entries int64 }

func (g geometry) entryAt(k int64) int64 { return HeaderSize + g.slots*slotSize + k*EntrySize }
func (g geometry) slotAt(s int64) int64  { return HeaderSize + s*slotSize }
func (g geometry) size() int64           { return g.entryAt(g.entries) }

// pieces is how many pieces a file has, and pieceLen how many entries the i-th.
func (g geometry) pieces() int64           { return (g.entries + pieceEntries - 1) / pieceEntries }
func (g geometry) pieceLen(i int64) int64  { return min(pieceEntries, g.entries-i*pieceEntries) }
func (g geometry) slotOf(hash int32) int64 { return int64(hash) % g.slots }

// seconds is an entry's time as RocketMQ computes it, with begin as it stands in
// the header when the entry is made.
func seconds(begin, at int64) int32 {
	if begin <= 0 {
		return 0
	}
	return int32(min(max((at-begin)/1000, 0), math.MaxInt32))
}
