package interop_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/embermq/embermq/interop"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// A directory goes to a broker and comes back.
func ExampleExport() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "interop-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	dir = filepath.Join(dir, "data")
	s, err := store.Open(dir)
	if err != nil {
		panic(err)
	}
	if _, err := s.Put(ctx, &message.Message{Topic: "orders", Body: []byte("paid")}); err != nil {
		panic(err)
	}
	if err := s.Close(); err != nil {
		panic(err)
	}
	r, err := interop.Export(ctx, dir, dir) // r.Broker belongs into the broker's configuration
	fmt.Println(r.Topics, len(r.Broker) > 0, err)
	// The broker works here, and is shut down.
	im, err := interop.Import(ctx, dir)
	fmt.Println(im.Topics, err)
	// Output:
	// 1 true <nil>
	// 1 <nil>
}
