package consumequeue

import (
	"bufio"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"strconv"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// Check walks everything the queues hold, in memory and in files, and reports
// what does not fit; it changes nothing, not even a queue's damage. verify says
// whether an entry names the right record (nil skips that). report gets the
// place of the damage, off bytes into the file; off is the queue offset for an
// entry that is only in memory, whose path is the queue's folder. The error is
// ctx's or the file system's.
func (s *Queues) Check(ctx context.Context, verify func(q message.Queue, offset int64, e Entry) error, report func(path string, off int64, reason string)) error {
	c := &checker{s: s, verify: verify, buf: make([]byte, flushBuffer/EntrySize*EntrySize)}
	c.report = func(path string, off int64, reason string) {
		c.said++
		report(path, off, reason)
	}
	if err := c.folders(); err != nil {
		return err
	}
	for _, q := range s.All() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.queue(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// CheckImage reports whether the saved image can be read. A missing one is
// reported only when there was a save.
func (s *Queues) CheckImage(report func(path string, off int64, reason string)) error {
	f, err := s.state.Open(imageName, fs.ReadOnly)
	if isNotExist(err) {
		if _, ok := s.Saved(); ok && !s.o.ReadOnly {
			report(s.state.Path(imageName), 0, noImage)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), int(min(size, imageBuffer)))
	_, err = decodeImage(r, size, s.o.FileSize, func(savedRow) (func([]byte, int64), error) {
		return func([]byte, int64) {}, nil
	})
	if errors.Is(err, errImage) {
		report(s.state.Path(imageName), 0, err.Error())
		return nil
	}
	return err
}

type checker struct {
	s      *Queues
	verify func(q message.Queue, offset int64, e Entry) error
	report func(path string, off int64, reason string)
	buf    []byte
	last   int64 // position of the last record seen in the queue
	said   int   // damages reported
}

// folders looks for what RocketMQ's loader would stumble over.
func (c *checker) folders() error {
	topics, err := c.s.entries(".")
	if err != nil {
		return err
	}
	for _, t := range topics {
		if !t.Dir {
			c.report(c.s.fsys.Path(t.Name), 0, "stray file")
			continue
		}
		ids, err := c.s.entries(t.Name)
		if err != nil {
			return err
		}
		for _, id := range ids {
			name := t.Name + "/" + id.Name
			n, perr := strconv.ParseInt(id.Name, 10, 32)
			if perr != nil || !id.Dir {
				c.report(c.s.fsys.Path(name), 0, "not the folder of a queue")
				continue
			}
			if err := c.folder(name, message.Queue{Topic: t.Name, ID: int32(n)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) folder(dir string, name message.Queue) error {
	list, err := c.s.entries(dir)
	if err != nil {
		return err
	}
	q, known := c.s.Lookup(name)
	for _, e := range list {
		path := c.s.fsys.Path(dir + "/" + e.Name)
		base, ok := parseFileName(e.Name)
		switch {
		case e.Dir: // RocketMQ passes over folders
		case !ok || e.Link || base%c.s.o.FileSize != 0:
			c.report(path, 0, "stray file")
		case !known:
			c.report(path, 0, "file of a queue that does not exist")
		case e.Size != c.s.o.FileSize && c.needed(q, base):
			c.report(path, e.Size, "file has the wrong length")
		}
	}
	return nil
}

// needed reports that the queue has entries in the file. Others are what a crash
// left behind; the queue's first flush removes them.
func (c *checker) needed(q *Queue, base int64) bool {
	lo, hi := q.extent()
	return base >= lo && base <= hi
}

// queue checks one queue. The bounds are taken once; the dispatcher and the
// flusher go on meanwhile, and what they move to files is there either way.
func (c *checker) queue(ctx context.Context, q *Queue) error {
	q.mu.Lock()
	start, end, fileEnd, flags, damage := q.start, q.end, q.fileEnd, q.flags, q.damage
	q.mu.Unlock()
	if flags&flagDead != 0 {
		return nil
	}
	c.last = -1
	if flags&flagDamaged != 0 {
		path, off, reason := c.s.fsys.Path(dirName(q.name)), int64(0), damage.Error()
		if ce, ok := damage.(*message.CorruptError); ok {
			path, off, reason = ce.Path, ce.Offset, ce.Reason
		}
		c.report(path, off, reason)
	} else if flags&flagInFiles != 0 {
		if err := c.inFiles(ctx, q, start, fileEnd); err != nil {
			return err
		}
	}
	return c.inMemory(ctx, q, max(start, fileEnd), end)
}

// inFiles checks the files that hold [start, fileEnd): the entries themselves,
// and that the rest of the first file would not end the queue for RocketMQ, and
// that nothing unknown lies behind the end.
func (c *checker) inFiles(ctx context.Context, q *Queue, start, fileEnd int64) error {
	size := c.s.o.FileSize
	lo, hi := q.extent()
	for base := lo; base <= hi && base < fileEnd*EntrySize; base += size {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := c.s.fsys.Path(dirName(q.name) + "/" + fileName(base))
		f, err := c.s.files.acquire(q, base, c.s.openFile)
		if isNotExist(err) {
			if !c.movedOn(q, base) {
				c.report(path, 0, "file is missing")
			}
			continue
		}
		if err != nil {
			return err
		}
		err = c.file(q, f, path, start, fileEnd)
		c.s.files.release(f)
		if err != nil {
			return err
		}
	}
	return nil
}

// movedOn reports that retention or a delete took the file away meanwhile.
func (c *checker) movedOn(q *Queue, base int64) bool {
	return !c.needed(q, base) || q.dead()
}

func (c *checker) file(q *Queue, f *file, path string, start, fileEnd int64) error {
	crc, said := uint32(0), c.said
	for off := int64(0); off < c.s.o.FileSize; {
		b := c.buf[:min(int64(len(c.buf)), c.s.o.FileSize-off)]
		if _, err := f.f.ReadAt(b, off); isShort(err) {
			return nil // its length was reported with the folder
		} else if err != nil {
			return err
		}
		crc = crc32.Update(crc, castagnoli, b)
		for i := 0; i < len(b); i += EntrySize {
			at := f.base + off + int64(i)
			offset := at / EntrySize
			if offset >= fileEnd {
				c.behind(q, path, offset, at-f.base, b[i:i+EntrySize])
				continue
			}
			e := Decode(b[i:])
			switch {
			case !e.valid():
				c.report(path, at-f.base, "entry is not valid")
			case offset >= start:
				c.entry(q, offset, e, path, at-f.base)
			}
		}
		off += int64(len(b))
	}
	// Damage that has a place of its own is told once.
	if f.base+c.s.o.FileSize > fileEnd*EntrySize || c.said > said {
		return nil
	}
	if want, ok := c.s.sumOf(q, f.base); ok && crc != want && !c.movedOn(q, f.base) {
		c.report(path, 0, badSum)
	}
	return nil
}

// behind checks bytes behind the end that the walk knows. They are zero, or
// those of an entry that is on its way into the file or that a crash left there
// in part: each byte is then the old zero or the new one.
func (c *checker) behind(q *Queue, path string, offset, off int64, b []byte) {
	if allZero(b) {
		return
	}
	var want [EntrySize]byte
	q.mu.Lock()
	moved := offset < q.fileEnd // the flusher wrote it meanwhile
	if !moved && offset < q.end {
		q.chunks[find(q.chunks, offset)].entry(offset).Encode(want[:])
	}
	q.mu.Unlock()
	if moved {
		return
	}
	for i := range b {
		if b[i] != 0 && b[i] != want[i] {
			c.report(path, off, "bytes behind the queue's end")
			return
		}
	}
}

func (c *checker) entry(q *Queue, offset int64, e Entry, path string, off int64) {
	if e.Blank() {
		return
	}
	if e.Position <= c.last {
		c.report(path, off, "entries are out of order")
		return
	}
	c.last = e.Position
	if c.verify == nil {
		return
	}
	if err := c.verify(q.name, offset, e); err != nil {
		c.report(path, off, err.Error())
	}
}

func (c *checker) inMemory(ctx context.Context, q *Queue, from, end int64) error {
	var es [nominalTail]Entry
	path := c.s.fsys.Path(dirName(q.name))
	for from < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := q.Read(from, es[:min(int64(len(es)), end-from)])
		if err != nil || n == 0 {
			return nil // moved on: expired, deleted, or damaged, which was reported
		}
		for i, e := range es[:n] {
			c.entry(q, from+int64(i), e, path, from+int64(i))
		}
		from += int64(n)
	}
	return nil
}
