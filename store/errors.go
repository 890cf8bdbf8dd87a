package store

import (
	"errors"
	"strconv"

	"github.com/embermq/embermq/message"
)

// The errors that calls return, for errors.Is. Most are those of package
// message under the name that a user of the store expects.
var (
	ErrClosed                 = message.ErrClosed                 // the store, watch or batch was closed
	ErrLocked                 = message.ErrLocked                 // another opener has the directory; *LockedError names its process
	ErrDiskFull               = message.ErrDiskFull               // no room; puts resume by themselves when there is
	ErrTooLarge               = message.ErrTooLarge               // *SizeError tells what, how large and the limit
	ErrNotFound               = message.ErrNotFound               // no such topic, queue, group or record
	ErrCorrupt                = message.ErrCorrupt                // *CorruptError names file, offset and reason
	ErrPoisoned               = message.ErrPoisoned               // a write or sync failed; reads go on, puts need a new Open
	ErrReadOnly               = message.ErrReadOnly               // the store was opened by OpenReadOnly
	ErrInvalidMessage         = message.ErrInvalidMessage         // *InvalidError names field and reason
	ErrInvalidName            = message.ErrInvalidName            // *NameError names it and the reason
	ErrPermission             = message.ErrPermission             // the topic's permission forbids it
	ErrKind                   = message.ErrKind                   // the topic takes another kind of messages
	ErrExists                 = message.ErrExists                 // a topic of that name exists
	ErrOutOfRange             = message.ErrOutOfRange             // *RangeError carries the bounds
	ErrUnsupported            = message.ErrUnsupported            // the text says what and why
	ErrUnsupportedCompression = message.ErrUnsupportedCompression // the body comes back as stored
	ErrUnknownFormat          = message.ErrUnknownFormat          // not a store, or a newer program's
	ErrBusy                   = message.ErrBusy                   // no room in a bounded queue right now
	ErrFenced                 = message.ErrFenced                 // a newer claim took over

	// ErrMismatch is matched by *OptionMismatchError.
	ErrMismatch = errors.New("store: option disagrees with the directory")
	// ErrMissing is matched by *MissingError.
	ErrMissing = errors.New("store: part of the directory is missing")
)

// The typed errors that carry more than a sentinel.
type (
	CorruptError = message.CorruptError
	InvalidError = message.InvalidError
	NameError    = message.NameError
	SizeError    = message.SizeError
	RangeError   = message.RangeError
)

// LockedError says who has a directory open. It matches ErrLocked.
type LockedError struct {
	Dir string
	PID int // of the holder; 0 when it cannot be told
}

func (e *LockedError) Error() string {
	holder := "another program"
	if e.PID != 0 {
		holder = "process " + strconv.Itoa(e.PID)
	}
	return "store: " + e.Dir + " is in use by " + holder
}

// Is reports that the error is an ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// MissingError says that a folder without which the store would start from
// nothing is not there, although the directory is a store: most likely a file system that
// is not mounted.
type MissingError struct{ Folder, Path string }

func (e *MissingError) Error() string {
	return "store: " + e.Folder + " is missing at " + e.Path + " although the directory is a store (not mounted?)"
}

// Is reports that the error is an ErrMissing.
func (e *MissingError) Is(target error) bool { return target == ErrMissing }
