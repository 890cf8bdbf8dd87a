// Command embermq looks into a store's directory and works on it: topics,
// messages, groups, dead letters, timers, transactions, checks, repairs, backups.
//
// Reading commands work beside a process that has the store open, as far as the
// files tell. What only that process knows, such as groups and timers, they say so.
// Writing commands need the directory for themselves.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/embermq/embermq/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program. The exit code is 0, 1 for a failure or for damage that
// was found, and 2 for a command line that is wrong.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	a := &app{in: in, out: out, errs: errs, colour: isTerminal(out)}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errDamage):
		return 1
	case errors.As(err, &usage), !a.started:
		fmt.Fprintf(errs, "embermq: %v (embermq COMMAND --help explains)\n", err)
		return 2
	}
	fmt.Fprintf(errs, "embermq: %s\n", explain(err))
	return 1
}

// errDamage ends a command that has already said what is wrong.
var errDamage = errors.New("damage was found")

// usageError is a command line that cannot be obeyed.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func badUsage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// explain turns the errors that a user meets often into a sentence.
func explain(err error) string {
	var locked *store.LockedError
	if errors.As(err, &locked) {
		who := "another process"
		if locked.PID > 0 {
			who = fmt.Sprintf("process %d", locked.PID)
		}
		return fmt.Sprintf("%s has %s open; this command needs the directory for itself, so run it when that process has closed the store", who, locked.Dir)
	}
	if errors.Is(err, store.ErrCorrupt) {
		return err.Error() + "; embermq check lists all damage, embermq repair makes the store whole around it"
	}
	return err.Error()
}
