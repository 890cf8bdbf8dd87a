//go:build !windows

package kv

import (
	"errors"
	"syscall"
)

// isFull reports whether a write failed for want of room, which may come back.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
