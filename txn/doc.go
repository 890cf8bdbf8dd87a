// Package txn holds messages back until somebody has decided about them: half
// messages, the verdicts on them, and the question to those who know when no
// verdict comes.
//
// # Nouns
//
// A half is a message that is stored and not delivered: a record in RocketMQ's
// half topic. A verdict is the record, in RocketMQ's op topic, that commits a
// half, rolls it back or gives it up; for a commit it lies in one atomic group
// with the copy of the message in its real topic. A decider is who is asked about
// halves of a producer group: a registered checker, or a resource, which is the
// application's own database.
//
// # What is durable when
//
// The log is the truth: a half is pending from its record to the verdict. This
// package is a view of it. It learns everything from Apply, also what it has
// decided itself. Freeze and the function that it returns put the changes up to
// a mark into the key-value store together with the mark. Prepare, Commit,
// Rollback and Recover return when their records are on disk, whatever the
// store's default is.
//
// How often a half was asked about is not in the log: after a crash a half has
// the count of the last save, and may be asked about a few times more than
// Options.MaxChecks says. Nothing else is approximate.
//
// # Who decides
//
// The first verdict wins, and it is appended only for a half that is pending and
// that nothing else is being appended for. Everybody who comes later learns it,
// as long as it is remembered: the last Options.Remember verdicts, which are
// saved and so outlive the process. A half that was given up is pending for
// nobody but Recover.
//
// A half without a verdict is asked about when it is Options.Timeout old, or
// its own immunity, and then again after Options.Interval, twice that, and so on
// up to MaxInterval. Only an answer of a checker that is Undecided, an error or a
// panic counts. When MaxChecks of them have come, the half is given up. Without
// a decider, and while a resource is not there, halves wait without limit.
//
// A checker is asked by its own workers. A half that waits for a worker, or for
// an answer, for longer than Interval is asked of another checker of the group;
// a checker whose workers are all overdue is not asked anything new.
//
// # Memory
//
// All pending halves are in memory, about 250 bytes each, without their messages.
//
// # Concurrency
//
// Apply, Freeze and Reset are called by one goroutine at a time, in the log's
// order; so are New and Start before anything else. Everything else may be
// called by any goroutine. The function that Freeze returns runs beside Apply.
//
// Lock order: saving, then mu. mu guards memory and is held neither across I/O
// nor across an append, a read of the log or a call to a decider. A half that is
// being decided about is busy: it is marked under mu, the append runs without
// it, and Apply or, if the append failed, the one who marked it ends that.
// Whoever else wants the half waits for the append.
//
// # Keys
//
// See docs/format/halves.md.
//
// This package carries no compatibility promise before 1.0.
package txn
