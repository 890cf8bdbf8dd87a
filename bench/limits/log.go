package limits

import (
	"errors"
	"hash/crc32"
	"strconv"

	"github.com/embermq/embermq/internal/fs"
)

// FileSize is how long a file of a Log is, as a segment of the store.
const FileSize = 64 << 20

// Log is a sequence of files without any structure.
type Log struct {
	root    fs.FS
	written bool
	f       fs.File
	at      int64
	n       int
	buf     []byte
}

// NewLog makes a log in a folder. With written its one file holds zeros that are
// on disk, and is used again from its beginning when it is full: there is no
// work left for the file system. Otherwise files begin without blocks.
func NewLog(dir string, written bool) (*Log, error) {
	root, err := fs.MakeOS(dir)
	if err != nil {
		return nil, err
	}
	l := &Log{root: root, written: written}
	if err := l.roll(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return l, nil
}

func (l *Log) roll() error {
	if l.f != nil {
		if l.written {
			l.at = 0
			return nil
		}
		if err := l.f.Close(); err != nil {
			return err
		}
	}
	f, err := l.root.Open(strconv.Itoa(l.n), fs.Create)
	if err != nil {
		return err
	}
	l.f, l.at = f, 0
	l.n++
	if !l.written {
		return f.Truncate(FileSize)
	}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < FileSize; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, at); err != nil {
			return err
		}
	}
	return f.Sync()
}

// Write appends p with one call of the system.
func (l *Log) Write(p []byte) error {
	if l.at+int64(len(p)) > FileSize {
		if err := l.roll(); err != nil {
			return err
		}
	}
	_, err := l.f.WriteAt(p, l.at)
	l.at += int64(len(p))
	return err
}

// Gather appends n copies of a record, of which the first body bytes have a
// checksum of their own, with one call of the system.
func (l *Log) Gather(rec []byte, body, n int) error {
	l.buf = l.buf[:0]
	for range n {
		sum := crc32.ChecksumIEEE(rec[:body]) ^ crc32.ChecksumIEEE(rec)
		at := len(l.buf)
		l.buf = append(l.buf, rec...)
		l.buf[at] ^= byte(sum) // somebody uses the sum
	}
	return l.Write(l.buf)
}

// Sync makes what was written durable.
func (l *Log) Sync() error { return l.f.SyncData() }

// Close ends the log; its files stay.
func (l *Log) Close() error { return errors.Join(l.f.Close(), l.root.Close()) }
