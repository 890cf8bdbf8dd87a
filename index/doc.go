// Package index finds messages by key: for every key of every message it keeps
// 20 bytes in hash-slot files, the ones Apache RocketMQ reads.
//
// # Nouns
//
// An Entry says that a record at a position of the log has a key with a hash. A
// file is a table of slots and the entries behind it; all entries of a slot form
// a chain from the newest to the oldest. The last file is active, the others are
// sealed. The feed is what has been applied and is not in a file yet.
//
// # From the log to a file
//
// Apply computes hashes and puts them into the feed; it touches memory only. The
// builder moves the feed into the active file in memory. The feed is bounded:
// what does not fit is dropped, and the builder reads it from the log instead
// (Options.Scan). So the index may lag behind the log, Put never waits for it,
// and who asks waits with Wait.
//
// # What is durable when
//
// Entries reach their file in order and in pieces of 64 KiB, when the log has
// synced their records (Invariant: no entry of a file names a record that ends
// beyond Options.Synced at the time of the write). Slots and header follow when
// the file is full, and at Close. Freeze and the save it returns make the entries
// durable and then write the file "index" into the state folder: the mark, and
// for each file its header and checksums. What lies in a file behind the saved
// count means nothing and is written again by the replay. All of it can be
// deleted: Reset and a replay from the log's start bring it back.
//
// After an unclean close the slots of the active file are computed from its
// entries. That happens in the background of Open; queries wait for it.
//
// # Damage
//
// A file that is missing or has the wrong length at Open makes Saved false. What
// a query or the builder finds later makes the index damaged: the query goes on
// with the other files and reports a *message.CorruptError at its end, and with
// Options.Scan and Start the index builds itself anew from the log.
//
// # Concurrency
//
// Apply and Freeze belong to the dispatcher: one goroutine at a time, in log
// order. Everything else may be called by anyone at any time. Queries take no
// lock that the builder holds: the list of files, the slots and the pieces are
// read through atomics, and an entry is complete before a slot names it.
//
// Lock order: saveMu, roundMu, buildMu; the feed's, a file's and the handles'
// mutex are leaves. No I/O happens under the feed's lock.
//
// This package carries no compatibility promise before 1.0. The layout of the
// files stands in docs/format/index.md.
package index
