package kv

import (
	"errors"
	"syscall"
)

// Windows has two words for a full disk; the third is a quota.
const (
	errHandleDiskFull = syscall.Errno(39)
	errDiskFull       = syscall.Errno(112)
	errDiskQuota      = syscall.Errno(1295)
)

// isFull reports whether a write failed for want of room, which may come back.
func isFull(err error) bool {
	return errors.Is(err, errDiskFull) || errors.Is(err, errHandleDiskFull) ||
		errors.Is(err, errDiskQuota) || errors.Is(err, syscall.ENOSPC)
}
