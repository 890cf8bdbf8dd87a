package commitlog

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/embermq/embermq/message"
)

// isFull reports whether err says that there is no room, which may pass.
func isFull(err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, message.ErrDiskFull), errors.Is(err, syscall.ENOSPC),
		errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return true
	case runtime.GOOS == "windows":
		const diskFull, handleDiskFull = syscall.Errno(112), syscall.Errno(39)
		return errors.Is(err, diskFull) || errors.Is(err, handleDiskFull)
	}
	return false
}

// fullError is ErrDiskFull with its cause.
func fullError(cause error) error {
	if errors.Is(cause, message.ErrDiskFull) {
		return cause
	}
	return fmt.Errorf("commitlog: append: %w: %w", message.ErrDiskFull, cause)
}

var errReserved = fmt.Errorf("commitlog: append: %w: what is left is reserved", message.ErrDiskFull)

// checkSpace compares the free room with the reserve, at most once a second.
// Only one caller looks at a time.
func (l *Log) checkSpace(now time.Time) {
	if l.o.DiskReserve < 0 {
		return
	}
	last := l.spaceAt.Load()
	if d := now.UnixNano() - last; last != 0 && d >= 0 && d < int64(time.Second) {
		return
	}
	if !l.spaceAt.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	l.look()
}

// full notes that a write found no room: until there is some, only groups with
// Reserve need try.
func (l *Log) full() {
	if l.o.DiskReserve >= 0 {
		l.low.Store(true)
	}
}

// look asks the file system how much room is left.
func (l *Log) look() {
	if l.o.DiskReserve < 0 {
		return
	}
	u, err := l.segs.dir.Usage()
	if err != nil {
		return // a write will say what is wrong
	}
	reserve := l.o.DiskReserve
	if reserve == 0 {
		reserve = min(defaultReserve, u.Total/8)
	}
	l.low.Store(u.Free < reserve)
}
