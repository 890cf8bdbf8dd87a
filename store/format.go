package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	iofs "io/fs"
	"net/netip"
	"strconv"
	"strings"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/schedule"
)

// formatVersion is the version of everything in the ember folder. On disk. An
// Open by an older program refuses a newer number and says so.
const formatVersion = 1

// format is the text file ember/FORMAT: what the directory was made with. Its
// last line is a CRC-32 of the lines before.
type format struct {
	version       int
	segmentSize   int64
	queueFileSize int64
	indexSlots    int64
	indexEntries  int64
	host          netip.AddrPort
	levels        string
}

// OptionMismatchError says that a directory was made with another value than
// an option asks for now. It matches ErrMismatch.
type OptionMismatchError struct {
	Option string // the line in FORMAT
	Stored string // what the directory has
	Given  string // what the option says
}

func (e *OptionMismatchError) Error() string {
	return fmt.Sprintf("store: %s: the directory was made with %s, the option says %s", e.Option, e.Stored, e.Given)
}

// Is reports that the error is an ErrMismatch.
func (e *OptionMismatchError) Is(target error) bool { return target == ErrMismatch }

func newFormat(c *config) format {
	or := func(v, def int64) int64 {
		if v != 0 {
			return v
		}
		return def
	}
	f := format{
		version:       formatVersion,
		segmentSize:   or(c.segmentSize, DefaultSegmentSize),
		queueFileSize: or(c.queueFileSize, DefaultQueueFileSize),
		indexSlots:    or(c.indexSlots, DefaultIndexSlots),
		indexEntries:  or(c.indexEntries, DefaultIndexEntries),
		host:          c.host,
		levels:        c.levels,
	}
	if f.levels == "" {
		f.levels = schedule.DefaultLevels
	}
	if !f.host.IsValid() {
		f.host = netip.MustParseAddrPort("127.0.0.1:10911")
	}
	return f
}

func (f format) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "embermq %d\n", f.version)
	for _, l := range f.lines() {
		fmt.Fprintf(&b, "%s %s\n", l.name, l.value)
	}
	fmt.Fprintf(&b, "crc %08x\n", crc32.ChecksumIEEE(b.Bytes()))
	return b.Bytes()
}

type formatLine struct{ name, value string }

func (f format) lines() []formatLine {
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	return []formatLine{
		{"commitlog.segment", n(f.segmentSize)},
		{"consumequeue.file", n(f.queueFileSize)},
		{"index.slots", n(f.indexSlots)},
		{"index.entries", n(f.indexEntries)},
		{"host", f.host.String()},
		{"levels", f.levels},
	}
}

// decodeFormat reads FORMAT. The version stands alone on the first line and is
// judged before anything else, so that a newer format is never called corrupt.
func decodeFormat(path string, b []byte) (format, error) {
	var f format
	corrupt := func(reason string) (format, error) {
		return f, &message.CorruptError{Path: path, Reason: reason}
	}
	sc := bufio.NewScanner(bytes.NewReader(b))
	if !sc.Scan() {
		return corrupt("empty file")
	}
	name, v, _ := strings.Cut(sc.Text(), " ")
	version, err := strconv.Atoi(v)
	if name != "embermq" || err != nil || version < 1 {
		return corrupt("first line is not 'embermq VERSION'")
	}
	if version > formatVersion && !(plant.Enabled && plant.Is(plant.StoreAnyFormat)) {
		return f, fmt.Errorf("store: %s has format version %d, this program knows %d: %w", path, version, formatVersion, ErrUnknownFormat)
	}
	f.version = version
	const sumLine = len("crc 01234567\n")
	if n := len(b) - sumLine; n < 0 || string(b[n:]) != fmt.Sprintf("crc %08x\n", crc32.ChecksumIEEE(b[:n])) {
		return corrupt("checksum in the last line differs")
	}
	values := make(map[string]string)
	for sc.Scan() {
		k, v, ok := strings.Cut(sc.Text(), " ")
		if !ok {
			return corrupt("line without a value: " + strconv.Quote(sc.Text()))
		}
		values[k] = v
	}
	for _, s := range []struct {
		name string
		into *int64
	}{{"commitlog.segment", &f.segmentSize}, {"consumequeue.file", &f.queueFileSize}, {"index.slots", &f.indexSlots}, {"index.entries", &f.indexEntries}} {
		*s.into, err = strconv.ParseInt(values[s.name], 10, 64)
		if err != nil || *s.into <= 0 {
			return corrupt("bad value of " + s.name)
		}
	}
	if f.host, err = netip.ParseAddrPort(values["host"]); err != nil {
		return corrupt("bad value of host")
	}
	f.levels = values["levels"]
	return f, nil
}

// agree checks the options that are fixed at creation against the directory.
func (f format) agree(c *config) error {
	var errs []error
	check := func(name string, stored, given int64) {
		if given != 0 && given != stored {
			errs = append(errs, &OptionMismatchError{name, strconv.FormatInt(stored, 10), strconv.FormatInt(given, 10)})
		}
	}
	check("commitlog.segment", f.segmentSize, c.segmentSize)
	check("consumequeue.file", f.queueFileSize, c.queueFileSize)
	check("index.slots", f.indexSlots, c.indexSlots)
	check("index.entries", f.indexEntries, c.indexEntries)
	if c.host.IsValid() && c.host != f.host {
		errs = append(errs, &OptionMismatchError{"host", f.host.String(), c.host.String()})
	}
	return errors.Join(errs...)
}

const formatName = "FORMAT"

func readFormat(state fs.FS) (f format, found bool, err error) {
	b, err := fs.Read(state, formatName)
	if errors.Is(err, iofs.ErrNotExist) {
		return f, false, nil
	}
	if err != nil {
		return f, false, fmt.Errorf("store: read %s: %w", state.Path(formatName), err)
	}
	f, err = decodeFormat(state.Path(formatName), b)
	return f, err == nil, err
}

func writeFormat(state fs.FS, f format) error {
	if err := fs.WriteFile(state, formatName, f.encode()); err != nil {
		return fmt.Errorf("store: write %s: %w", state.Path(formatName), err)
	}
	return nil
}
