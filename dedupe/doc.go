// Package dedupe recognises a message that is put twice by its idempotency key,
// and answers with the receipt of the first.
//
// # Nouns
//
// A key is Message.IdempotencyKey together with the topic: the same text under
// another topic is another key. An entry is what is kept of a key: the position of
// the record that bears it, 32 bits of a hash, and when it was stored. The window
// is the entries of the last Options.Count records with a key that are younger
// than Options.Window. A claim is the right to append a message with a key.
//
// # What is durable when
//
// The log is the truth: a key is known because a record bears it. This package is
// a view of it, and learns keys from Apply alone. So there is no moment between
// the append of a record and the knowledge of its key: whatever a crash leaves of
// the log, the keys of exactly those records are known after the replay.
//
// Freeze and the function that it returns put the new entries into the key-value
// store together with the mark. Rows of a save that a crash has cut off lie at or
// behind the mark, are not read, and go with the next save.
//
// # Which records count
//
// A message in its own topic, and a delayed one in its waiting record, from the
// moment when that is stored; so does a message that was committed, from its commit.
// Copies do not count: fired or carried timers, retries, dead letters, and what was
// redriven or moved. A half does not either: it may be rolled back. A timer that was
// given another time counts again, from then on: it waits as its own message.
//
// # What a hit is
//
// The hash only finds candidates. The record of each is read, must bear the same
// key and topic and be young enough, and its receipt is made from it. So a record
// that retention or the deletion of its topic took away is no longer known: the
// window reaches no farther back than the log.
//
// # Two at once
//
// Who wants to append takes the claim to the key under mu, first. Whoever comes
// second waits, without any lock, until the outcome of the first is known, or ctx
// ends. A claim ends when the log has done with the record, which is after Apply
// if it was stored, also when the caller gave up waiting before: an unknown outcome
// is waited for, not guessed.
//
// # Memory
//
// An entry takes 16 bytes in a ring of chunks and 5.3 to 10.7 in a hash table of
// sequence numbers. TestMemory measures the heap: ten million keys take 22.7 bytes
// each, and 26.3 at the worst moment of their growth; other counts up to 27. The table has 1,024 parts that grow one by one, so that no Apply
// waits for millions of entries to move.
//
// Pebble instead of memory was considered: a lookup there costs each put of a new
// key some microseconds and a goroutine, which is more than the put itself.
//
// The hash is cut from SHA-256, because keys come from outside: to make keys that
// meet costs some four billion attempts for each, and each then costs one read.
//
// # Concurrency
//
// Apply, Freeze and Reset are called by one goroutine at a time, in the log's
// order. Everything else may be called by any goroutine. The function that Freeze
// returns runs beside Apply.
//
// Lock order: saving, then mu. mu guards memory and is held neither across I/O
// nor across an append.
//
// # Keys
//
// See docs/format/dedupe.md.
//
// This package carries no compatibility promise before 1.0.
package dedupe
