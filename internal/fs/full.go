//go:build !windows && !plan9

package fs

import (
	"errors"
	"syscall"
)

// IsFull says that an error means that no room is left, on the disk or in a quota.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
