// Quickstart puts 20,000 real flights through a store and pulls the plug on it.
//
// A child process sends the flights, keyed by airport of origin, and tells its
// parent of each message that was acknowledged. The parent kills it with SIGKILL while it
// sends, opens the store again, compares it with what was acknowledged, sends
// the rest, and lets two consumer groups read everything: one all flights, one
// the late ones by their tag. Both stop in the middle, after they have received messages that
// they have not committed, and go on from their committed offsets. A table tells
// how it went; the exit code is 1 if a claim does not hold.
//
//	go run ./examples/quickstart
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

const (
	topic  = "flights"
	queues = 8
	// killAfter is how many acknowledged messages the child gets to send.
	killAfter = 8000
	// patience bounds the whole run, so that a hanging one fails.
	patience = time.Minute
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if dir := os.Getenv(childEnv); dir != "" {
		fail(child(ctx, dir, os.Stdout))
		return
	}
	dir, err := os.MkdirTemp("", "embermq-quickstart-")
	fail(err)
	r, err := run(ctx, dir)
	fail(err)
	if failed := r.print(os.Stdout); failed > 0 {
		fail(fmt.Errorf("%d claims do not hold; the store is in %s", failed, dir))
	}
	fail(os.RemoveAll(dir))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run does it all in dir and tells how it went.
func run(ctx context.Context, dir string) (*result, error) {
	plan, err := loadPlan()
	if err != nil {
		return nil, err
	}
	r := &result{plan: plan, ledger: newLedger()}

	// A process sends and is killed.
	if err := killWhileSending(ctx, dir, r.ledger); err != nil {
		return nil, err
	}
	r.childTook = time.Since(r.ledger.began)
	r.childSent, r.childAcked = r.ledger.sent, r.ledger.acked

	// Another one opens the directory and finds out what is there.
	s, err := store.Open(dir)
	if err != nil {
		return nil, err
	}
	r.recovery = s.Stats().Recovery
	if r.survey, err = survey(s, plan, r.ledger); err != nil {
		return nil, closing(s, err)
	}

	// It sends what is missing.
	began := time.Now()
	if err := send(ctx, s, plan.from(r.survey.ends), r.ledger); err != nil {
		return nil, closing(s, err)
	}
	r.parentTook = time.Since(began)

	// Two groups read a part, then the program ends.
	r.groups = []*reader{
		newReader("all", nil, func(*flight) bool { return true }),
		newReader("late", lateOnly(), (*flight).late),
	}
	began = time.Now()
	if err := readAll(ctx, s, r.groups, 2*len(plan.flights)/5); err != nil {
		return nil, closing(s, err)
	}
	if err := s.Close(); err != nil {
		return nil, err
	}

	// They go on from their committed offsets.
	if s, err = store.Open(dir); err != nil {
		return nil, err
	}
	r.reopened = s.Stats().Recovery
	if err := readAll(ctx, s, r.groups, 0); err != nil {
		return nil, closing(s, err)
	}
	r.readTook = time.Since(began)
	if r.check, err = s.Check(ctx); err != nil {
		return nil, closing(s, err)
	}
	return r, s.Close()
}

// lateOnly is the filter of the group that wants late flights.
func lateOnly() message.Filter {
	f, err := message.Tags(tagLate)
	fail(err)
	return f
}

// closing closes after a failure that matters more than Close's own.
func closing(c io.Closer, err error) error {
	_ = c.Close()
	return err
}
