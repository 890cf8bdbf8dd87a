// Package crash is a file system in memory that remembers which bytes, lengths
// and names a power cut could still take away, and makes any of the states that
// a disk may be found in afterwards.
//
// # Nouns
//
// A Sim is one machine with one disk. An image is the Sim that PowerCut, Kill or
// Enumerate made from another. A store is the part of one WriteAt that fell into
// one page of 4 KiB.
//
// # What is durable when
//
// Each file has two images, the cache (what reads see) and the disk (what
// survives), and the stores since the last good sync in order. SyncData moves
// the dirty pages to the disk, and the length only if the synced bytes cannot be
// read without it; Sync moves both; SyncDir moves the names of one folder;
// SyncFS moves everything. The sync of a new file does not make its name
// durable, although many file systems do so.
//
// After a power cut a page has its disk content with a prefix, in store order,
// of the stores to it; each sector of 512 bytes has that or its old content; a
// length is the old one, the newest, or one between; each name that was not
// synced has had a prefix of its changes; removed files may come back. Of a
// rename the old name goes only if the new one is there. Appended bytes that
// were lost below a length that was kept read as zeros, or as garbage.
//
// A kill of the process keeps cache, dirty pages and names; it drops locks and
// open files.
//
// # Determinism
//
// There are no goroutines, clocks or global random numbers. An image is named by
// its seed and, for each step, the operation, the mode and the sub-seed; the
// same workload gives the same image.
//
// # Concurrency
//
// One mutex guards a Sim, so its files may be used by several goroutines. Images
// share pages with the Sim they came from by copy on write and are independent
// of it: both may go on.
package crash
