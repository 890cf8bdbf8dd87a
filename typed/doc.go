// Package typed sends and receives values of a Go type instead of bytes.
//
// A Topic names a topic of a store and says how a value becomes a message's body;
// JSON unless another Codec is given. Send puts a value through a producer, and
// Handler makes a consumer's handler of a function of values. Nothing is stored
// beyond the message: tag, keys and the rest stay as they are everywhere else.
//
// A body that does not decode will not do so on the next attempt either: such a
// message becomes a dead letter, with the reason, unless OnInvalid says otherwise.
//
// A Topic may be used by several goroutines.
package typed
