// Package archive is the folder that a backup is kept in.
//
// # Nouns
//
// A chunk is a compressed file with a range of a log's bytes. Rows are a
// compressed file of keys and values. The manifest is the text file BACKUP that
// names the files which count, and what they are a copy of.
//
// # What is durable when
//
// Chunks and rows are synced when their call returns, and count once Commit has
// replaced the manifest. So an interrupted backup leaves the one before it, and
// the next one removes the files that do not count. A later backup adds only the
// log's new bytes and new rows.
//
// # Layout
//
//	BACKUP                 the manifest
//	log-<from>-<to>.zst    log bytes [from, to), 20 digits each
//	rows-<n>.zst           uvarint key length, uvarint value length, key, value
//
// The manifest is text: "embermq-backup 1", a line for each fact, and the
// CRC-32 of all lines before on the last one. zstd frames carry a checksum of
// what they hold.
//
// # Concurrency
//
// An Archive is used by one goroutine at a time, and one Archive at a time works
// on a folder; a lock file keeps others out.
package archive
