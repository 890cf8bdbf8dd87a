package message

import (
	"errors"
	"strconv"
)

// The sentinels that callers compare with errors.Is. They live here because
// every room returns them; the store exports them again.
var (
	ErrClosed                 = errors.New("closed")
	ErrLocked                 = errors.New("locked by another opener")
	ErrDiskFull               = errors.New("disk full")
	ErrTooLarge               = errors.New("too large")
	ErrNotFound               = errors.New("not found")
	ErrCorrupt                = errors.New("corrupt")
	ErrPoisoned               = errors.New("poisoned by a failed write")
	ErrReadOnly               = errors.New("read only")
	ErrInvalidMessage         = errors.New("invalid message")
	ErrInvalidName            = errors.New("invalid name")
	ErrPermission             = errors.New("permission denied")
	ErrBusy                   = errors.New("busy")
	ErrFenced                 = errors.New("fenced by a newer claim")
	ErrUnsupported            = errors.New("unsupported")
	ErrUnsupportedCompression = errors.New("unsupported compression")
	ErrUnknownFormat          = errors.New("unknown format")
	ErrExists                 = errors.New("exists already")
	ErrOutOfRange             = errors.New("out of range")
	ErrSubscriptionConflict   = errors.New("subscription conflict")
	ErrKind                   = errors.New("wrong kind of topic")
)

// CorruptError says which bytes are damaged and why they are thought to be. It
// is ErrCorrupt for errors.Is.
type CorruptError struct {
	Path   string
	Offset int64
	Reason string
	Err    error // the cause, may be nil
}

// Error names the file, the offset in it and the reason.
func (e *CorruptError) Error() string {
	s := "corrupt"
	if e.Path != "" {
		s += " " + e.Path
	}
	s += " at " + strconv.FormatInt(e.Offset, 10)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is reports whether target is ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }

// InvalidError says which field of a message cannot be stored and why. It is
// ErrInvalidMessage for errors.Is.
type InvalidError struct {
	Field  string // such as "Tag", "Keys" or "Properties[colour]"
	Reason string
}

// Error names the field and the reason.
func (e *InvalidError) Error() string {
	return "invalid message: " + e.Field + ": " + e.Reason
}

// Is reports whether target is ErrInvalidMessage.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalidMessage }

// NameError says which name is not allowed and why. It is ErrInvalidName for
// errors.Is.
type NameError struct {
	Kind   string // "topic" or "group"
	Name   string
	Reason string
}

// Error quotes the name, shortened, because it may be anything.
func (e *NameError) Error() string {
	n := e.Name
	if len(n) > 64 {
		n = n[:64] + "…"
	}
	return "invalid " + e.Kind + " name " + strconv.Quote(n) + ": " + e.Reason
}

// Is reports whether target is ErrInvalidName.
func (e *NameError) Is(target error) bool { return target == ErrInvalidName }

// SizeError says what is larger than its limit. It is ErrTooLarge for
// errors.Is.
type SizeError struct {
	What  string // such as "body", "properties" or "group"
	Size  int64
	Limit int64
}

// Error gives both sizes.
func (e *SizeError) Error() string {
	return e.What + " too large: " + strconv.FormatInt(e.Size, 10) +
		" bytes, limit " + strconv.FormatInt(e.Limit, 10)
}

// Is reports whether target is ErrTooLarge.
func (e *SizeError) Is(target error) bool { return target == ErrTooLarge }

// Defect is what is wrong with the bytes of a record. It is ErrCorrupt for
// errors.Is. It knows neither file nor offset: whoever does wraps its text into
// a *CorruptError. As a constant it costs no allocation.
type Defect string

// What can be wrong with one record.
const (
	DefectShort   Defect = "shorter than any record"
	DefectSize    Defect = "size field differs from the record's length"
	DefectMagic   Defect = "unknown magic code"
	DefectBody    Defect = "body length past the record's end"
	DefectTopic   Defect = "topic length past the record's end"
	DefectNoTopic Defect = "empty topic"
	DefectName    Defect = "NUL byte in the topic"
	DefectProps   Defect = "properties do not end with the record"
	DefectNoSum   Defect = "checksum missing"
	DefectSum     Defect = "checksum differs"
	DefectBodySum Defect = "body checksum differs"
	DefectBatch   Defect = "batch element past the batch's end"
	DefectInflate Defect = "compressed body does not inflate"
	DefectID      Defect = "not an identifier"
)

// Error returns the defect's text.
func (d Defect) Error() string { return string(d) }

// Is reports whether target is ErrCorrupt.
func (d Defect) Is(target error) bool { return target == ErrCorrupt }

// RangeError says which queue offset lies outside of [Start, End]. It is
// ErrOutOfRange for errors.Is.
type RangeError struct {
	Queue      Queue
	Offset     int64
	Start, End int64 // the first kept offset and the next one to be assigned
}

// Error names the queue, the offset and the bounds.
func (e *RangeError) Error() string {
	return "offset " + strconv.FormatInt(e.Offset, 10) + " of " + e.Queue.String() +
		" out of range [" + strconv.FormatInt(e.Start, 10) + ", " + strconv.FormatInt(e.End, 10) + "]"
}

// Is reports whether target is ErrOutOfRange.
func (e *RangeError) Is(target error) bool { return target == ErrOutOfRange }
