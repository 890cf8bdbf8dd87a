package pebbletx_test

import (
	"context"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
	"github.com/embermq/embermq/txn/pebbletx"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "pebbletx-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir)
	if err != nil {
		panic(err)
	}
	defer s.Close()
	db, err := pebble.Open("bank", &pebble.Options{FS: vfs.NewMem(), Logger: quiet{}})
	if err != nil {
		panic(err)
	}
	defer db.Close()
	r := pebbletx.New(db, s.Halves(), pebbletx.Options{})
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
	b := db.NewBatch()
	_ = b.Set([]byte("booked/Ada"), nil, nil)
	fmt.Println(r.Commit(id, b))
	receipt, how, err := s.Halves().Commit(ctx, id)
	fmt.Println(receipt.Queue, how, err)

	// Receive with a change: once, however often it is delivered.
	for range 2 {
		b := db.NewBatch()
		_ = b.Set([]byte("letter/Ada"), nil, nil)
		fmt.Println(r.Advance("letters", receipt.Queue, receipt.Offset, receipt.Offset+1, b) == nil)
	}
	fmt.Println(r.Offset("letters", receipt.Queue))
	// Output:
	// <nil>
	// bookings/0 Committed <nil>
	// true
	// false
	// 1 true <nil>
}
