package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/message"
)

// entrySize is what an entry of a queue takes.
const entrySize = 20

// dumper prints one kind of file. yield returns false when enough is printed.
type dumper func(f *os.File, size int64, yield func(row, error) bool)

func (a *app) dump() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "dump FILE...", GroupID: "files", Args: cobra.MinimumNArgs(1),
		Short: "Print any file of a store, offset by offset",
		Long: `Print any file of a store, offset by offset: segments of the log, queue files, index files,
and those in ember. Nothing is opened for writing. Damage is printed as such, and in a
segment the next record behind it is searched.`,
		Example: `  embermq dump data/commitlog/00000000000000000000 --limit 5
  embermq dump data/ember/synced data/ember/FORMAT`,
		RunE: func(c *cobra.Command, args []string) error {
			for _, name := range args {
				if err := a.dumpFile(name, limit); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().IntVar(&limit, "limit", 0, "lines of each file at most; 0 is all")
	return c
}

func (a *app) dumpFile(name string, limit int) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	d := dumperOf(filepath.ToSlash(abs))
	if d == nil {
		return badUsage("%s is no file of a store that dump knows", name)
	}
	a.say("# %s, %d bytes", name, info.Size())
	n := 0
	return a.rows(func(yield func(row, error) bool) {
		d(f, info.Size(), func(r row, err error) bool {
			n++
			return (limit == 0 || n <= limit) && yield(r, err)
		})
	})
}

// dumperOf goes by the name that the store gives a file.
func dumperOf(path string) dumper {
	dir, base := filepath.Split(path)
	dir = strings.TrimSuffix(dir, "/")
	parent := filepath.Base(dir)
	switch {
	case parent == "commitlog":
		return dumpSegment
	case strings.HasSuffix(filepath.Dir(filepath.Dir(dir)), "consumequeue"):
		return dumpQueue
	case parent == "index":
		return dumpIndex
	case parent == "ember" && base == "synced":
		return dumpSynced
	case parent == "ember" && base == "queues":
		return dumpImage
	case parent == "ember" && base == "index":
		return dumpIndexState
	case base == "checkpoint":
		return dumpCheckpoint
	case base == "FORMAT", base == "foreign", base == "BACKUP", base == "abort":
		return dumpText
	}
	return nil
}

// dumpSegment walks records. A place that holds none is printed once, and then
// every byte is tried until a whole record begins.
func dumpSegment(f *os.File, size int64, yield func(row, error) bool) {
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil {
		yield(nil, err)
		return
	}
	lost := int64(-1)
	for at := int64(0); at < size; {
		n, kind := message.Frame(b[at:])
		var r message.Record
		whole := kind == message.FrameMessage && at+int64(n) <= size && r.Reset(b[at:at+int64(n)]) == nil
		switch {
		case kind == message.FrameNone && len(bytes.TrimLeft(b[at:], "\x00")) == 0:
			yield(row{{"at", at}, {"is", "zeros to the end"}, {"bytes", size - at}, {"queue", nil}, {"offset", nil}, {"stored", nil}, {"says", ""}}, nil)
			return
		case kind == message.FrameBlank && at+int64(n) == size:
			yield(row{{"at", at}, {"is", "end of segment"}, {"bytes", n}, {"queue", nil}, {"offset", nil}, {"stored", nil}, {"says", ""}}, nil)
			return
		case !whole:
			if lost < 0 {
				lost = at
			}
			at++
			continue
		}
		if lost >= 0 {
			if !yield(row{{"at", lost}, {"is", "damage"}, {"bytes", at - lost}, {"queue", nil}, {"offset", nil}, {"stored", nil}, {"says", ""}}, nil) {
				return
			}
			lost = -1
		}
		if !yield(segmentRow(at, n, &r), nil) {
			return
		}
		at += int64(n)
	}
	if lost >= 0 {
		yield(row{{"at", lost}, {"is", "damage"}, {"bytes", size - lost}, {"queue", nil}, {"offset", nil}, {"stored", nil}, {"says", ""}}, nil)
	}
}

