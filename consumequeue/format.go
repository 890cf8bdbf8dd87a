package consumequeue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/embermq/embermq/message"
)

// The file "queues", docs/format/queues.md. All integers are big-endian.
//
//	header   0  magic "EMBERQUE"
//	         8  version (1 byte), 3 zero bytes, flags (4 bytes, zero)
//	        16  queue file size
//	        24  mark: log offset (8), fingerprint (4), 4 zero bytes
//	row      0  0x01
//	         1  flags: 1 damaged, 2 has files
//	         2  length of the topic (2)
//	         4  queue id (4)
//	         8  start, end, fileEnd (8 each)
//	        32  number of runs (4)
//	        36  topic
//	run      0  kind: 1 entries, 2 pre-blank
//	         1  number of entries (8)
//	         9  the entries, 20 bytes each (kind 1 only)
//	trailer  0  0x00
//	         1  number of rows (4)
//	         5  CRC-32C of everything before (4)
//
// On disk. Do not renumber.
const (
	imageMagic   = "EMBERQUE"
	imageVersion = 1

	headerLen  = 40
	rowLen     = 36
	runLen     = 9
	trailerLen = 9

	tagEnd, tagRow = 0, 1

	rowDamaged, rowInFiles = 1, 2

	runEntries, runBlank = 1, 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errImage is the base of every reason why an image cannot be used.
var errImage = errors.New("consumequeue: saved image")

// imageWriter writes the file in order through one buffer.
type imageWriter struct {
	w    io.WriterAt
	off  int64
	crc  uint32
	rows uint32
	buf  []byte
	err  error
}

const imageBuffer = 256 << 10

func newImageWriter(w io.WriterAt, fileSize int64, m message.Mark) *imageWriter {
	iw := &imageWriter{w: w, buf: make([]byte, 0, imageBuffer)}
	b := append(iw.buf, imageMagic...)
	b = append(b, imageVersion, 0, 0, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(fileSize))
	b = binary.BigEndian.AppendUint64(b, uint64(m.Offset))
	b = binary.BigEndian.AppendUint32(b, m.Fingerprint)
	iw.buf = append(b, 0, 0, 0, 0)
	return iw
}

// room makes sure that n more bytes, at most imageBuffer, fit the buffer.
func (iw *imageWriter) room(n int) {
	if len(iw.buf)+n > cap(iw.buf) {
		iw.spill()
	}
}

func (iw *imageWriter) spill() {
	if iw.err != nil {
		iw.buf = iw.buf[:0]
		return
	}
	iw.crc = crc32.Update(iw.crc, castagnoli, iw.buf)
	_, iw.err = iw.w.WriteAt(iw.buf, iw.off)
	iw.off += int64(len(iw.buf))
	iw.buf = iw.buf[:0]
}

// row writes one queue.
func (iw *imageWriter) row(name message.Queue, im *image) {
	iw.rows++
	iw.room(rowLen + len(name.Topic))
	var flags byte
	if im.flags&flagDamaged != 0 {
		flags |= rowDamaged
	}
	if im.flags&flagInFiles != 0 {
		flags |= rowInFiles
	}
	b := append(iw.buf, tagRow, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(len(name.Topic)))
	b = binary.BigEndian.AppendUint32(b, uint32(name.ID))
	b = binary.BigEndian.AppendUint64(b, uint64(im.start))
	b = binary.BigEndian.AppendUint64(b, uint64(im.end))
	b = binary.BigEndian.AppendUint64(b, uint64(im.fileEnd))
	b = binary.BigEndian.AppendUint32(b, countRuns(im.pieces))
	iw.buf = append(b, name.Topic...)
	for ps := im.pieces; len(ps) > 0; {
		k, n := firstRun(ps)
		iw.run(ps[:k], n)
		ps = ps[k:]
	}
}

// firstRun returns how many pieces the first run takes, and its entries.
func firstRun(ps []piece) (k int, n int64) {
	blank := ps[0].c.data == nil
	for k < len(ps) && (ps[k].c.data == nil) == blank {
		n += ps[k].to - ps[k].from
		k++
	}
	return k, n
}

func countRuns(ps []piece) (runs uint32) {
	for len(ps) > 0 {
		k, _ := firstRun(ps)
		ps = ps[k:]
		runs++
	}
	return runs
}

func (iw *imageWriter) run(ps []piece, n int64) {
	iw.room(runLen)
	kind := byte(runEntries)
	if ps[0].c.data == nil {
		kind = runBlank
	}
	iw.buf = binary.BigEndian.AppendUint64(append(iw.buf, kind), uint64(n))
	if kind == runBlank {
		return
	}
	for _, p := range ps {
		b := p.c.data[(p.from-p.c.base)*EntrySize : (p.to-p.c.base)*EntrySize]
		iw.room(len(b))
		iw.buf = append(iw.buf, b...)
	}
}

// finish writes the trailer and returns the file's length.
func (iw *imageWriter) finish() (int64, error) {
	iw.room(trailerLen)
	iw.buf = binary.BigEndian.AppendUint32(append(iw.buf, tagEnd), iw.rows)
	crc := crc32.Update(iw.crc, castagnoli, iw.buf)
	iw.buf = binary.BigEndian.AppendUint32(iw.buf, crc)
	iw.spill()
	return iw.off, iw.err
}

// imageReader reads the file in order. It trusts no count: what a count promises
// is compared with the bytes that are left before anything is allocated.
type imageReader struct {
	r    io.Reader // buffered
	left int64     // bytes not read yet
	crc  uint32
	buf  [nominalTail * EntrySize]byte
}

// next returns the following n <= len(buf) bytes, valid until the next call.
func (ir *imageReader) next(n int) ([]byte, error) {
	if int64(n) > ir.left {
		return nil, fmt.Errorf("%w: is cut short", errImage)
	}
	b := ir.buf[:n]
	if _, err := io.ReadFull(ir.r, b); err != nil {
		return nil, err
	}
	ir.left -= int64(n)
	ir.crc = crc32.Update(ir.crc, castagnoli, b)
	return b, nil
}

// savedRow is one row without its runs.
type savedRow struct {
	name                message.Queue
	flags               byte
	start, end, fileEnd int64
}

// decodeImage reads a whole file of size bytes. row is called for every queue
// and returns where its tail goes: entries gets encoded entries in order, a
// nil slice and n for n pre-blank ones. What was passed on counts only when
// decodeImage returns without error, because the CRC stands at the end.
func decodeImage(r io.Reader, size, fileSize int64, row func(savedRow) (entries func(b []byte, n int64), err error)) (message.Mark, error) {
	ir := &imageReader{r: r, left: size}
	m, err := ir.header(fileSize)
	if err != nil {
		return message.Mark{}, err
	}
	for rows := uint32(0); ; rows++ {
		b, err := ir.next(1)
		if err != nil {
			return message.Mark{}, err
		}
		if b[0] == tagEnd {
			return m, ir.trailer(rows)
		}
		if b[0] != tagRow {
			return message.Mark{}, fmt.Errorf("%w: unknown tag %d", errImage, b[0])
		}
		if err := ir.row(row); err != nil {
			return message.Mark{}, err
		}
	}
}

func (ir *imageReader) header(fileSize int64) (m message.Mark, err error) {
	b, err := ir.next(headerLen)
	if err != nil {
		return m, err
	}
	if string(b[:8]) != imageMagic {
		return m, fmt.Errorf("%w: is not ours", errImage)
	}
	if b[8] != imageVersion {
		return m, fmt.Errorf("%w: version %d: %w", errImage, b[8], message.ErrUnknownFormat)
	}
	if size := int64(binary.BigEndian.Uint64(b[16:])); size != fileSize {
		return m, fmt.Errorf("%w: queue files of %d bytes, not %d", errImage, size, fileSize)
	}
	m.Offset = int64(binary.BigEndian.Uint64(b[24:]))
	m.Fingerprint = binary.BigEndian.Uint32(b[32:])
	if m.Offset < 0 {
		return m, fmt.Errorf("%w: negative mark", errImage)
	}
	return m, nil
}

func (ir *imageReader) row(row func(savedRow) (func([]byte, int64), error)) error {
	b, err := ir.next(rowLen - 1)
	if err != nil {
		return err
	}
	r := savedRow{
		flags: b[0], name: message.Queue{ID: int32(binary.BigEndian.Uint32(b[3:]))},
		start:   int64(binary.BigEndian.Uint64(b[7:])),
		end:     int64(binary.BigEndian.Uint64(b[15:])),
		fileEnd: int64(binary.BigEndian.Uint64(b[23:])),
	}
	topicLen, runs := int(binary.BigEndian.Uint16(b[1:])), binary.BigEndian.Uint32(b[31:])
	if topicLen > len(ir.buf) {
		return fmt.Errorf("%w: topic of %d bytes", errImage, topicLen)
	}
	if b, err = ir.next(topicLen); err != nil {
		return err
	}
	r.name.Topic = string(b)
	if r.start < 0 || r.fileEnd < 0 || r.start > r.end || r.fileEnd > r.end || r.end > maxOffset {
		return fmt.Errorf("%w: queue %s has impossible ends", errImage, r.name)
	}
	add, err := row(r)
	if err != nil {
		return err
	}
	left := r.end - r.fileEnd
	for range runs {
		n, err := ir.run(left, add)
		if err != nil {
			return err
		}
		left -= n
	}
	if left != 0 {
		return fmt.Errorf("%w: tail of queue %s is incomplete", errImage, r.name)
	}
	return nil
}

func (ir *imageReader) run(left int64, add func([]byte, int64)) (int64, error) {
	b, err := ir.next(runLen)
	if err != nil {
		return 0, err
	}
	kind, n := b[0], int64(binary.BigEndian.Uint64(b[1:]))
	switch {
	case n <= 0 || n > left:
		return 0, fmt.Errorf("%w: run of %d entries where %d are missing", errImage, n, left)
	case kind == runBlank:
		add(nil, n)
		return n, nil
	case kind != runEntries:
		return 0, fmt.Errorf("%w: unknown run %d", errImage, kind)
	}
	for rest := n; rest > 0; {
		k := min(rest, nominalTail)
		b, err := ir.next(int(k) * EntrySize)
		if err != nil {
			return 0, err
		}
		for at := 0; at < len(b); at += EntrySize {
			if !Decode(b[at:]).valid() {
				return 0, fmt.Errorf("%w: an entry is not valid", errImage)
			}
		}
		add(b, k)
		rest -= k
	}
	return n, nil
}

func (ir *imageReader) trailer(rows uint32) error {
	b, err := ir.next(4)
	if err != nil {
		return err
	}
	if n := binary.BigEndian.Uint32(b); n != rows {
		return fmt.Errorf("%w: %d rows where %d are announced", errImage, rows, n)
	}
	crc := ir.crc
	if b, err = ir.next(4); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(b) != crc {
		return fmt.Errorf("%w: checksum does not match", errImage)
	}
	if ir.left != 0 {
		return fmt.Errorf("%w: %d bytes too long", errImage, ir.left)
	}
	return nil
}
