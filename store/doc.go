// Package store is EmberMQ's engine: a durable message store inside the
// caller's own process, in the architecture of Apache RocketMQ. Open gives a
// Store; it starts no server, opens no port and handles no signal.
//
// # Nouns
//
// A message is what a user puts, a record is its bytes in the one commit log, a
// queue is the dense sequence of the records of one (topic, number). Everything
// else, queues included, is a view of the log that can be deleted and comes
// back.
//
// A group is a name under which progress is kept; what it needs no more of a queue
// is settled. Consumers of package consumer work through the store's methods for
// groups, and a user's own reader may do with Read, Commit and Committed.
//
// # Where things are
//
//	put      Put, PutBatch, PutAsync, Sync
//	read     Read, Scan, Follow, Watch, Get, At, Bounds, OffsetAt, Between
//	query    Find, FindAll, ByOffsetID
//	topics   CreateTopic, UpdateTopic, DeleteTopic, Topics, QueueCount
//	groups   Commit, Committed, ResetOffsets, CloneOffsets, Lag, Move, Progress
//	consume  Groups, Standing, Settle, Lease: the engine of package consumer
//	facets   Timers, Halves, DeadLetters: what waits, and what was given up
//	care     Stats, Check, Backup, Fork; Restore and Repair of a closed directory
//
// # What is durable when
//
// Under OnDisk, the default, a Put returns after a sync that covers its record:
// neither a kill nor a power cut loses it. Under InCache it returns when the kernel
// has the record: a kill loses nothing, a power cut at most WithMaxUnsynced
// bytes. A record is readable when its Put has returned, and nothing is ever
// readable that a power cut could take back, unless the store itself is InCache.
// Topics, groups and their settings are on disk when the call returns; so are half
// messages and verdicts on them, whatever the store's default is. Committed offsets and
// what is settled or leased take effect at once and reach the disk within 100 ms,
// or before Sync, Close or, with WithDurableSettle, Commit and Settle return: a crash
// repeats messages, it never skips one. A retry or a dead letter is one record that also
// settles its original, as durable as a put.
//
// # Three laws
//
// The log is the only truth about messages. No byte that is derived from a
// record reaches a file before the record is synced. A view saves, together
// with its data, the log position it was built to and a fingerprint of the record that
// ends there; at Open a view that does not fit the log is rebuilt.
//
// # Concurrency and lock order
//
// All methods may be called by several goroutines at once. Locks are taken in
// this order: topics.change, then the log's write leadership, then the
// dispatcher's lock, then those of single views and watches. No lock is held
// while a caller's code runs, except that Scan holds the bytes it lends.
package store
