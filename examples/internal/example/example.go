// Package example is what the example programs share: a folder for the store, a
// limit of time, and the table of claims that each of them prints.
package example

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/embermq/embermq/consumer"
)

// patience bounds a whole run, so that a hanging one fails.
const patience = time.Minute

// Program is what an example does. dir is an empty folder of its own, which goes
// away afterwards.
type Program func(ctx context.Context, dir string, t *Table) error

// Main runs a program and ends the process with exit code 1 if it fails.
func Main(name string, p Program) {
	if err := Run(name, p); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Run runs a program. The error is the program's, or says how many of its claims
// do not hold.
func Run(name string, p Program) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dir, err := os.MkdirTemp("", "embermq-"+name+"-")
	if err != nil {
		return err
	}
	t := new(Table)
	err = p(ctx, dir, t)
	if t.wrong > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d claims do not hold", t.wrong, t.claims))
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// Table prints the claims of a program, a line each.
type Table struct{ claims, wrong int }

// Claim prints what is claimed, and whether it holds.
func (t *Table) Claim(ok bool, format string, args ...any) {
	t.claims++
	mark := "ok   "
	if !ok {
		t.wrong++
		mark = "WRONG"
	}
	fmt.Printf("%s  %s\n", mark, fmt.Sprintf(format, args...))
}

// Until waits until ok is true, asking every millisecond. The error is ctx's, if
// that ends first.
func Until(ctx context.Context, ok func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// Start has consumers run in the background. stop ends them, waits, and returns
// what their Run has returned; it may be called again.
func Start(ctx context.Context, ps ...*consumer.Push) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	errs := make([]error, len(ps))
	var wg sync.WaitGroup
	for i, p := range ps {
		wg.Go(func() { errs[i] = p.Run(ctx) })
	}
	return func() error {
		cancel()
		wg.Wait()
		return errors.Join(errs...)
	}
}

// QueuesOf is how many queues of a topic a consumer has, without those that it is
// giving back.
func QueuesOf(p *consumer.Push, topic string) (n int) {
	for _, q := range p.Stats().Queues {
		if q.Queue.Topic == topic && !q.Draining {
			n++
		}
	}
	return n
}
