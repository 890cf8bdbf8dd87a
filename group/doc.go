// Package group coordinates the members of consumer groups inside one process:
// who works on which queue, and until when.
//
// It holds three nouns. A Membership is one consumer's seat in a group, from
// Join until it leaves, its context ends or it is fenced. A Strategy shares a
// topic's queues among the members. A Claim is one member's right to one queue;
// every settle carries it, and a claim that is over is refused with
// message.ErrFenced.
//
// # Revoke, drain, give
//
// A change of members, of subscriptions or of a topic's queues makes a new plan.
// A queue that changes hands goes through three steps:
//
//  1. Revoke. The holder's Next names the claim. The claim still counts: what
//     the holder is working on may be settled.
//  2. Drain. The holder takes no more messages, waits for its handlers and calls
//     Release.
//  3. Give. Only now does the next member's Next name the queue, under a claim
//     with a higher generation.
//
// A holder that does not release loses the claim: when its context ends or it
// abandons its seat, at once; otherwise when the drain limit has passed. Losing
// a claim means that it is refused from then on, so a handler that wakes up late
// changes nothing.
//
// Invariant: at any time at most one claim of a clustering group's queue is
// valid, and a claim that stopped being valid never is again.
//
// A strategy that fails, panics, names a queue that is not the topic's, or gives
// one queue twice leaves the topic's old plan in force; listeners, Stats and the
// logger hear of it, and the plan is tried again later.
//
// In broadcasting groups and shared groups every member has a claim of its own
// on every queue.
//
// # What is durable
//
// Nothing. Members and claims end with the process. A claim carries the group's
// epoch, which lives with the committed offsets, so that what was decided before
// a reset can be told from what counts now.
//
// # Concurrency
//
// Every method may be called from several goroutines, Next from one at a time.
// Strategies, listeners and the functions in Options are called without a lock;
// strategies and Options.Queues by one goroutine a group, listeners by one
// goroutine. An idle coordinator has no goroutine and no timer: planning, drain
// limits and listeners each start one that ends with its work.
//
// There are two locks, in this order: the coordinator's, held for short work in
// memory, and a gate per claim. Valid takes neither for a claim that came from
// Next. Do holds the gate while its function runs, and whoever fences the claim
// waits for it, so that function calls nothing of this package.
//
// This package carries no compatibility promise before 1.0.
package group
