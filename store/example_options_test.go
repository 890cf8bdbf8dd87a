package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// exampleDir makes a directory for a store.
func exampleDir() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "ember")
	if err != nil {
		log.Fatal(err)
	}
	return filepath.Join(dir, "data"), func() { _ = os.RemoveAll(dir) }
}

// mustOpen is Open in examples that do not go on without a store.
func mustOpen(dir string, opts ...store.Option) *store.Store {
	s, err := store.Open(dir, opts...)
	if err != nil {
		log.Fatal(err)
	}
	return s
}

// Sizes of files are fixed when the directory is made: another value is refused later.
func ExampleOption() {
	dir, remove := exampleDir()
	defer remove()
	sizes := []store.Option{
		store.WithSegmentSize(16 << 20),
		store.WithQueueFileSize(20 * 1000),
		store.WithIndexSizes(1<<12, 1<<14),
		store.WithFolders(store.Folders{CommitLog: filepath.Join(filepath.Dir(dir), "on-a-disk-of-its-own")}),
	}
	s := mustOpen(dir, sizes...)
	fmt.Println(s.Close())
	_, err := store.Open(dir, append(sizes, store.WithSegmentSize(32<<20))...)
	var mismatch *store.OptionMismatchError
	fmt.Println(errors.As(err, &mismatch), mismatch.Stored, mismatch.Given)
	// Output:
	// <nil>
	// true 16777216 33554432
}

// How long messages stay: as long as these say, and until every live group has
// settled them.
func ExampleOption_retention() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir,
		store.WithRetention(24*time.Hour),
		store.WithRetentionBytes(10<<30),
		store.WithWatermarks(store.Watermarks{Clean: 60, Force: 70, Full: 99}),
		store.WithGroupExpiry(7*24*time.Hour),          // a group unseen for a week guards nothing
		store.WithDeadLetterRetention(90*24*time.Hour), // dead letters stay longer
		store.WithForceExpiry(),                        // and no group holds up the rest
	)
	defer s.Close()
	fmt.Println(s.Stats().Expired)
	// Output: 0
}

// What a store may take of its host.
func ExampleOption_bounds() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir,
		store.WithMaxBody(100),
		store.WithMaxUnsynced(1<<20),             // what a power cut can take under InCache
		store.WithTailMemory(1<<20),              // queue entries that are not in files yet
		store.WithOpenFiles(16),                  // of queues
		store.WithCheckpoint(time.Second, 1<<20), // what an Open after a kill replays
		store.WithTimerCatchUp(1000),             // overdue messages a second
		store.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
	)
	defer s.Close()
	_, err := s.Put(context.Background(), &message.Message{Topic: "orders", Body: make([]byte, 101)})
	fmt.Println(errors.Is(err, store.ErrTooLarge))
	// Output: true
}

// A name that nobody has created is a mistake here.
func ExampleWithoutTopicCreation() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir, store.WithoutTopicCreation(), store.WithoutGroupCreation())
	defer s.Close()
	ctx := context.Background()
	_, err := s.Put(ctx, &message.Message{Topic: "odrers"})
	fmt.Println(errors.Is(err, store.ErrNotFound))
	if err := s.CreateTopic(ctx, store.Topic{Name: "orders"}); err != nil {
		log.Fatal(err)
	}
	err = s.Commit(ctx, "biling", map[message.Queue]int64{{Topic: "orders"}: 0})
	fmt.Println(errors.Is(err, store.ErrNotFound))
	// Output:
	// true
	// true
}

func ExampleWithTopicQueues() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir, store.WithTopicQueues(16)) // of topics that their first message makes
	defer s.Close()
	n, err := s.QueueCount("orders")
	fmt.Println(n, err)
	// Output: 16 <nil>
}

