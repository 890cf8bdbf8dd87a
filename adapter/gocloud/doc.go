// Package gocloud lets a store be used through gocloud.dev/pubsub.
//
// OpenTopic and OpenSubscription return the portable types. A subscription is a
// consumer group whose members lease messages: any receiver takes any message, and
// one that is neither acknowledged nor given back comes again when its lease has
// ended. There is no order.
//
// Sending returns when the messages are on disk, or as durable as the store's
// default says; the messages of one batch are stored all or none. Topics and groups
// are not made here: sending to a topic that does not exist, and receiving for a
// group or from a topic that does not, is gcerrors.NotFound. A new group begins with
// the first message that the store keeps.
//
// Metadata may hold any bytes; it is kept in a property of this package's own, which
// limits it to about 31,000.
package gocloud
