// Command bench measures EmberMQ beside what the machine could do at most:
//
//	go run ./bench                        # a few minutes
//	go run ./bench --quick                # under a minute
//	go run ./bench --only put/1KiB,drain  # some rows
//	go run ./bench --quick --compare bench/results/quick.json --ratios
//
// It prints a table and writes results.json, machine.json, results.md and plots
// into --out. Other libraries doing the same work are measured by the program in
// bench/peers, which has a module of its own.
//
// It lies in the main module so that it runs from there; no package that a user
// imports needs what it needs.
package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/embermq/embermq/bench/measure"
)

func main() {
	if childMain() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c := measure.Command("bench", "Measure EmberMQ beside the limits of the machine", "bench/out", func(s measure.Scale) ([]measure.Experiment, error) {
		return experiments(workOf(s))
	})
	if c.ExecuteContext(ctx) != nil {
		stop()
		os.Exit(1)
	}
}
