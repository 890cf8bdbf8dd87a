package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/embermq/embermq/message"
)

// The file "index" of the state folder, docs/format/index.md. All integers are
// big-endian.
//
//	header   0  magic "EMBERIDX"
//	         8  version (1 byte), 3 zero bytes
//	        12  number of rows (4)
//	        16  slots, entries of a file (4 each)
//	        24  mark: log offset (8), fingerprint (4), 4 zero bytes
//	row      0  file name as a number (8)
//	         8  the file's header (40)
//	        48  CRC-32C of the entries, of the complete pieces, of the slots (4 each)
//	        60  flags: 1 active, 2 slots are in the file, 4 times out of order; 3 zero bytes
//	trailer  0  CRC-32C of everything before (4)
//
// On disk. Do not renumber.
const (
	stateName    = "index"
	stateMagic   = "EMBERIDX"
	stateVersion = 1

	stateHeader = 40
	rowLen      = 64

	rowActive, rowSlots, rowLoose = 1, 2, 4
)

// errState is the base of every reason why a saved state cannot be used.
var errState = errors.New("index: saved state")

// row is one file as it was saved.
type row struct {
	number                       int64
	head                         Header
	entriesCRC, crc, slotsCRC    uint32
	active, slotsInFile, unorder bool
}

// image is what the state file holds. Invariant: rows are sorted by name, and
// only the last may be active.
type image struct {
	mark message.Mark
	rows []row
}

func (im *image) encode(g geometry) []byte {
	be := binary.BigEndian
	b := make([]byte, 0, stateHeader+len(im.rows)*rowLen+4)
	b = append(b, stateMagic...)
	b = append(b, stateVersion, 0, 0, 0)
	b = be.AppendUint32(b, uint32(len(im.rows)))
	b = be.AppendUint32(b, uint32(g.slots))
	b = be.AppendUint32(b, uint32(g.entries))
	b = be.AppendUint64(b, uint64(im.mark.Offset))
	b = be.AppendUint32(b, im.mark.Fingerprint)
	b = append(b, 0, 0, 0, 0)
	for _, r := range im.rows {
		var head [HeaderSize]byte
		r.head.Encode(head[:])
		b = be.AppendUint64(b, uint64(r.number))
		b = append(b, head[:]...)
		b = be.AppendUint32(b, r.entriesCRC)
		b = be.AppendUint32(b, r.crc)
		b = be.AppendUint32(b, r.slotsCRC)
		var flags byte
		if r.active {
			flags |= rowActive
		}
		if r.slotsInFile {
			flags |= rowSlots
		}
		if r.unorder {
			flags |= rowLoose
		}
		b = append(b, flags, 0, 0, 0)
	}
	return be.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeImage(b []byte, g geometry) (*image, error) {
	bad := func(format string, args ...any) (*image, error) {
		return nil, fmt.Errorf("%w: %s", errState, fmt.Sprintf(format, args...))
	}
	be := binary.BigEndian
	if len(b) < stateHeader+4 {
		return bad("is cut short")
	}
	if string(b[:8]) != stateMagic {
		return bad("is not ours")
	}
	if b[8] != stateVersion {
		return nil, fmt.Errorf("%w: version %d: %w", errState, b[8], message.ErrUnknownFormat)
	}
	n := int64(be.Uint32(b[12:]))
	if int64(len(b)) != stateHeader+n*rowLen+4 {
		return bad("%d bytes for %d files", len(b), n)
	}
	end := len(b) - 4
	if crc32.Checksum(b[:end], castagnoli) != be.Uint32(b[end:]) {
		return bad("checksum does not match")
	}
	if s, e := int64(be.Uint32(b[16:])), int64(be.Uint32(b[20:])); s != g.slots || e != g.entries {
		return bad("files have %d slots and %d entries, not %d and %d", s, e, g.slots, g.entries)
	}
	im := &image{mark: message.Mark{Offset: int64(be.Uint64(b[24:])), Fingerprint: be.Uint32(b[32:])}}
	if im.mark.Offset < 0 {
		return bad("negative mark")
	}
	im.rows = make([]row, 0, n)
	last := int64(0)
	for at := stateHeader; at < end; at += rowLen {
		r, err := decodeRow(b[at:at+rowLen], g)
		if err != nil {
			return nil, err
		}
		if r.number <= last || r.active && at+rowLen != end {
			return bad("files are out of order")
		}
		last = r.number
		im.rows = append(im.rows, r)
	}
	return im, nil
}

func decodeRow(b []byte, g geometry) (row, error) {
	be := binary.BigEndian
	flags := b[60]
	r := row{
		number: int64(be.Uint64(b)), head: DecodeHeader(b[8:]),
		entriesCRC: be.Uint32(b[48:]), crc: be.Uint32(b[52:]), slotsCRC: be.Uint32(b[56:]),
		active: flags&rowActive != 0, slotsInFile: flags&rowSlots != 0, unorder: flags&rowLoose != 0,
	}
	h, next := r.head, int64(r.head.Next)
	switch {
	case flags > rowActive|rowSlots|rowLoose:
		return r, fmt.Errorf("%w: unknown flags %d", errState, flags)
	case r.number > 99_999_999_999_999_999:
		return r, fmt.Errorf("%w: impossible name", errState)
	case next < 2 || next > g.entries || !r.active && (next != g.entries || !r.slotsInFile):
		return r, fmt.Errorf("%w: file %s has an impossible count", errState, formatName(r.number))
	case h.BeginPosition < 0 || h.BeginPosition > h.EndPosition:
		return r, fmt.Errorf("%w: file %s has impossible positions", errState, formatName(r.number))
	}
	return r, nil
}

// eachSlotBlock encodes the slots in blocks of 64 KiB, passes each on with the
// number of its first slot, and returns the checksum of all.
func eachSlotBlock(slots []uint32, f func(b []byte, s int64) error) (uint32, error) {
	const block = 16 << 10
	buf := make([]byte, 0, block*slotSize)
	crc := uint32(0)
	for s := 0; s < len(slots); s += block {
		buf = buf[:0]
		for _, v := range slots[s:min(s+block, len(slots))] {
			buf = binary.BigEndian.AppendUint32(buf, v)
		}
		crc = crc32.Update(crc, castagnoli, buf)
		if err := f(buf, int64(s)); err != nil {
			return 0, err
		}
	}
	return crc, nil
}
