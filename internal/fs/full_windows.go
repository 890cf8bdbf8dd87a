package fs

import (
	"errors"
	"syscall"

	"golang.org/x/sys/windows"
)

// IsFull says that an error means that no room is left, on the disk or in a quota.
func IsFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED) || errors.Is(err, syscall.ENOSPC)
}
