package kv

import (
	"io"
	iofs "io/fs"
	"path"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/plant"
)

// file is an open file with the position that Pebble's sequential reads and
// writes expect. Pebble calls Read and Write of one file one at a time.
type file struct {
	gate *gate
	f    fs.File
	away *away // not nil: a file of a checkpoint, outside the gate's rules
	name string
	pos  int64
	made bool // by Create, so pos is its length
}

var _ vfs.File = (*file)(nil)

func (f *file) rule(gate func(func() error) error, op func() error) error {
	if f.away != nil {
		return f.away.note(op())
	}
	return gate(op)
}

// Read reads at the position and moves it.
func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// ReadAt is io.ReaderAt.
func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	op := func() (err error) {
		n, err = f.f.ReadAt(p, off)
		return err
	}
	if f.away != nil {
		return n, op() // the end of a file is no failure of the target
	}
	err = f.gate.read(op)
	return n, err
}

// Write writes at the position and moves it, only when all of p is written:
// after a full disk the same bytes go to the same place.
func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// WriteAt is io.WriterAt. It does not modify p.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	err := f.rule(f.gate.write, func() error {
		_, err := f.f.WriteAt(p, off)
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Preallocate does nothing: room that is taken early is missed by the log.
func (f *file) Preallocate(int64, int64) error { return nil }

// Stat describes the file. For one that is being written it asks nobody, because
// Pebble panics when its new log cannot tell its length.
func (f *file) Stat() (vfs.FileInfo, error) {
	fi := info{name: f.name, size: f.pos}
	if f.made {
		return fi, nil
	}
	err := f.rule(f.gate.read, func() (err error) {
		fi.size, err = f.f.Size()
		return err
	})
	if err != nil {
		return nil, err
	}
	return fi, nil
}

// Sync makes bytes, length and inode durable.
func (f *file) Sync() error { return f.rule(f.gate.sync, f.f.Sync) }

// SyncData makes the bytes durable, and the length if it has grown.
func (f *file) SyncData() error {
	if plant.Enabled && plant.Is(plant.KVLogNotSynced) && strings.HasSuffix(f.name, ".log") {
		return nil
	}
	return f.rule(f.gate.sync, f.f.SyncData)
}

// SyncTo may do nothing: it promises nothing when it returns false.
func (f *file) SyncTo(int64) (bool, error) { return false, nil }

// Prefetch does nothing.
func (f *file) Prefetch(int64, int64) error { return nil }

// Fd returns the value for a file that Pebble cannot reach by itself.
func (f *file) Fd() uintptr { return vfs.InvalidFd }

// Close closes the file.
func (f *file) Close() error {
	if f.away != nil {
		return f.away.release(f.f)
	}
	return f.gate.release(f.f)
}

// folder is an open folder: all it can do is sync its names.
type folder struct {
	p    *pebbleFS
	name string
}

var _ vfs.File = (*folder)(nil)

// Sync makes the names in the folder durable.
func (d *folder) Sync() error {
	n := d.p.gate.named.Load()
	err := d.p.change("sync", d.name, d.p.gate.syncNames, func(fsys fs.FS, rel string) error {
		return fsys.SyncDir(rel)
	})
	if err == nil && path.Clean(d.name) == "." {
		d.p.gate.durable(n)
	}
	return err
}

// SyncData is Sync.
func (d *folder) SyncData() error { return d.Sync() }

// SyncTo does nothing for a folder.
func (d *folder) SyncTo(int64) (bool, error) { return false, nil }

// Stat describes the folder.
func (d *folder) Stat() (vfs.FileInfo, error) { return d.p.Stat(d.name) }

// Close does nothing: there is nothing open.
func (d *folder) Close() error { return nil }

// Fd returns the value for a file that Pebble cannot reach by itself.
func (d *folder) Fd() uintptr { return vfs.InvalidFd }

// Read, ReadAt, Write and WriteAt are refused: a folder has no bytes.
func (d *folder) Read([]byte) (int, error) { return 0, iofs.ErrInvalid }

// ReadAt is refused.
func (d *folder) ReadAt([]byte, int64) (int, error) { return 0, iofs.ErrInvalid }

// Write is refused.
func (d *folder) Write([]byte) (int, error) { return 0, iofs.ErrInvalid }

// WriteAt is refused.
func (d *folder) WriteAt([]byte, int64) (int, error) { return 0, iofs.ErrInvalid }

// Preallocate does nothing.
func (d *folder) Preallocate(int64, int64) error { return nil }

// Prefetch does nothing.
func (d *folder) Prefetch(int64, int64) error { return nil }

// info is what Pebble is told about a file.
type info struct {
	name string
	size int64
	dir  bool
}

var _ vfs.FileInfo = info{}

func (i info) Name() string           { return i.name }
func (i info) Size() int64            { return i.size }
func (i info) IsDir() bool            { return i.dir }
func (i info) ModTime() time.Time     { return time.Time{} }
func (i info) Sys() any               { return nil }
func (i info) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
func (i info) Mode() iofs.FileMode {
	if i.dir {
		return iofs.ModeDir | 0o700
	}
	return 0o600
}
