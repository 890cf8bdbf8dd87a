package archive

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	iofs "io/fs"
	"strings"

	"github.com/embermq/embermq/internal/fs"
)

// Manifest says what a backup is a copy of, and which files it consists of.
type Manifest struct {
	// Start and End bound the log's bytes; Fingerprint is the checksum of the
	// record that ends at End.
	Start, End  int64
	Fingerprint uint32
	// Rows names the file of rows.
	Rows Rows
	// Chunks lie behind each other. The first may begin before Start.
	Chunks []Chunk
	// Facts are lines of the store's own, such as sizes of files.
	Facts []string
}

// Rows is a file of Count rows; Number 0 is none yet.
type Rows struct{ Number, Count int }

// Chunk is the range [From, To) of a log.
type Chunk struct{ From, To int64 }

func (c Chunk) name() string { return fmt.Sprintf("log-%020d-%020d.zst", c.From, c.To) }

func rowsName(n int) string { return fmt.Sprintf("rows-%d.zst", n) }

func (m *Manifest) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "embermq-backup 1\n")
	fmt.Fprintf(&b, "log %d %d %08x\n", m.Start, m.End, m.Fingerprint)
	fmt.Fprintf(&b, "rows %d %d\n", m.Rows.Number, m.Rows.Count)
	for _, c := range m.Chunks {
		fmt.Fprintf(&b, "chunk %d %d\n", c.From, c.To)
	}
	for _, f := range m.Facts {
		fmt.Fprintf(&b, "fact %s\n", f)
	}
	fmt.Fprintf(&b, "crc %08x\n", crc32.ChecksumIEEE(b.Bytes()))
	return b.Bytes()
}

func readManifest(fsys fs.FS) (*Manifest, error) {
	b, err := fs.Read(fsys, manifestName)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("archive: read %s: %w", fsys.Path(manifestName), err)
	}
	m, reason := decodeManifest(b)
	if reason != "" {
		return nil, &DamageError{Path: fsys.Path(manifestName), Reason: reason}
	}
	return m, nil
}

// decodeManifest returns why b is no manifest, or an empty reason.
func decodeManifest(b []byte) (m *Manifest, reason string) {
	const sumLine = len("crc 01234567\n")
	n := len(b) - sumLine
	if n < 0 || string(b[n:]) != fmt.Sprintf("crc %08x\n", crc32.ChecksumIEEE(b[:n])) {
		return nil, "checksum in the last line differs"
	}
	lines := strings.Split(strings.TrimSuffix(string(b[:n]), "\n"), "\n")
	if lines[0] != "embermq-backup 1" {
		return nil, "first line is not 'embermq-backup 1'"
	}
	m = &Manifest{}
	for _, line := range lines[1:] {
		if err := m.line(line); err != nil {
			return nil, fmt.Sprintf("line %q: %v", line, err)
		}
	}
	if reason := m.check(); reason != "" {
		return nil, reason
	}
	return m, ""
}

func (m *Manifest) line(s string) (err error) {
	name, value, _ := strings.Cut(s, " ")
	switch name {
	case "log":
		_, err = fmt.Sscanf(value, "%d %d %x", &m.Start, &m.End, &m.Fingerprint)
	case "rows":
		_, err = fmt.Sscanf(value, "%d %d", &m.Rows.Number, &m.Rows.Count)
	case "chunk":
		var c Chunk
		_, err = fmt.Sscanf(value, "%d %d", &c.From, &c.To)
		m.Chunks = append(m.Chunks, c)
	case "fact":
		m.Facts = append(m.Facts, value)
	default:
		err = errors.New("unknown")
	}
	return err
}

// check demands that the chunks cover the log without a gap.
func (m *Manifest) check() (reason string) {
	at := m.Start
	for i, c := range m.Chunks {
		if c.From < 0 || c.To <= c.From || i > 0 && c.From != at || i == 0 && c.From > at || c.To < m.Start {
			return fmt.Sprintf("chunk %d to %d does not fit", c.From, c.To)
		}
		at = c.To
	}
	if at != m.End || m.Start < 0 || m.Rows.Number < 0 || m.Rows.Count < 0 {
		return "chunks do not cover the log"
	}
	return ""
}
