package metrics_test

import (
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/embermq/embermq/metrics"
	"github.com/embermq/embermq/store"
)

// Two stores in one registry, with the offsets of up to a hundred queues of each.
func ExampleWithName() {
	registry := prometheus.NewPedanticRegistry()
	for _, name := range []string{"east", "west"} {
		dir, err := os.MkdirTemp("", "embermq")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		s, err := store.Open(dir)
		if err != nil {
			panic(err)
		}
		defer s.Close()
		registry.MustRegister(metrics.New(s, metrics.WithName(name), metrics.WithQueues(100)))
	}
	n, err := testutil.GatherAndCount(registry, "embermq_topics")
	fmt.Println(n, err)
	// Output: 2 <nil>
}
