package gocloud_test

import (
	"context"
	"fmt"
	"os"

	"gocloud.dev/pubsub"

	"github.com/embermq/embermq/adapter/gocloud"
	"github.com/embermq/embermq/progress"
	"github.com/embermq/embermq/store"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "gocloud-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir)
	if err != nil {
		panic(err)
	}
	defer s.Close()
	// Topics and groups are made by whoever operates the store.
	if err := s.CreateTopic(ctx, store.Topic{Name: "orders"}); err != nil {
		panic(err)
	}
	if err := s.Progress().CreateGroup(ctx, progress.Group{Name: "billing"}); err != nil {
		panic(err)
	}
	topic, sub := gocloud.OpenTopic(s, "orders"), gocloud.OpenSubscription(s, "billing", "orders", 0)
	fmt.Println(topic.Send(ctx, &pubsub.Message{Body: []byte("paid"), Metadata: map[string]string{"id": "42"}}))
	m, err := sub.Receive(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(m.Body), m.Metadata["id"])
	m.Ack()
	fmt.Println(sub.Shutdown(ctx), topic.Shutdown(ctx))
	// Output:
	// <nil>
	// paid 42
	// <nil> <nil>
}
