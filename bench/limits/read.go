package limits

import (
	"fmt"
	"hash/crc32"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// Scan goes through the records in the files of a commit log, through a mapping
// that is brought into memory a MiB ahead, and computes the checksum of each. It
// returns how many there were, and the sum of the checksums.
func Scan(dir string) (n int64, sum uint32, err error) {
	root, err := fs.OS(dir)
	if err != nil {
		return 0, 0, err
	}
	defer root.Close()
	files, err := root.List(".")
	if err != nil {
		return 0, 0, err
	}
	for _, file := range files {
		k, s, err := scanFile(root, file)
		n, sum = n+k, sum+s
		if err != nil {
			return n, sum, err
		}
	}
	return n, sum, nil
}

func scanFile(root fs.FS, file fs.Entry) (n int64, sum uint32, err error) {
	f, err := root.Open(file.Name, fs.ReadOnly)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	m, err := f.Map(file.Size)
	if err != nil {
		return 0, 0, err
	}
	defer m.Close()
	b := m.Bytes()
	const ahead = 1 << 20
	populated := int64(0)
	for at := int64(0); at+message.FrameSize <= file.Size; {
		for ; populated < min(at+ahead, file.Size); populated += ahead {
			_ = m.Populate(populated, min(ahead, file.Size-populated)) // only a hint here
		}
		size, kind := message.Frame(b[at:])
		if kind != message.FrameMessage {
			break
		}
		if at+int64(size) > file.Size {
			return n, sum, fmt.Errorf("limits: %s: a record of %d bytes at %d", file.Name, size, at)
		}
		sum += crc32.ChecksumIEEE(b[at : at+int64(size)])
		at += int64(size)
		n++
	}
	return n, sum, nil
}

// ReadAt reads n bytes at each of the positions of a commit log, given as
// offsets over all its files, which are all size bytes long.
func ReadAt(dir string, size int64, n int, positions []int64) error {
	root, err := fs.OS(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	open := make(map[int64]fs.File)
	defer func() {
		for _, f := range open {
			_ = f.Close()
		}
	}()
	buf := make([]byte, n)
	for _, p := range positions {
		base := p - p%size
		f := open[base]
		if f == nil {
			if f, err = root.Open(fmt.Sprintf("%020d", base), fs.ReadOnly); err != nil {
				return err
			}
			open[base] = f
		}
		if _, err := f.ReadAt(buf, p-base); err != nil {
			return err
		}
	}
	return nil
}
