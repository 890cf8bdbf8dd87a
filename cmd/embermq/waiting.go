package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func (a *app) timer() *cobra.Command {
	c := &cobra.Command{Use: "timer", GroupID: "admin", Short: "List and cancel messages that wait for their time", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var topic string
	list := &cobra.Command{
		Use: "ls", Args: cobra.NoArgs,
		Short:   "List waiting messages, the next one first",
		Example: `  embermq timer ls --topic reminders`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.settings("timers", func(s *store.Store) error {
				return a.rows(func(yield func(row, error) bool) {
					for t, err := range s.Timers().Pending(topic, time.Time{}, time.Time{}) {
						if err != nil {
							yield(nil, err)
							return
						}
						if !yield(row{{"due", t.Due}, {"topic", t.Topic}, {"id", string(t.ID)}, {"position", t.Position}}, nil) {
							return
						}
					}
				})
			})
		},
	}
	list.Flags().StringVar(&topic, "topic", "", "only this topic")
	c.AddCommand(list, &cobra.Command{
		Use: "cancel ID", Args: cobra.ExactArgs(1),
		Short:   "Cancel a waiting message; ls shows the ids",
		Example: `  embermq timer cancel reminder-42`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.write(func(s *store.Store) error {
				outcome, err := s.Timers().Cancel(c.Context(), message.TimerID(args[0]))
				if err != nil {
					return err
				}
				return a.one(row{{"id", args[0]}, {"outcome", outcome}})
			})
		},
	})
	return c
}

func (a *app) tx() *cobra.Command {
	c := &cobra.Command{Use: "tx", GroupID: "admin", Short: "List and decide half messages of transactions", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(&cobra.Command{
		Use: "ls", Args: cobra.NoArgs,
		Short:   "List half messages without a verdict",
		Example: `  embermq tx ls --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.settings("transactions", func(s *store.Store) error {
				return a.rows(func(yield func(row, error) bool) {
					for h := range s.Halves().All() {
						if !yield(row{{"id", string(h.ID)}, {"group", h.Group}, {"queue", h.Queue}, {"age", h.Age.Round(time.Millisecond)},
							{"checks", h.Checks}, {"given up", h.GivenUp}}, nil) {
							return
						}
					}
				})
			})
		},
	})
	decide := func(use, short, example string, do func(ctx context.Context, s *store.Store, id message.HalfID) (message.Decision, error)) {
		c.AddCommand(&cobra.Command{
			Use: use + " ID", Args: cobra.ExactArgs(1), Short: short, Example: "  " + example,
			RunE: func(c *cobra.Command, args []string) error {
				return a.write(func(s *store.Store) error {
					how, err := do(c.Context(), s, message.HalfID(args[0]))
					if err != nil {
						return err
					}
					return a.one(row{{"id", args[0]}, {"is", how}})
				})
			},
		})
	}
	decide("commit", "Commit a half message; a verdict that is there already stays", "embermq tx commit half-1",
		func(ctx context.Context, s *store.Store, id message.HalfID) (message.Decision, error) {
			_, how, err := s.Halves().Commit(ctx, id)
			return how, err
		})
	decide("rollback", "Roll a half message back; a verdict that is there already stays", "embermq tx rollback half-2",
		func(ctx context.Context, s *store.Store, id message.HalfID) (message.Decision, error) {
			return s.Halves().Rollback(ctx, id)
		})
	decide("recover", "Commit a half message that was given up", "embermq tx recover half-3",
		func(ctx context.Context, s *store.Store, id message.HalfID) (message.Decision, error) {
			_, how, err := s.Halves().Recover(ctx, id, message.Committed)
			if err != nil {
				return how, fmt.Errorf("recover %s: %w", id, err)
			}
			return how, nil
		})
	return c
}
