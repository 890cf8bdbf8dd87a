// Package sqltx makes messages atomic with data in the application's own SQL
// database: a message is delivered if and only if the application's transaction
// was committed, whatever crashes in between. It also keeps offsets of consumers
// beside the application's data, for an effect that happens exactly once.
//
// # Nouns
//
// A marker is a row, with a half message's id as its key, that says what has
// become of the application's transaction. An offset row holds, for a consumer
// group and a queue, where it goes on.
//
// # What is durable when
//
// A marker and an offset are part of the application's transaction, and as
// durable as that. The database must enforce primary keys between transactions
// that overlap, as all do.
//
// # Use
//
//	r, err := sqltx.New(db, s.Halves(), sqltx.Options{})
//	err = r.Create(ctx)                  // the two tables, unless they are there
//	s.Halves().Attach("orders", r, message.CheckOptions{})
//	_, id, err := s.Halves().Prepare(ctx, m, "orders", message.HalfOptions{})
//	tx, err := db.BeginTx(ctx, nil)
//	…                                    // the application's changes
//	err = r.Mark(ctx, tx, id)            // an error: tx.Rollback()
//	err = tx.Commit()
//	_, how, err := s.Halves().Commit(ctx, id)
//
// If the process dies anywhere in between, the store asks the database after the
// next Open. Nothing else is needed.
//
// # Concurrency
//
// All methods may be called by several goroutines at once. A marker table belongs
// to one group of one store.
//
// This package carries no compatibility promise before 1.0.
package sqltx
