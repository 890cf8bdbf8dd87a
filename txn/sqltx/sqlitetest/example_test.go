package sqlitetest_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
	"github.com/embermq/embermq/txn/sqltx"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "sqltx-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(filepath.Join(dir, "queue"))
	if err != nil {
		panic(err)
	}
	defer s.Close()
	db, err := sql.Open("sqlite", filepath.Join(dir, "bank.db"))
	if err != nil {
		panic(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	r, err := sqltx.New(db, s.Halves(), sqltx.Options{})
	if err != nil {
		panic(err)
	}
	if err := r.Create(ctx); err != nil {
		panic(err)
	}
	stop, err := s.Halves().Attach("bank", r, message.CheckOptions{}) // the store knows now whom to ask
	if err != nil {
		panic(err)
	}
	defer stop()

	// Send with a change: both or neither.
	_, id, err := s.Halves().Prepare(ctx, &message.Message{Topic: "bookings", Body: []byte("Ada")}, "bank", message.HalfOptions{})
	if err != nil {
		panic(err)
	}
	fmt.Println(transact(ctx, db, func(tx *sql.Tx) error { // … and the change
		return r.Mark(ctx, tx, id)
	}))
	receipt, how, err := s.Halves().Commit(ctx, id)
	fmt.Println(receipt.Queue, how, err)

	// Receive with a change: once, however often it is delivered.
	for range 2 {
		fmt.Println(transact(ctx, db, func(tx *sql.Tx) error { // … and the effect
			return r.Advance(ctx, tx, "letters", receipt.Queue, receipt.Offset, receipt.Offset+1)
		}) == nil)
	}
	fmt.Println(r.Offset(ctx, "letters", receipt.Queue))
	// Output:
	// <nil>
	// bookings/0 Committed <nil>
	// true
	// false
	// 1 true <nil>
}

func transact(ctx context.Context, db *sql.DB, f func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}
