//go:build darwin || freebsd || dragonfly

package fs

import (
	"os"

	"golang.org/x/sys/unix"
)

func usage(f *os.File) (Usage, error) {
	var s unix.Statfs_t
	for {
		err := unix.Fstatfs(int(f.Fd()), &s)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return Usage{}, err
		}
		break
	}
	return usageOf(int64(s.Blocks), int64(s.Bfree), int64(s.Bavail), int64(s.Bsize)), nil
}
