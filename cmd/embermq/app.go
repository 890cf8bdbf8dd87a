package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/embermq/embermq/store"
)

// app is one run of the program: where it reads and writes, and the flags that
// every command has.
type app struct {
	in        io.Reader
	out, errs io.Writer
	colour    bool

	dir  string
	json bool

	headless bool // the table goes on below another
	started  bool // the command line was understood
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "embermq",
		Short: "Look into a store's directory and work on it",
		Long: `embermq looks into a store's directory and works on it.

The directory is --dir, else $EMBERMQ_DIR, else "data". Commands that only read work
beside a process that has the store open; the others need it for themselves.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	dir := os.Getenv("EMBERMQ_DIR")
	if dir == "" {
		dir = "data"
	}
	root.PersistentFlags().StringVarP(&a.dir, "dir", "d", dir, "the store's directory")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON object a line")
	root.AddGroup(
		&cobra.Group{ID: "data", Title: "Messages:"},
		&cobra.Group{ID: "admin", Title: "Topics, groups and what waits:"},
		&cobra.Group{ID: "files", Title: "The directory:"},
	)
	root.AddCommand(
		a.put(), a.peek(), a.tail(), a.query(),
		a.topic(), a.group(), a.dlq(), a.retry(), a.move(), a.timer(), a.tx(),
		a.stats(), a.check(), a.repair(), a.dump(), a.backup(), a.restore(), a.fork(), a.exportRocketMQ(), a.importRocketMQ(), a.bench(), a.torture(), a.tortureWork(),
	)
	a.watchStart(root)
	return root
}

// watchStart notes when a command begins: what fails before is a command line that
// is wrong.
func (a *app) watchStart(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			a.started = true
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		a.watchStart(sub)
	}
}

// write opens the directory as its only owner. It makes none.
func (a *app) write(use func(s *store.Store) error, opts ...store.Option) error {
	if err := a.present(); err != nil {
		return err
	}
	s, err := store.Open(a.dir, opts...)
	if err != nil {
		return err
	}
	return errors.Join(use(s), s.Close())
}

// read opens the directory without writing, also beside its owner.
func (a *app) read(use func(s *store.Store) error) error {
	s, err := store.OpenReadOnly(a.dir)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return a.noStore()
	}
	if err != nil {
		return err
	}
	return errors.Join(use(s), s.Close())
}

// settings opens the directory for what only its owner knows.
func (a *app) settings(what string, use func(s *store.Store) error) error {
	err := a.write(use)
	var locked *store.LockedError
	if errors.As(err, &locked) {
		return fmt.Errorf("%s are known only to the process that has %s open (%d)", what, locked.Dir, locked.PID)
	}
	return err
}

func (a *app) present() error {
	if _, err := os.Stat(a.dir); errors.Is(err, os.ErrNotExist) {
		return a.noStore()
	}
	return nil
}

func (a *app) noStore() error {
	return badUsage("there is no store in %q: name its directory by --dir or $EMBERMQ_DIR", a.dir)
}
