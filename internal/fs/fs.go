// Package fs is the only way the store touches files. Every room gets an FS
// rooted at its own folder, so one simulated power cut or one injected error
// reaches every byte that the product writes.
//
// # Nouns
//
// An FS is a folder tree, a File is an open file, a Mapping is a read-only view
// of a file's first bytes.
//
// # Durability
//
// WriteAt reaches the kernel and survives a kill of the process, not a power
// cut. SyncData makes written bytes durable, and the length as far as it is
// needed to read them; Sync makes length and inode durable in any case; SyncDir makes
// the names in a folder durable. SyncFS does all of it for the whole file
// system. A failed sync proves nothing afterwards: the kernel may have dropped
// the dirty pages and marked them clean, so callers never retry one.
//
// # Concurrency
//
// FS and File may be used by several goroutines at once. Reads and writes of
// overlapping ranges at the same time are the caller's mistake.
package fs

import (
	"errors"
	"io"
)

// Flag says how Open opens a file.
type Flag uint8

// Create makes the file when it is missing; Exclusive, together with Create,
// fails when it is there. Without ReadOnly a file is opened for reading and
// writing. Files are created with mode 0600.
const (
	ReadOnly Flag = 1 << iota
	Create
	Exclusive
)

// ErrUnsupported says that the platform or file system cannot do what was
// asked; the caller has another way.
var ErrUnsupported = errors.New("fs: not supported here")

// FS is a folder tree. Names are relative to its root, separated by slashes,
// without "..", and never follow a symbolic link out of the root. A missing
// file is an error that matches io/fs.ErrNotExist.
type FS interface {
	// Open opens one file. The folder above it must exist.
	Open(name string, flag Flag) (File, error)
	// MkdirAll makes a folder and those above it, mode 0700. The names are not
	// durable until SyncDir of each parent.
	MkdirAll(dir string) error
	// Rename moves a file over whatever has the new name, atomically.
	Rename(from, to string) error
	// Link gives a file a second name (a hard link).
	Link(from, to string) error
	// Remove deletes a file or an empty folder.
	Remove(name string) error
	// List returns the entries of a folder sorted by name.
	List(dir string) ([]Entry, error)
	// Stat describes one file or folder without following a symbolic link.
	Stat(name string) (Entry, error)
	// SyncDir makes the names in dir durable ("." is the root).
	SyncDir(dir string) error
	// SyncFS makes everything written below the root durable at once, or
	// returns ErrUnsupported, and then the caller syncs file by file.
	SyncFS() error
	// Lock takes an exclusive lock on the file's first byte without waiting and
	// holds it until Close; the process's death releases it. A lock that is held
	// elsewhere, in this process or another (Java's FileChannel.lock included),
	// is an error that matches ErrLockHeld.
	Lock(name string) (io.Closer, error)
	// Locked reports whether Lock would find the lock held. It makes nothing and
	// stands in nobody's way: a Lock at the same moment succeeds.
	Locked(name string) (bool, error)
	// Usage returns the size and the free bytes of the file system.
	Usage() (Usage, error)
	// Sub returns the tree below dir, which need not exist yet.
	Sub(dir string) FS
	// Path is the place of name as a person would write it, for messages only.
	Path(name string) string
	// Close releases the root. Open files stay usable.
	Close() error
}

// ErrLockHeld is matched by the error of Lock when another owner has the lock.
var ErrLockHeld = errors.New("fs: lock is held")

// Entry describes a file or a folder.
type Entry struct {
	Name string // last element only
	Size int64
	Dir  bool
	Link bool // a symbolic link, which no room of ours ever makes
}

// Usage is the room on the file system for an unprivileged writer: Free is what it
// still gets, Total that and all that is used. Blocks kept for the system are in
// neither, so that used space is the share that df prints.
type Usage struct{ Total, Free int64 }

// File is an open file.
type File interface {
	// ReadAt is io.ReaderAt.
	io.ReaderAt
	// WriteAt is io.WriterAt. After an error the range written so far is
	// unknown, whatever n says.
	io.WriterAt
	// Truncate sets the length; new bytes read as zeros and take no room.
	Truncate(size int64) error
	// Preallocate reserves room for [off, off+n) inside the file's length
	// without changing what is read there. ErrUnsupported where it cannot.
	Preallocate(off, n int64) error
	// SyncData makes the bytes durable, and the length if it is needed to read them.
	SyncData() error
	// Sync makes bytes, length and inode durable.
	Sync() error
	// Size is the length in bytes.
	Size() (int64, error)
	// NextData returns the first range [start, end) at or after off that may
	// hold bytes other than zero (a run between two holes), or io.EOF when only
	// holes follow. A file system that knows no holes returns [off, size).
	NextData(off int64) (start, end int64, err error)
	// Map maps the first n bytes for reading, or returns ErrUnsupported, and
	// then the caller uses ReadAt.
	Map(n int64) (Mapping, error)
	// Close closes the file. It does not sync.
	Close() error
}

// Mapping is a read-only view of a file's first bytes that shows later WriteAts
// of this process at once. Touching a page that is not in memory may stall the
// whole process, so callers touch only what was just written or populated.
type Mapping interface {
	// Bytes is the view. Writing to it faults.
	Bytes() []byte
	// Populate brings [off, off+n) into memory off the Go scheduler's processor,
	// or returns ErrUnsupported, and then the caller uses ReadAt.
	Populate(off, n int64) error
	// Close unmaps: no slice of Bytes may be touched afterwards.
	Close() error
}