func segmentRow(at int64, n int, r *message.Record) row {
	is := "record"
	switch err := errors.Join(r.VerifyForeign(), sumError(r)); {
	case r.Filler():
		is = "filler"
	case err != nil:
		is = "damaged record"
	}
	return row{{"at", at}, {"is", is}, {"bytes", n}, {"queue", r.Queue()}, {"offset", r.Offset()}, {"stored", r.StoredAt()},
		{"says", text(r.Body(), 60)}}
}

// sumError checks a checksum that is there: other programs write none.
func sumError(r *message.Record) error {
	if _, ok := r.Checksum(); !ok {
		return nil
	}
	return r.VerifyChecksum()
}

func dumpQueue(f *os.File, size int64, yield func(row, error) bool) {
	var base int64
	if _, err := fmt.Sscanf(filepath.Base(f.Name()), "%d", &base); err != nil {
		yield(nil, fmt.Errorf("the name of %s is no offset: %w", f.Name(), err))
		return
	}
	var b [entrySize]byte
	for at := int64(0); at+int64(len(b)) <= size; at += int64(len(b)) {
		if _, err := f.ReadAt(b[:], at); err != nil {
			yield(nil, err)
			return
		}
		e := consumequeue.Decode(b[:])
		is := "entry"
		switch {
		case e.Blank():
			is = "blank"
		case e == consumequeue.Entry{}:
			is = "unused"
		}
		if !yield(row{{"at", at}, {"offset", (base + at) / entrySize}, {"is", is}, {"position", e.Position}, {"size", e.Size}, {"tag hash", e.TagHash}}, nil) {
			return
		}
	}
}

func dumpIndex(f *os.File, size int64, yield func(row, error) bool) {
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil || size < index.HeaderSize {
		yield(nil, errors.Join(err, fmt.Errorf("%s has %d bytes", f.Name(), size)))
		return
	}
	h := index.DecodeHeader(b)
	head := fmt.Sprintf("stored %s to %s, positions %d to %d, %d slots in use, next entry %d",
		milli(h.BeginTime), milli(h.EndTime), h.BeginPosition, h.EndPosition, h.UsedSlots, h.Next)
	if !yield(row{{"at", 0}, {"is", "header"}, {"hash", nil}, {"position", nil}, {"seconds", nil}, {"previous", nil}, {"says", head}}, nil) {
		return
	}
	slots, err := slotsOf(f.Name())
	if err != nil {
		yield(nil, err)
		return
	}
	blank := func(at int64, is string) row {
		return row{{"at", at}, {"is", is}, {"hash", nil}, {"position", nil}, {"seconds", nil}, {"previous", nil}, {"says", ""}}
	}
	for n := range slots {
		at := index.HeaderSize + n*4
		if at+4 > size {
			return
		}
		if first := binary.BigEndian.Uint32(b[at:]); first != 0 {
			r := blank(at, "slot")
			r[6].value = fmt.Sprintf("slot %d begins with entry %d", n, first)
			if !yield(r, nil) {
				return
			}
		}
	}
	for n := int64(1); n < int64(h.Next); n++ {
		at := index.HeaderSize + slots*4 + n*index.EntrySize
		if at+index.EntrySize > size {
			return
		}
		e := index.DecodeEntry(b[at:])
		if !yield(row{{"at", at}, {"is", "entry"}, {"hash", e.Hash}, {"position", e.Position}, {"seconds", e.Seconds}, {"previous", e.Prev}, {"says", ""}}, nil) {
			return
		}
	}
}

// slotsOf reads from FORMAT how many slots an index file has: the file itself does
// not tell.
func slotsOf(name string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(name), "..", "ember", "FORMAT"))
	if err != nil {
		return 0, fmt.Errorf("the number of slots stands in ember/FORMAT beside the index: %w", err)
	}
	var slots int64
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "index.slots "); ok {
			_, err = fmt.Sscanf(v, "%d", &slots)
		}
	}
	if slots <= 0 || err != nil {
		return 0, fmt.Errorf("ember/FORMAT does not tell how many slots an index file has")
	}
	return slots, nil
}

