// Package producer sends messages. A Producer works on an Engine, four methods
// that *store.Store has, and a TxProducer on a TxEngine, which its Halves are; nothing
// here knows how an engine stores.
//
// # Nouns
//
// A send is one message on its way through a Producer: it is copied, named,
// compressed, given a queue, tried up to three times inside one budget of time,
// and answered. A lane holds what is sent asynchronously under one sharding key,
// in order. A half is a message that a TxProducer has stored and that is not delivered
// until its local transaction has ended. The spool is a file outside the engine for
// messages that could not be sent.
//
// # What is durable when
//
// A receipt says what the engine says: *store.Store answers when the message is as
// durable as its Durability, or else the store, promises. An error that is an
// *UnknownError leaves open whether the message is stored; any other error means
// that it is not. A spooled message is synced to the spool's file before the call
// that failed returns. A half is on disk before its local transaction begins, and its
// verdict before Send of a TxProducer returns one.
//
// # Concurrency
//
// All methods of Producer, TxProducer and Spool may be called by many goroutines. An
// idle Producer has no goroutines, except for the one that re-sends a spool by timer:
// the others start with the first asynchronous send and end with the last one.
// Callbacks run on a goroutine of the Producer, never on one of the engine.
//
// Lock order: lanes and batcher, then callbacks; lanes and batcher, then the
// spool. The room, the engine and user code are never called with a lock held,
// except that Stats of the room are read inside callbacks' lock.
package producer
