// Package pebbletx makes messages atomic with data in the application's own
// Pebble: a message is delivered if and only if the application's batch was
// committed, whatever crashes in between. It also keeps offsets of consumers
// beside the application's data, for an effect that happens exactly once.
//
// # Nouns
//
// A marker is a row, named after a half message, that says what has become of
// the application's transaction. An offset row holds, for a consumer group and
// a queue, where it goes on.
//
// # What is durable when
//
// Commit and Advance return when the batch is synced, with the row in it.
//
// # Use
//
//	r := pebbletx.New(db, s.Halves(), pebbletx.Options{})
//	s.Halves().Attach("orders", r, message.CheckOptions{})
//	_, id, err := s.Halves().Prepare(ctx, m, "orders", message.HalfOptions{})
//	b := db.NewBatch()               // … the application's changes …
//	err = r.Commit(id, b)            // together with the marker
//	_, how, err := s.Halves().Commit(ctx, id)
//
// If the process dies anywhere in between, the store asks the database after the
// next Open. Nothing else is needed.
//
// # Concurrency
//
// All methods may be called by several goroutines at once. One Resource, and
// nothing else, writes the rows below its prefix: Pebble has no transactions, so
// the Resource itself sees to it that there is one marker of an id. A prefix
// belongs to one group of one store.
//
// This package carries no compatibility promise before 1.0.
package pebbletx
