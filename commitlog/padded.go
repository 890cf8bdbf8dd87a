package commitlog

import (
	"errors"
	"io"
	iofs "io/fs"

	"github.com/embermq/embermq/internal/fs"
)

// padded is a segment's file as a read-only open sees it when the file is too
// short or missing: what is not there reads as zeros, which are no record.
type padded struct {
	fs.File // nil for a missing file
}

// openPadded opens a segment for reading, whatever is left of it.
func openPadded(dir fs.FS, name string, size int64) (fs.File, error) {
	f, err := dir.Open(name, fs.ReadOnly)
	if errors.Is(err, iofs.ErrNotExist) {
		return padded{}, nil
	}
	if err != nil {
		return nil, err
	}
	if n, err := f.Size(); err != nil || n >= size {
		return f, err
	}
	return padded{f}, nil
}

func (p padded) ReadAt(b []byte, off int64) (n int, err error) {
	if p.File != nil {
		if n, err = p.File.ReadAt(b, off); err != nil && err != io.EOF {
			return n, err
		}
	}
	clear(b[n:])
	return len(b), nil
}

func (p padded) NextData(off int64) (start, end int64, err error) {
	if p.File == nil {
		return 0, 0, io.EOF
	}
	n, err := p.File.Size()
	if err == nil && off >= n {
		err = io.EOF
	}
	if err != nil {
		return 0, 0, err
	}
	return p.File.NextData(off)
}

func (p padded) Map(int64) (fs.Mapping, error) { return nil, fs.ErrUnsupported }

func (p padded) Close() error {
	if p.File == nil {
		return nil
	}
	return p.File.Close()
}
