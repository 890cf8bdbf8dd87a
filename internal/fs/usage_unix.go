//go:build linux || darwin || freebsd || dragonfly

package fs

// usageOf makes a Usage from the numbers of blocks of statfs; avail is negative on
// FreeBSD once the system's blocks are touched.
func usageOf(blocks, free, avail, size int64) Usage {
	avail = max(0, avail)
	return Usage{Total: (blocks - free + avail) * size, Free: avail * size}
}
