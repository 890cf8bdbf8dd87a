//go:build !windows

package consumequeue

import "syscall"

// isFullCode has nothing to add where ENOSPC says it all.
func isFullCode(syscall.Errno) bool { return false }
