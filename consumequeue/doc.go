// Package consumequeue keeps, for every queue of every topic, the list of the
// records it holds: 20 bytes an entry, in the files Apache RocketMQ reads.
//
// # Nouns
//
// An Entry names one record: its position in the log, its size and the hash of
// its tag. A Queue is the entries of one (topic, id) from start to end; those
// below fileEnd lie in files, the others in the queue's tail in memory. Queues
// is all of them: one budget for the tails, one flusher, one saved image.
//
// # What is durable when
//
// Append touches memory only. The flusher writes an entry to its file when the
// tail is full or memory is short, and never before the log has synced the
// record it names (Invariant: no entry of a file lies beyond Options.Synced at
// the time of the write). Nothing of that is synced by itself. Freeze and the
// save it returns write the ends and the tails of all queues into the state
// folder's file "queues", after the queue files have been made durable; from
// then on a reopen needs the log only from the mark on. All of it can be
// deleted: Reset and a replay from the log's start bring it back.
//
// Files of a queue whose start has moved up are removed after the next save,
// because the image on disk must never name a file that is gone.
//
// # Damage
//
// A queue opens lazily: at its first read below fileEnd, or at its first flush,
// its files are compared with its ends. What does not fit, and what the store
// reports through MarkDamaged, makes the queue damaged: reads of its files give
// ErrDamaged until Options.Rebuild has read the log once for all damaged queues
// and given their entries back through Restore. The tail, and so every new
// entry, stays readable meanwhile.
//
// # Concurrency
//
// Append, AppendAtEnd, Apply and Freeze belong to the dispatcher: one goroutine
// at a time, in log order. Everything else may be called by anyone at any time.
// One save is pending at a time: a Freeze abandons the one before it when its
// save has not finished, and that save then returns ErrAbandoned.
//
// Lock order: saveMu, then flushMu, then the table (mu), then one Queue's mu;
// the descriptor cache, the ready list and the rebuild's state are leaves. No
// I/O happens under the table's lock or a Queue's, so that a slow disk never
// holds up the dispatcher.
//
// This package carries no compatibility promise before 1.0. The layout of the
// two files stands in docs/format/consumequeue.md and docs/format/queues.md.
package consumequeue
