// Package commitlog stores records one behind the other in files of equal size.
// It is the only truth about messages: everything else in a store is derived
// from it. It carries no compatibility promise before version 1.0.
//
// # Nouns
//
// A record is the bytes of one message in Apache RocketMQ's layout. A segment is
// one file, named by the position at which it starts; the last one is active, the
// others are sealed. A group is what one Append writes: its records follow each
// other in one segment, and a crash keeps all of them or none.
//
// # Positions
//
// appended is where the next record goes; the kernel has everything below it.
// synced is what fdatasync has returned for. visible is what readers may see and
// what Options.Apply has been given.
//
//	Invariant: synced ≤ appended and appended − synced ≤ W (Options.MaxUnsynced).
//	Invariant: visible = synced if Options.OnDisk, else visible = appended.
//	Invariant: saved watermark ≤ synced; it is written after the fdatasync it tells of.
//	Invariant: bytes at and behind appended are zero or a hole, except while a
//	write is under way or after one has poisoned the log.
//
// The first is what tells a torn tail from rot: of a log that holds a valid
// record W bytes behind a bad one, the bad one was synced once and is damaged.
//
// # Durability
//
// A group that asks for OnDisk is synced when Append returns: a power cut does
// not lose it. Any other is with the kernel: a kill of the process does not lose
// it, a power cut may, up to W bytes. A failed write or sync poisons the log: the
// kernel may have dropped pages and marked them clean, so a later success would
// prove nothing. Appends then fail and reads go on; the next Open writes
// everything behind the saved watermark once more before it serves any of it.
//
// # Who leads
//
// Callers join a gathering list. Whoever finds nobody leading becomes the leader:
// it places all that has gathered, writes it with one call, syncs if somebody
// asked for it, applies it and wakes the others. Write leadership and sync
// leadership are two flags, so that a group which needs no sync does not wait for
// one in flight. A flag is never put down while somebody needs it: it is handed
// to a waiting caller, or to the committer goroutine when all who wait are
// asynchronous. See leader.go.
//
// A leader may yield so that others join. Whoever completes the crowd that it
// waits for takes the lead over, and the one that yielded waits like the others.
// See bet.go.
//
// # Concurrency
//
// All methods may be called by several goroutines at once. Lock order:
//
//	write leadership → sync leadership → applyMu → mu
//	runway.mu, segments.mu and watermark.mu are leaves.
//
// Apply runs under applyMu. It must not call Append, Sync or Close.
package commitlog
