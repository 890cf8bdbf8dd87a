package bbolttx_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
	"github.com/embermq/embermq/txn/bbolttx"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "bbolttx-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(filepath.Join(dir, "queue"))
	if err != nil {
		panic(err)
	}
	defer s.Close()
	db, err := bbolt.Open(filepath.Join(dir, "bank.db"), 0o600, nil)
	if err != nil {
		panic(err)
	}
	defer db.Close()
	r := bbolttx.New(db, s.Halves(), bbolttx.Options{})
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
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("booked"))
		if err == nil {
			err = b.Put([]byte("Ada"), nil)
		}
		if err == nil {
			err = r.Mark(tx, id)
		}
		return err
	})
	fmt.Println(err)
	receipt, how, err := s.Halves().Commit(ctx, id)
	fmt.Println(receipt.Queue, how, err)

	// Receive with a change: once, however often it is delivered.
	for range 2 {
		fmt.Println(db.Update(func(tx *bbolt.Tx) error { // … and the effect
			return r.Advance(tx, "letters", receipt.Queue, receipt.Offset, receipt.Offset+1)
		}) == nil)
	}
	fmt.Println(r.Offset("letters", receipt.Queue))
	// Output:
	// <nil>
	// bookings/0 Committed <nil>
	// true
	// false
	// 1 true <nil>
}
