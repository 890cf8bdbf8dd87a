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
	c := measure.Command("peers", "Measure EmberMQ beside other libraries", "../out/peers", func(s measure.Scale) ([]measure.Experiment, error) {
		return experiments(ctx, workOf(s))
	})
	if c.ExecuteContext(ctx) != nil {
		stop()
		os.Exit(1)
	}
}
