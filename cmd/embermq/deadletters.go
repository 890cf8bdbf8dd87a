package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func (a *app) dlq() *cobra.Command {
	c := &cobra.Command{Use: "dlq", GroupID: "admin", Short: "List, show, send again and remove dead letters", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.dlqList(), a.dlqShow(), a.dlqRedrive(), a.dlqRemove())
	return c
}

func (a *app) dlqList() *cobra.Command {
	return &cobra.Command{
		Use: "ls [GROUP]", Args: cobra.MaximumNArgs(1),
		Short: "List a group's dead letters, or count those of all groups",
		Example: `  embermq dlq ls
  embermq dlq ls billing`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.settings("dead letters", func(s *store.Store) error {
				return a.rows(func(yield func(row, error) bool) {
					if len(args) == 0 {
						countDead(c, s, yield)
						return
					}
					for d, err := range s.DeadLetters().All(c.Context(), args[0]) {
						if err != nil {
							yield(nil, err)
							return
						}
						if !yield(deadRow(&d), nil) {
							return
						}
					}
				})
			})
		},
	}
}

func countDead(c *cobra.Command, s *store.Store, yield func(row, error) bool) {
	for _, g := range deadGroups(s) {
		n := s.DeadLetters().Count(g)
		age, err := s.DeadLetters().Age(c.Context(), g)
		if !yield(row{{"group", g}, {"dead letters", n}, {"oldest", age}}, err) || err != nil {
			return
		}
	}
}

// deadGroups are those that ever had a dead letter; a group that was removed may
// have some, too.
func deadGroups(s *store.Store) (groups []string) {
	for _, t := range s.Topics() {
		if g, ok := strings.CutPrefix(t.Name, message.PrefixDead); ok {
			groups = append(groups, g)
		}
	}
	return groups
}

func deadRow(d *store.DeadLetter) row {
	var offset any
	if d.OriginOffset >= 0 {
		offset = d.OriginOffset
	}
	return row{{"id", d.ID}, {"from", d.Origin}, {"offset", offset}, {"attempts", d.Attempts}, {"since", d.At}, {"reason", d.Reason}}
}

func (a *app) dlqShow() *cobra.Command {
	return &cobra.Command{
		Use: "show GROUP ID", Args: cobra.ExactArgs(2),
		Short:   "Print a dead letter with its properties and its body",
		Example: `  embermq dlq show billing dead-1`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.settings("dead letters", func(s *store.Store) error {
				d, err := s.DeadLetters().Get(c.Context(), args[0], args[1])
				if err != nil {
					return err
				}
				return a.one(append(deadRow(&d), a.letter(&d.Record)...))
			})
		},
	}
}

// letter is what a message says, as rows of one listing.
func (a *app) letter(r *message.Record) row {
	props := maps.Collect(r.Properties())
	if a.json {
		if b := r.Body(); !utf8.Valid(b) {
			return row{{"properties", props}, {"bytes", b}}
		}
		return row{{"properties", props}, {"body", string(r.Body())}}
	}
	var out row
	for _, name := range slices.Sorted(maps.Keys(props)) {
		out = append(out, field{"property " + name, props[name]})
	}
	return append(out, field{"body", text(r.Body(), 0)})
}

// chosen makes the choice of dead letters from the ids on the command line and
// --all, one of which must be there.
func chosen(ids []string, all bool) (func(*store.DeadLetter) bool, error) {
	switch {
	case all && len(ids) > 0:
		return nil, badUsage("name ids or --all, not both")
	case all:
		return nil, nil
	case len(ids) == 0:
		return nil, badUsage("name the ids that ls shows, or --all")
	}
	return func(d *store.DeadLetter) bool { return slices.Contains(ids, d.ID) }, nil
}

func (a *app) dlqRedrive() *cobra.Command {
	var r store.Redrive
	var all bool
	c := &cobra.Command{
		Use: "redrive GROUP [ID...]", Args: cobra.MinimumNArgs(1),
		Short: "Send dead letters again, as new messages",
		Long: `Send dead letters again, as new messages, to the topic that each came from or to another
one. Every group of that topic receives them; with --to %RETRY%GROUP only the one group does.`,
		Example: `  embermq dlq redrive billing dead-1
  embermq dlq redrive billing --all --max 100 --to scratch`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if r.Match, err = chosen(args[1:], all); err != nil {
				return err
			}
			return a.write(func(s *store.Store) error {
				n, err := s.DeadLetters().Redrive(c.Context(), args[0], r)
				return a.counted("sent", n, args[1:], err)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all of the group's")
	c.Flags().StringVar(&r.To, "to", "", "a topic, instead of the one that each came from")
	c.Flags().IntVar(&r.Max, "max", 0, "so many at most; 0 is all")
	return c
}

func (a *app) dlqRemove() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "rm GROUP [ID...]", Args: cobra.MinimumNArgs(1),
		Short:   "Remove dead letters for good",
		Example: `  embermq dlq rm billing dead-1`,
		RunE: func(c *cobra.Command, args []string) error {
			match, err := chosen(args[1:], all)
			if err != nil {
				return err
			}
			return a.write(func(s *store.Store) error {
				n, err := s.DeadLetters().Delete(c.Context(), args[0], match)
				return a.counted("removed", n, args[1:], err)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all of the group's")
	return c
}

// counted says how many were done. Ids of which none was found are an error.
func (a *app) counted(what string, n int, ids []string, err error) error {
	if err == nil && n == 0 && len(ids) > 0 {
		return fmt.Errorf("no dead letter has such an id: %w", store.ErrNotFound)
	}
	return errors.Join(a.one(row{{what, n}}), err)
}
