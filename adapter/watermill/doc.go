// Package watermill lets a Watermill router publish to and subscribe from a store.
//
// A Publisher writes to topics of the store and a Subscriber is a member of a
// consumer group: each message goes to one subscriber of a group, and to every
// group. Publish returns when the messages are as durable as the store promises,
// on disk by default; several messages of one call are stored all or none.
//
// Topics are made with one queue unless Config.Queues says otherwise, so that all
// messages of a topic keep their order: the next one is delivered when the one
// before was acknowledged. With more queues order holds within a queue, which
// Config.Key chooses, and as many subscribers of a group work at a time.
//
// A message that is not acknowledged is delivered again at once and without limit.
// When a subscriber closes, what it has not acknowledged goes to the next one. A
// new group begins with the first message that the store keeps.
//
// A message's UUID and metadata are kept in properties of this package's own, which
// hold any bytes; together they are limited to about 31,000.
package watermill
