package consumequeue

import "syscall"

// isFullCode knows Windows' two codes for a full disk.
func isFullCode(code syscall.Errno) bool {
	const handleDiskFull, diskFull = 39, 112
	return code == handleDiskFull || code == diskFull
}