func milli(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339Nano) }

// dumpSynced prints the two slots of the watermark, docs/format/synced.md.
func dumpSynced(f *os.File, _ int64, yield func(row, error) bool) {
	be := binary.BigEndian
	for at := int64(0); at < 1024; at += 512 {
		var b [64]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			yield(nil, err)
			return
		}
		if !yield(row{{"at", at}, {"magic", text(b[:8], 8)}, {"sequence", be.Uint64(b[8:])}, {"synced to", int64(be.Uint64(b[16:]))},
			{"fingerprint", fmt.Sprintf("%08x", be.Uint32(b[24:]))}, {"clean", be.Uint32(b[28:])&1 != 0}, {"W", be.Uint64(b[32:])},
			{"owner", fmt.Sprintf("%016x", be.Uint64(b[40:]))}, {"start", int64(be.Uint64(b[48:]))}}, nil) {
			return
		}
	}
}

// dumpCheckpoint prints RocketMQ's three timestamps.
func dumpCheckpoint(f *os.File, _ int64, yield func(row, error) bool) {
	for i, name := range []string{"log synced", "queues synced", "index synced"} {
		var b [8]byte
		if _, err := f.ReadAt(b[:], int64(i)*8); err != nil {
			yield(nil, err)
			return
		}
		ms := int64(binary.BigEndian.Uint64(b[:]))
		if !yield(row{{"at", i * 8}, {"is", name}, {"milliseconds", ms}, {"time", milli(ms)}}, nil) {
			return
		}
	}
}

func dumpText(f *os.File, size int64, yield func(row, error) bool) {
	b := make([]byte, min(size, 1<<20))
	n, err := f.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		yield(nil, err)
		return
	}
	at := 0
	for line := range strings.Lines(string(b[:n])) {
		if !yield(row{{"at", at}, {"line", strings.TrimRight(line, "\n")}}, nil) {
			return
		}
		at += len(line)
	}
}

// dumpImage prints the ends of all queues, docs/format/queues.md.
func dumpImage(f *os.File, size int64, yield func(row, error) bool) {
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil || size < 40 {
		yield(nil, errors.Join(err, fmt.Errorf("%s has %d bytes", f.Name(), size)))
		return
	}
	be := binary.BigEndian
	for at := 40; at+36 <= len(b) && b[at] == 1; {
		name := at + 36 + int(be.Uint16(b[at+2:]))
		if name > len(b) {
			break
		}
		r := row{{"at", at}, {"queue", message.Queue{Topic: string(b[at+36 : name]), ID: int32(be.Uint32(b[at+4:]))}},
			{"start", int64(be.Uint64(b[at+8:]))}, {"end", int64(be.Uint64(b[at+16:]))}, {"in files below", int64(be.Uint64(b[at+24:]))}}
		if !yield(r, nil) {
			return
		}
		runs := be.Uint32(b[at+32:])
		for at = name; runs > 0 && at+9 <= len(b); runs-- {
			n := int(be.Uint64(b[at+1:]))
			if at += 9; b[at-9] == 1 {
				at += n * entrySize
			}
			if at < 0 || at > len(b) {
				return
			}
		}
	}
}

// dumpIndexState prints what the last checkpoint says of the index files,
// docs/format/index.md.
func dumpIndexState(f *os.File, size int64, yield func(row, error) bool) {
	const header, entry = 40, 64
	be := binary.BigEndian
	var b [entry]byte
	for at := int64(header); at+entry <= size; at += entry {
		if _, err := f.ReadAt(b[:], at); err != nil {
			yield(nil, err)
			return
		}
		h := index.DecodeHeader(b[8:])
		if !yield(row{{"at", at}, {"file", fmt.Sprintf("%017d", be.Uint64(b[:]))}, {"active", b[60]&1 != 0}, {"next entry", h.Next},
			{"positions", fmt.Sprintf("%d to %d", h.BeginPosition, h.EndPosition)}, {"entries crc", fmt.Sprintf("%08x", be.Uint32(b[48:]))}}, nil) {
			return
		}
	}
}
