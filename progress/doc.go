// Package progress keeps what every consumer group has read.
//
// It holds four nouns. A Group is a name with settings and an epoch. A
// committed offset belongs to a group and a queue and is the lowest that is not
// settled: everything below it is done. Above it lie ranges that are settled out
// of order, and holds: unsettled records that were delivered, with their attempts
// and, for groups that lease, a lease's number and the time until which nobody else
// sees the record. The guard of a queue is the lowest offset that a live group still
// needs; retention asks for it.
//
// # What is durable when
//
// Groups and offsets are primary state: the log cannot give them back. All of
// it is in memory and in the key-value store.
//
//   - Commit takes effect in memory at once. One batch carries everything that
//     changed into the key-value store at most Options.FlushEvery later. With
//     Options.DurableSettle Commit waits for that batch; callers that wait at
//     the same time share it.
//   - Settle and Lease do the same for what lies above. A group's first place in
//     a queue is flushed by whoever made it: were it lost, the group might begin
//     elsewhere and skip.
//   - Flush and Close force the batch. Every batch with offsets in it is taken
//     first, then the log is synced, then the batch is written and synced. So a
//     stored offset never passes the end of the log, whatever crash follows.
//   - CreateGroup (also by itself, on a first commit), UpdateGroup,
//     DeleteGroup, Reset and Clone are on disk before they take effect in
//     memory and before they return.
//   - DropTopic takes effect at once and goes with the next batch. Whoever
//     saves a mark of the log behind a topic's deletion calls Flush before.
//
// # The view
//
// A record that takes another one's place for a group names what it settles:
// message.Settlement. View applies such records. Its mark is written after the rows,
// so a replay from there finds what is missing; what is there already is not settled
// twice. An epoch that is over makes a settlement void, also in a replay.
//
// Before such a record is appended, TakeOff announces it, so that nobody else gets
// the record and Standing waits for it.
//
// A kill or a power cut takes back at most the commits of the last interval:
// messages are delivered again, never skipped.
//
// # Epochs
//
// Each creation, reset, clone into and deletion of a group takes the next
// number of one counter as the group's epoch, so a number is never given
// twice and a deleted group leaves nothing behind. What was decided under an
// older epoch can thus be told from what counts now.
//
// # Concurrency
//
// Every method may be called from several goroutines. There are two locks,
// taken in this order: the writer slot, held across a write to the key-value
// store by whoever writes, and mu, which guards memory and is never held across
// I/O or a callback. Commit, Committed, Guards and the other readers take mu
// alone, so a slow disk stops none of them; only a Commit that creates its
// group, and one under DurableSettle, waits for the slot.
//
// An idle Progress has no goroutine and no timer. The first change starts one
// goroutine, which ends once everything is written.
//
// # Keys
//
// Text below is literal, \0 is a zero byte, which no name contains; numbers are
// big-endian. Sorted order is thus by group, topic, queue.
//
//	p/e                              the counter of epochs
//	p/g/<group>                      one group
//	p/o/<group>\0<topic>\0<queue:4>  one committed offset and what lies above
//	v/progress/mark                  the view's mark
//
// Every value begins with a version byte, 1 or, with something above the offset, 2:
//
//	p/e   version:1 epoch:8
//	p/g/  version:1 flags:1 epoch:8 seen:8 retryMax:4 retryQueues:4
//	p/o/  version:1 offset:8 [settled ranges, holds]
//
// docs/format/progress.md has the rest.
//
// Flags are 1 for broadcasting and 2 for disabled; seen is in milliseconds
// since 1970. An unknown version, flag or length is refused. Letters not named
// here are free for other state of the same package or for other rooms; what
// belongs to one group begins with its name and a zero byte, so that one range
// deletes it.
//
// This package carries no compatibility promise before 1.0.
package progress
