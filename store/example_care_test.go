package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func ExampleStore_Backup() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir)
	defer s.Close()
	ctx := context.Background()
	exampleOrders(s)
	copies := filepath.Join(filepath.Dir(dir), "copies")
	if _, err := s.Backup(ctx, copies); err != nil {
		log.Fatal(err)
	}
	q := exampleOrders(s)
	r, err := s.Backup(ctx, copies) // what is new, no more
	fmt.Println(r.Copied < r.End, err)

	again := filepath.Join(filepath.Dir(dir), "again")
	if err := store.Restore(ctx, copies, again); err != nil {
		log.Fatal(err)
	}
	restored := mustOpen(again)
	defer restored.Close()
	fmt.Println(restored.Bounds(q))
	// Output:
	// true <nil>
	// 0 6 <nil>
}

// Try a handler on what has really happened; the original knows nothing of it.
func ExampleStore_Fork() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir)
	defer s.Close()
	q := exampleOrders(s)
	trial := filepath.Join(filepath.Dir(dir), "trial")
	if err := s.Fork(context.Background(), trial); err != nil {
		log.Fatal(err)
	}
	f := mustOpen(trial)
	defer f.Close()
	exampleOrders(f)
	_, ours, _ := s.Bounds(q)
	_, theirs, err := f.Bounds(q)
	fmt.Println(ours, theirs, err)
	// Output: 3 6 <nil>
}

// A byte in the middle of the log has changed on disk.
func ExampleRepair() {
	dir, remove := exampleDir()
	defer remove()
	ctx := context.Background()
	s := mustOpen(dir)
	for _, body := range []string{"before", "the damage", "behind"} {
		if _, err := s.Put(ctx, &message.Message{Topic: "orders", Body: []byte(body)}); err != nil {
			log.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	segment := filepath.Join(dir, "commitlog", "00000000000000000000")
	b, err := os.ReadFile(segment)
	if err != nil {
		log.Fatal(err)
	}
	b[bytes.Index(b, []byte("the damage"))] ^= 1
	if err := os.WriteFile(segment, b, 0o600); err != nil {
		log.Fatal(err)
	}

	report, err := store.Repair(ctx, dir) // deletes nothing: see report.Aside
	fmt.Println(len(report.Covered), len(report.Left), err)
	s = mustOpen(dir)
	defer s.Close()
	batch, err := s.Read(ctx, message.Queue{Topic: "orders"}, 0, message.Limit{}, nil)
	for _, r := range batch.Records {
		fmt.Println(r.Offset(), string(r.Body()), err)
	}
	// Output:
	// 1 0 <nil>
	// 0 before <nil>
	// 2 behind <nil>
}

func ExampleStore_Disk() {
	s, remove := exampleStore()
	defer remove()
	d, err := s.Disk()
	fmt.Println(d.Free <= d.Total, err)
	// Output: true <nil>
}

// What Open found and did is told, never silent.
func ExampleStore_Stats() {
	s, remove := exampleStore()
	defer remove()
	exampleOrders(s)
	stats := s.Stats()
	fmt.Println(stats.Puts, stats.Recovery.CutBytes, stats.Poisoned)
	// Output: 3 0 <nil>
}

func ExampleLockedError() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir)
	defer s.Close()
	_, err := store.Open(dir)
	var locked *store.LockedError
	fmt.Println(errors.As(err, &locked), locked.PID == os.Getpid())
	// Output: true true
}
