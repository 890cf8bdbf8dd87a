// Package consumer receives messages for a group: a Push calls handlers, a Pull is
// asked, a Leaser lends single messages to any worker for a time. All three work on
// an Engine, which *store.Store is; nothing here knows how an engine stores.
//
// # Nouns
//
// A group is a name under which progress is kept. In a clustering group each
// message goes to one member, in a broadcasting group to every instance. A Delivery
// is one hand-over of a stored message. An outcome is what a handler says about it:
// nil, an error, or RetryAfter, Suspend, DeadLetter, Partial, FirstDone, Commit,
// Rollback. A message is settled when it needs no delivery any more: it was handled,
// it lies in the group's retry topic as a copy, or it is a dead letter.
//
// # What is promised
//
// Every message is delivered at least once. It is delivered again after a failure,
// and after a crash if its settling was not kept: an engine keeps what it was told
// about 100 milliseconds later, and is told when nothing else is to do, after 256
// messages, or after another 100 milliseconds. A crash repeats and never skips. What
// is delivered twice after it is bounded by WithSpan. Members that come and go repeat
// nothing: a queue that is revoked is given back when its handlers are done and
// what they did is settled. A handler that outlives its claim changes nothing.
//
// Without order a failed message comes again as a copy, after a time from the retry
// table, up to the group's limit of attempts; then it is a dead letter. Where order is
// kept (PerQueue, PerKey) it stays in its place and holds up its queue or key until
// it succeeds or WithMaxAttempts is reached. No handler sees a message of a line
// before all earlier ones are settled, across members and restarts; a crash may
// deliver the last ones again, from the first unsettled one on and in order. Three
// things move messages between lines and so break order: a change of a topic's number
// of queues, a producer that does not choose queues by key, and the redrive of a dead
// letter.
//
// In a broadcasting group there are no retries: what fails is told to OnDrop and
// counts as handled. Under WithLocalOrder it stays in its place first, as long as
// WithMaxAttempts says. Progress is in a local file of the instance, saved every 5
// seconds and at the end.
//
// # Memory
//
// A Push reads ahead, of each queue no more than WithPrefetch and WithSpan say. What
// one read brought is freed when the last of it is settled.
//
// # Concurrency
//
// All methods of Push may be called by many goroutines. A Push has up to two more
// goroutines than workers, and two of its own, all between the start and the end of
// Run; idle, they wait without a timer. Handlers and hooks run on them, without a
// lock; nothing of an engine calls them. Push has one lock, under which it calls only
// watches, which may lock but not call back, and the key function of WithKey.
package consumer
