package producer

import "github.com/embermq/embermq/internal/fs"

// Hooks for the tests of this package.

// OpenSpoolFS opens a spool on a simulated disk.
func OpenSpoolFS(dir fs.FS, limit int64) (*Spool, error) { return openSpool(dir, limit) }

// JavaQueue is the queue of a Java hash.
func JavaQueue(hash int32, n int) int32 { return javaQueue(hash, n) }

// FNV1a is the hash of ByKey.
func FNV1a(s string) uint32 { return fnv1a(s) }
