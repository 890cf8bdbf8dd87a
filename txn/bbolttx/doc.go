// Package bbolttx makes messages atomic with data in the application's own
// bbolt: a message is delivered if and only if the application's transaction was
// committed, whatever crashes in between. It also keeps offsets of consumers
// beside the application's data, for an effect that happens exactly once.
//
// # Nouns
//
// A marker is a key, named after a half message, that says what has become of
// the application's transaction. An offset is, for a consumer group and a queue,
// where it goes on.
//
// # What is durable when
//
// A marker and an offset are part of the application's transaction, and as
// durable as that.
//
// # Use
//
//	r := bbolttx.New(db, s.Halves(), bbolttx.Options{})
//	s.Halves().Attach("orders", r, message.CheckOptions{})
//	_, id, err := s.Halves().Prepare(ctx, m, "orders", message.HalfOptions{})
//	err = db.Update(func(tx *bbolt.Tx) error {
//		…                            // the application's changes
//		return r.Mark(tx, id)        // an error rolls all of it back
//	})
//	_, how, err := s.Halves().Commit(ctx, id)
//
// If the process dies anywhere in between, the store asks the database after the
// next Open. Nothing else is needed.
//
// # Concurrency
//
// All methods may be called by several goroutines at once; bbolt has one writer
// at a time. A bucket belongs to one group of one store.
//
// This package carries no compatibility promise before 1.0.
package bbolttx
