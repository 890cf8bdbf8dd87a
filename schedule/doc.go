// Package schedule delivers messages later: it knows what is due when, puts each
// message into its queue once, not early and in due order, and takes it back
// when asked in time.
//
// # Nouns
//
// A waiting record is a message in one of RocketMQ's two topics for delayed
// messages: the schedule topic for delays by level, the timer topic for any time.
// A timer is what this package knows of a waiting record that is pending. A copy
// is a record that it has the log append: the message in its real queue, a
// waiting record carried forward, or a cancellation.
//
// # What is durable when
//
// The log is the truth: a timer is pending from its waiting record to the record
// that ends it. This package is a view of it. It learns everything from Apply,
// also what it has decided itself. Freeze and the function that it returns put
// the changes up to a mark into the key-value store. Few changes are one batch,
// with the mark; more than 256 KiB go in parts, the mark with the last one, so
// that Pebble keeps its memory small. If a crash cuts a save off between parts,
// rows are ahead of the mark. That does no harm: the replay from the mark meets
// the records of all of them again, and a note that was written before the first
// part tells it for which records rows may exist, to be removed again.
//
// A crash between the append of a copy and anything else changes nothing: either
// the copy is in the log, and the replay ends the timer, or it is not, and the
// timer is pending. Cancel and Reschedule answer when their record is on disk.
//
// # Which record ends which timer
//
// A message that was delivered, and a cancellation, bear EMBER_TIMER: position
// and due time of the timer that they end. A waiting record that was carried
// forward bears EMBER_CARRIES: the position of the one that it replaces. Such a
// record is appended only for a timer that is pending and that nothing else is
// being appended for. So a replay need not ask whether the timer exists: one
// that is not in memory has a row on disk, unless its waiting record lies below
// the first record that this view ever saw. RocketMQ's own records name an id;
// for those, and only those, the disk is asked before anything fires.
//
// # Memory
//
// The next Options.Near timers are in memory, the others only on disk, ordered by
// due time. A new timer behind them is in memory until a save took it. There are
// two such windows, called lanes: live, and back for what was overdue when the
// store was opened (or after any pause of more than a second), which is fired at
// Options.CatchUp a second. Live timers thus never wait behind a backlog.
//
// Options.Dirty changes after the last save NeedsSave asks for the next one; a
// replay of a long log has to save now and then, too.
//
// A new timer behind its lane is only listed, until somebody asks for timers in
// order or by id: a tree and a map take ten times as long, and most new timers are
// saved and leave memory before that. Whoever brings timers faster than they can be
// saved is asked to wait (Crowded).
//
// Each lane is a google/btree. A hierarchical wheel (6 levels of 64 slots, the
// lowest of 1 ms, singly linked) was measured beside it, with 100,000 timers at
// random times: the wheel took 13 ns to put a timer and 60 ns to take the first
// one, the tree 340 ns and 38 ns. The difference is a tenth of what a put into the
// log costs. The tree was kept because the lane's last timers have to leave memory,
// single timers are cancelled, listings go in due order, equal times in order of
// position, and a clock that was set back is nothing special; a wheel needs a
// sort, a second index or a rebuild for each of these.
//
// # Concurrency
//
// Apply, Freeze and Reset are called by one goroutine at a time, in the log's
// order; so are New and Start before anything else. Everything else may be called
// by any goroutine. The function that Freeze returns runs beside Apply.
//
// Lock order: saving, then mu. mu guards memory and is held neither across I/O
// nor across an append, a read of the log or any other call to the outside. A
// timer that is being decided about is busy: it is marked under mu, the append
// runs without it, and Apply or, if the append failed, the one who marked it
// ends that. Whoever else wants the timer waits for the append.
//
// # Keys
//
// Numbers are big-endian, 8 bytes unless noted; every value begins with a version
// byte, 1 so far. See docs/format/schedule.md.
//
//	v/timer/m                   mark: offset, fingerprint:4, base, floor due, floor position
//	v/timer/a                   offset that a save in parts reaches (no version byte)
//	v/timer/t/<due><position>   flags:1 size:4 ident:16 topic
//	v/timer/i/<ident:16><due><position>   empty
//	v/timer/c/<topic>           count, floor
//	v/timer/b/<bucket>          count
//
// This package carries no compatibility promise before 1.0.
package schedule
