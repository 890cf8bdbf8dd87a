package store

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	iofs "io/fs"
	"slices"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// foreignName is the text file that lists the ranges of the log which another
// program wrote, one "from to" a line and a CRC-32 of the lines before on the
// last. It lies beside the log's other state and not in meta, because the log
// is scanned while meta is being opened.
const foreignName = "foreign"

func readForeign(state fs.FS) ([]commitlog.Range, error) {
	b, err := fs.Read(state, foreignName)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: read %s: %w", state.Path(foreignName), err)
	}
	rs, ok := decodeForeign(b)
	if !ok {
		return nil, &message.CorruptError{Path: state.Path(foreignName), Reason: "not a list of ranges"}
	}
	return rs, nil
}

func decodeForeign(b []byte) (rs []commitlog.Range, ok bool) {
	lines := bytes.SplitAfter(b, []byte("\n"))
	n := 0
	for i, line := range lines {
		var sum uint32
		if k, _ := fmt.Sscanf(string(line), "crc %08x\n", &sum); k == 1 {
			return rs, i == len(lines)-2 && sum == crc32.ChecksumIEEE(b[:n])
		}
		var r commitlog.Range
		if k, err := fmt.Sscanf(string(line), "%d %d\n", &r.From, &r.To); k != 2 || err != nil {
			return nil, false
		}
		rs = append(rs, r)
		n += len(line)
	}
	return nil, false
}

// writeForeign saves the list when Open has found a new range.
func writeForeign(state fs.FS, before, now []commitlog.Range, readOnly bool) error {
	if readOnly || slices.Equal(before, now) {
		return nil
	}
	var b []byte
	for _, r := range now {
		b = fmt.Appendf(b, "%d %d\n", r.From, r.To)
	}
	b = fmt.Appendf(b, "crc %08x\n", crc32.ChecksumIEEE(b))
	if err := fs.WriteFile(state, foreignName, b); err != nil {
		return fmt.Errorf("store: write %s: %w", state.Path(foreignName), err)
	}
	return nil
}
