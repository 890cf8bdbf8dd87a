// Package kv keeps small ordered state in Pebble, behind the store's own file
// seam and without Pebble's habit of ending the process.
//
// # Nouns
//
// A DB is an ordered map from keys to values in one folder. A Batch is a list
// of changes that becomes visible and durable as a whole. The gate is the seam
// below Pebble: every call to a file passes it, and it decides what a failed
// one means.
//
// # What lies on disk
//
// Pebble's files (MANIFEST, OPTIONS, LOCK, markers, tables, write-ahead logs),
// in its newest format, and the file "ballast", which only takes up room so that
// it can be given back when the disk is full.
//
// # Durability
//
// A batch that was applied with sync survives a power cut when Apply returns.
// One applied without it may still lie in the memory of the process, so a kill
// may lose it; but batches are lost only from the end: if one survives, so do
// all that were applied before it. The next synced Apply, Flush or Close makes
// all earlier ones durable.
//
// # When a file fails
//
// A full disk is waited out: the ballast is given back, then the write is tried
// again whenever room may have come back, and Pebble does not learn of it. Open
// and Close do not wait: a full disk is the error of the call.
//
// Every other failed write or sync poisons the DB: the first cause is kept, all
// calls, in flight or later, return an error that matches ErrPoisoned, and the
// DB serves again only after Close and Open. Pebble itself answers a failure by
// Fatalf, after which the process is expected to end, by a panic on a goroutine
// of its own, or by a panic while it has lent a lock back, so that the deferred
// unlock ends the process. None of it can happen here, because a failed write
// does not return to Pebble: the goroutine that made it is parked for ever. This
// is a leak on purpose. A poisoned DB leaves behind the goroutines that Pebble
// had at that moment, blocked, and the memory they hold: its cache and its
// memtables. Its files and its lock are released by Close.
//
// While Pebble opens or closes, failures are returned to it, and it cleans up
// after itself, with two exceptions that park as well: the sync of a folder, and
// in Open everything after the first table was begun.
//
// # Order of names
//
// Names in a folder may become durable in any order. Before a marker file is
// made, and before anything is removed, the names made so far are synced.
//
// # Concurrency
//
// All methods of DB may be called by several goroutines at once. A Batch
// belongs to one goroutine at a time.
//
// No caller ever waits for one of Pebble's locks itself, because a parked
// goroutine may hold one: each read runs on a goroutine of its own, each group
// of batches on a committer that lives while there is work, and the caller waits
// for the result or for the poison.
//
// # Lock order
//
// scan.mu, then Pebble's locks, then ballast.mu, then the gate's RWMutex, then
// the gate's mu. DB.mu, room.mu and the poison's are leaves, except that batches
// are copied under DB.mu. Nothing of ours is held while waiting for room.
package kv