// A store that does not wait for the disk; one message does.
func ExampleWithDurability() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir, store.WithDurability(message.InCache), store.WithDurableSettle())
	defer s.Close()
	ctx := context.Background()
	for range 3 {
		if _, err := s.Put(ctx, &message.Message{Topic: "clicks"}); err != nil {
			log.Fatal(err)
		}
	}
	_, err := s.Put(ctx, &message.Message{Topic: "orders", Durability: message.OnDisk}) // and what was put before it
	fmt.Println(err)
	err = s.Commit(ctx, "stats", map[message.Queue]int64{{Topic: "clicks"}: 3}) // on disk, too
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
}

func ExampleWithUniqueID() {
	dir, remove := exampleDir()
	defer remove()
	// Ids are written but not indexed: messages are found by their keys alone.
	s := mustOpen(dir, store.WithUniqueID(), store.WithoutIDIndex(), store.WithUncheckedReads())
	defer s.Close()
	q := exampleOrders(s)
	r, err := s.At(context.Background(), q, 0)
	fmt.Println(len(r.UniqueID()), err)
	// Output: 32 <nil>
}

func ExampleWithDedupe() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir, store.WithDedupe(time.Hour, 100_000))
	defer s.Close()
	m := &message.Message{Topic: "orders", IdempotencyKey: "order-42", Body: []byte("paid")}
	first, _ := s.Put(context.Background(), m)
	again, err := s.Put(context.Background(), m) // perhaps by a client that saw no answer
	fmt.Println(again == first, err)
	// Output: true <nil>
}

func ExampleWithDelayLevels() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir, store.WithDelayLevels("10m 1h 24h"))
	defer s.Close()
	if _, err := s.Put(context.Background(), &message.Message{Topic: "reminders", DelayLevel: 2}); err != nil {
		log.Fatal(err)
	}
	for t, err := range s.Timers().Pending("reminders", time.Time{}, time.Time{}) {
		fmt.Println(time.Until(t.Due).Round(time.Hour), err)
	}
	// Output: 1h0m0s <nil>
}

// A directory for a broker that keeps its default settings. An index of that size
// takes its memory, so this store does without.
func ExampleRocketMQSizes() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir, store.RocketMQSizes(), store.WithoutIndex(), store.WithHost(netip.MustParseAddrPort("10.0.0.5:10911")))
	defer s.Close()
	r, err := s.At(context.Background(), exampleOrders(s), 0)
	fmt.Println(r.StoreHost(), err)
	// Output: 10.0.0.5:10911 <nil>
}

// The last segment was lost, and it is known that nothing else is to be had.
func ExampleWithAcceptLog() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir, store.WithSegmentSize(4096), store.WithMaxUnsynced(4096))
	for i := range 10 {
		if _, err := s.Put(context.Background(), &message.Message{Topic: "orders", Body: make([]byte, 1000+i)}); err != nil {
			log.Fatal(err)
		}
	}
	end := s.Stats().Log.Appended
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	segments, _ := filepath.Glob(filepath.Join(dir, "commitlog", "*"))
	slices.Sort(segments)
	for _, lost := range segments[1:] {
		if err := os.Remove(lost); err != nil {
			log.Fatal(err)
		}
	}
	_, err := store.Open(dir)
	fmt.Println(errors.Is(err, store.ErrCorrupt))
	s = mustOpen(dir, store.WithAcceptLog())
	defer s.Close()
	fmt.Println(s.Stats().Log.Appended < end)
	// Output:
	// true
	// true
}

// RocketMQ had the directory in between, and a group has gone on there.
func ExampleWithImport() {
	dir, remove := exampleDir()
	defer remove()
	s := mustOpen(dir)
	q := exampleOrders(s)
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "config"), 0o700); err != nil {
		log.Fatal(err)
	}
	offsets := `{"offsetTable":{"orders@billing":{0:2}}}`
	if err := os.WriteFile(filepath.Join(dir, "config", "consumerOffset.json"), []byte(offsets), 0o600); err != nil {
		log.Fatal(err)
	}
	s = mustOpen(dir, store.WithImport())
	defer s.Close()
	fmt.Println(s.Committed(context.Background(), "billing", q))
	// Output: 2 true <nil>
}
