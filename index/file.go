package index

import (
	"hash/crc32"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// piece is a run of entries in memory. b has room for all of the piece's
// entries; end is behind the last record that one of them names.
type piece struct {
	b   []byte
	end int64
}

// file is one index file. Its slots and entries are in memory until they are in
// the file on disk.
//
// A query reads it while the builder adds to it: an entry is complete before its
// slot names it, and a piece or a slot table leaves memory only when the same
// bytes are in the file.
type file struct {
	number int64
	name   string
	g      geometry

	slots  atomic.Pointer[[]uint32]
	pieces []atomic.Pointer[piece]

	// sound says that the slots on disk are what was written: by this process, or
	// their checksum was compared.
	sound atomic.Bool

	mu        sync.Mutex // guards what queries see
	seen      Header
	seenLoose bool

	// The rest belongs to the one who holds buildMu.
	head    Header
	loose   bool   // store times are not in order: nothing may be concluded from them
	crc     uint32 // of the pieces that are complete
	written int64  // entries below it are in the file
	created bool
	fresh   bool // the name may not be durable
	dirty   bool // bytes may not be durable
	stored  bool // full, and all of it is in the file
	expired bool

	entriesCRC, slotsCRC uint32 // of a stored file

	// Guarded by the mutex of handles.
	h    fs.File
	refs int
	gone bool
}

// newFile makes an empty file in memory that follows one with the header prev.
func newFile(number int64, g geometry, prev Header) *file {
	f := bareFile(number, g)
	slots := make([]uint32, g.slots)
	f.slots.Store(&slots)
	f.pieces = make([]atomic.Pointer[piece], g.pieces())
	// RocketMQ gives a new file the last one's end. The first entry's seconds are
	// counted from there; then its own time and position replace the begin.
	f.head = Header{
		BeginTime: max(prev.EndTime, 0), EndTime: max(prev.EndTime, 0),
		BeginPosition: max(prev.EndPosition, 0), EndPosition: max(prev.EndPosition, 0), Next: 1,
	}
	f.sound.Store(true)
	f.seen.Next = 1
	return f
}

func bareFile(number int64, g geometry) *file {
	return &file{number: number, name: formatName(number), g: g}
}

func (f *file) full() bool { return int64(f.head.Next) >= f.g.entries }

// put adds an entry and returns how much memory it took. The file is not full.
func (f *file) put(it *item) (grown int64) {
	k := int64(f.head.Next)
	i := k / pieceEntries
	p := f.pieces[i].Load()
	if p == nil {
		p = &piece{b: make([]byte, f.g.pieceLen(i)*EntrySize)}
		grown = int64(len(p.b))
		f.pieces[i].Store(p)
	}
	h := &f.head
	slots := *f.slots.Load()
	slot := &slots[f.g.slotOf(it.hash)]
	prev := *slot
	at := (k - i*pieceEntries) * EntrySize
	Entry{it.hash, it.position, seconds(h.BeginTime, it.stored), int32(prev)}.Encode(p.b[at:])
	p.end = it.position + int64(it.size)
	atomic.StoreUint32(slot, uint32(k))
	if k == 1 {
		h.BeginPosition, h.BeginTime = it.position, it.stored
	} else if it.stored < h.EndTime {
		f.loose = true
	}
	if prev == 0 {
		h.UsedSlots++
	}
	h.Next++
	h.EndPosition, h.EndTime = it.position, it.stored
	if int64(h.Next)%pieceEntries == 0 {
		f.crc = crc32.Update(f.crc, castagnoli, p.b)
	}
	return grown
}

// sum is the checksum of the entries below the next one, the empty one included.
func (f *file) sum() uint32 {
	if f.stored {
		return f.entriesCRC
	}
	k := int64(f.head.Next)
	i := k / pieceEntries
	n := (k - i*pieceEntries) * EntrySize
	if n == 0 {
		return f.crc
	}
	return crc32.Update(f.crc, castagnoli, f.pieces[i].Load().b[:n])
}

// publish shows the header to queries. It follows the entries it counts.
func (f *file) publish() {
	f.mu.Lock()
	f.seen, f.seenLoose = f.head, f.loose
	f.mu.Unlock()
}

// view is the header as queries see it, and whether its times can be trusted.
func (f *file) view() (h Header, ordered bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen, !f.seenLoose
}

// release takes a piece out of memory.
func (f *file) release(i int64) (freed int64) {
	if p := f.pieces[i].Swap(nil); p != nil {
		return int64(len(p.b))
	}
	return 0
}

// corrupt is the error for damage at off.
func (x *Index) corrupt(f *file, off int64, reason string, err error) *message.CorruptError {
	return &message.CorruptError{Path: x.fsys.Path(f.name), Offset: off, Reason: reason, Err: err}
}

// readAt reads from the file on disk. Bytes that must be there and are not are
// corruption.
func (x *Index) readAt(f *file, b []byte, off int64) error {
	h, err := x.handles.acquire(f)
	if err != nil {
		if isNotExist(err) {
			return x.corrupt(f, 0, "file is missing", err)
		}
		return err
	}
	defer x.handles.release(f)
	if _, err := h.ReadAt(b, off); err != nil {
		if isShort(err) {
			return x.corrupt(f, off, "file is too short", err)
		}
		// A sector that cannot be read does not come back; a file built anew does.
		return x.corrupt(f, off, "file cannot be read", err)
	}
	return nil
}
