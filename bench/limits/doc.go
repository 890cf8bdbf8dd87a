// Package limits is what a machine can do at most: the same bytes as a message
// store writes, and nothing of its work. A store cannot be faster than these, so
// figures are shown beside them.
//
//   - Log: one write after the other into files of 64 MiB.
//   - Gather: many records and both checksums of each, one write.
//   - Commit: group commit and nothing else, onto zeros that are written already.
//   - Scan, ReadAt: the log's files through a mapping, or by position.
//   - Wake: write, then wake a reader.
//
// Nothing is recovered, found again, or durable unless Sync says so. A Log is for
// one goroutine, a Commit for many.
package limits
