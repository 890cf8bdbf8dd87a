package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/progress"
	"github.com/embermq/embermq/store"
)

func (a *app) group() *cobra.Command {
	c := &cobra.Command{Use: "group", GroupID: "admin", Short: "List, create, change and remove consumer groups, and see what they have left", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.groupList(), a.groupSet("create"), a.groupSet("update"), a.groupRemove(),
		a.groupMembers(), a.groupLag(), a.groupReset(), a.groupClone())
	return c
}

func (a *app) groupList() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Args: cobra.NoArgs,
		Short:   "List groups with their settings and what they have left to do",
		Example: `  embermq group ls`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.settings("groups", func(s *store.Store) error {
				return a.rows(func(yield func(row, error) bool) {
					for _, g := range s.Progress().Groups() {
						if r, err := groupRow(c.Context(), s, g); !yield(r, err) || err != nil {
							return
						}
					}
				})
			})
		},
	}
}

func groupRow(ctx context.Context, s *store.Store, g progress.Group) (row, error) {
	var lag any
	mode := "clustering"
	if g.Broadcast {
		mode = "broadcasting"
	} else {
		l, err := s.Lag(ctx, g.Name)
		if err != nil {
			return nil, err
		}
		lag = l.Records
	}
	seen, _ := s.Progress().LastSeen(g.Name)
	return row{{"group", g.Name}, {"mode", mode}, {"enabled", !g.Disabled}, {"lag", lag}, {"dead letters", s.DeadLetters().Count(g.Name)},
		{"retries", retriesOf(g)}, {"retry queues", g.RetryQueues}, {"seen", seen}}, nil
}

// retriesOf is how often a group delivers a failed message again.
func retriesOf(g progress.Group) int { return max(g.RetryMax, 0) }

// groupSet is create and update, whose flags are the same.
func (a *app) groupSet(verb string) *cobra.Command {
	want := progress.Group{}
	retries := 16
	c := &cobra.Command{
		Use: verb + " GROUP", Args: cobra.ExactArgs(1),
		Short: map[string]string{"create": "Create a group", "update": "Change a group; what no flag names stays"}[verb],
		Example: map[string]string{
			"create": `  embermq group create audit --retries 3`,
			"update": `  embermq group update billing --disabled`,
		}[verb],
		RunE: func(c *cobra.Command, args []string) error {
			return a.write(func(s *store.Store) error {
				g := progress.Group{Name: args[0]}
				if verb == "update" {
					var ok bool
					if g, ok = s.Progress().Group(args[0]); !ok {
						return unknownGroup(args[0])
					}
				}
				changed := c.Flags().Changed
				if changed("broadcast") {
					g.Broadcast = want.Broadcast
				}
				if changed("disabled") {
					g.Disabled = want.Disabled
				}
				if changed("retry-queues") {
					g.RetryQueues = want.RetryQueues
				}
				if changed("retries") {
					if g.RetryMax = retries; retries == 0 {
						g.RetryMax = -1 // zero is the default there
					}
				}
				if verb == "update" {
					return s.Progress().UpdateGroup(c.Context(), g)
				}
				return s.Progress().CreateGroup(c.Context(), g)
			})
		},
	}
	c.Flags().IntVar(&retries, "retries", retries, "how often a failed message is delivered again before it is a dead letter")
	c.Flags().IntVar(&want.RetryQueues, "retry-queues", 1, "queues of the group's retry topic")
	c.Flags().BoolVar(&want.Broadcast, "broadcast", false, "every member receives every message")
	c.Flags().BoolVar(&want.Disabled, "disabled", false, "members receive nothing; --disabled=false enables it again")
	return c
}

func unknownGroup(name string) error {
	return fmt.Errorf("group %q: %w", name, store.ErrNotFound)
}

func (a *app) groupRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm GROUP", Aliases: []string{"delete"}, Args: cobra.ExactArgs(1),
		Short:   "Remove a group with its offsets; its dead letters stay",
		Example: `  embermq group rm billing`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.write(func(s *store.Store) error { return s.Progress().DeleteGroup(c.Context(), args[0]) })
		},
	}
}

func (a *app) groupMembers() *cobra.Command {
	return &cobra.Command{
		Use: "members GROUP", Args: cobra.ExactArgs(1),
		Short: "Say who consumes in a group; members end with their process",
		Long: `Say who consumes in a group. Members live in the process that has the store open, which
lists them by Store.Groups().Members. When no process has it open there are none, and
this command says when the group was seen last.`,
		Example: `  embermq group members billing`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.settings("members", func(s *store.Store) error {
				if _, ok := s.Progress().Group(args[0]); !ok {
					return unknownGroup(args[0])
				}
				seen, _ := s.Progress().LastSeen(args[0])
				return a.one(row{{"group", args[0]}, {"members", len(s.Groups().Members(args[0]))}, {"seen", seen}})
			})
		},
	}
}

func (a *app) groupLag() *cobra.Command {
	return &cobra.Command{
		Use: "lag GROUP [TOPIC...]", Args: cobra.MinimumNArgs(1),
		Short: "Count what a group has not settled, queue by queue",
		Example: `  embermq group lag billing
  embermq group lag billing orders --json`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.settings("offsets", func(s *store.Store) error {
				lag, err := s.Lag(c.Context(), args[0], args[1:]...)
				if err != nil {
					return err
				}
				return a.rows(func(yield func(row, error) bool) {
					for _, q := range lag.Queues {
						var committed any
						if q.Known {
							committed = q.Committed
						}
						if !yield(row{{"queue", q.Queue}, {"start", q.Start}, {"committed", committed}, {"end", q.End},
							{"lag", q.Records}, {"oldest", q.Age.Round(time.Millisecond)}}, nil) {
							return
						}
					}
				})
			})
		},
	}
}

func (a *app) groupReset() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use: "reset GROUP TOPIC", Args: cobra.ExactArgs(2),
		Short: "Move a group to another place in a topic",
		Example: `  embermq group reset billing orders --to first
  embermq group reset billing orders --to 2020-01-01T00:00:00Z`,
		RunE: func(c *cobra.Command, args []string) error {
			start, err := parseStart(to)
			if err != nil {
				return err
			}
			return a.write(func(s *store.Store) error { return s.ResetOffsets(c.Context(), args[0], args[1], start) })
		},
	}
	c.Flags().StringVar(&to, "to", "", "first, last, an offset, or the time (RFC 3339) from which on messages are received")
	_ = c.MarkFlagRequired("to")
	return c
}

func parseStart(s string) (message.Start, error) {
	switch s {
	case "first":
		return message.First(), nil
	case "last":
		return message.Last(), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return message.At(n), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return message.Start{}, badUsage("%q is none of first, last, an offset, a time such as 2026-01-02T15:04:05Z", s)
	}
	return message.AtTime(t), nil
}

func (a *app) groupClone() *cobra.Command {
	return &cobra.Command{
		Use: "clone FROM TO TOPIC", Args: cobra.ExactArgs(3),
		Short:   "Give a group the place of another one in a topic",
		Example: `  embermq group clone billing audit orders`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.write(func(s *store.Store) error { return s.CloneOffsets(c.Context(), args[0], args[1], args[2]) })
		},
	}
}

func (a *app) retry() *cobra.Command {
	c := &cobra.Command{Use: "retry", GroupID: "admin", Short: "List messages that groups will receive again", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(&cobra.Command{
		Use: "ls GROUP", Args: cobra.ExactArgs(1),
		Short:   "List a group's retries: those that wait for their time, then those that are due",
		Example: `  embermq retry ls billing`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.settings("retries", func(s *store.Store) error {
				if _, ok := s.Progress().Group(args[0]); !ok {
					return unknownGroup(args[0])
				}
				return a.rows(func(yield func(row, error) bool) {
					if err := a.retries(c.Context(), s, args[0], yield); err != nil && !errors.Is(err, errEnough) {
						yield(nil, err)
					}
				})
			})
		},
	})
	return c
}

// errEnough ends a listing whose reader wants no more.
var errEnough = errors.New("enough")

func (a *app) retries(ctx context.Context, s *store.Store, group string, yield func(row, error) bool) error {
	topic := message.PrefixRetry + group
	for t, err := range s.Timers().Pending(topic, time.Time{}, time.Time{}) {
		if err != nil {
			return err
		}
		r, err := s.Get(ctx, t.Position)
		if err != nil {
			return err
		}
		if !yield(a.retryRow(&r, t.Due), nil) {
			return errEnough
		}
	}
	lag, err := s.Lag(ctx, group, topic)
	if errors.Is(err, store.ErrNotFound) {
		return nil // it never had one
	}
	if err != nil {
		return err
	}
	for _, q := range lag.Queues {
		if err := a.dueRetries(ctx, s, group, q, yield); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) dueRetries(ctx context.Context, s *store.Store, group string, q store.QueueLag, yield func(row, error) bool) error {
	place := s.Progress().Place(group, q.Queue)
	for at := max(q.Start, place.Committed); at < q.End; {
		b, err := s.Read(ctx, q.Queue, at, message.Limit{}, nil)
		if err != nil {
			return err
		}
		for i := range b.Records {
			if r := &b.Records[i]; !settled(place, r.Offset()) && !yield(a.retryRow(r, time.Time{}), nil) {
				return errEnough
			}
		}
		at = b.Next
	}
	return nil
}

func settled(p message.Standing, offset int64) bool {
	for _, r := range p.Settled {
		if r.From <= offset && offset < r.To {
			return true
		}
	}
	return p.Known && offset < p.Committed
}

// retryRow is a retry; its due time is zero when it can be received already.
func (a *app) retryRow(r *message.Record, due time.Time) row {
	from, _ := r.Property(message.PropRetryTopic)
	if at, ok := r.Property(message.PropOriginQueue); ok {
		from += "/" + strings.Replace(at, ":", " at ", 1)
	}
	return row{{"due", due}, {"from", from}, {"attempts", r.ReconsumeTimes()}, {"id", r.UniqueID()}, {"body", text(r.Body(), 100)}}
}

func (a *app) move() *cobra.Command {
	var count int
	c := &cobra.Command{
		Use: "move GROUP FROM TO", GroupID: "admin", Args: cobra.ExactArgs(3),
		Short: "Forward what a group has not settled in one topic to another one",
		Long: `Forward what a group has not settled in one topic to another one, mostly one with more
queues. It is settled for the group, which goes on in the other topic; other groups keep
theirs. Messages with a sharding key keep their order.`,
		Example: `  embermq move billing orders scratch`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.write(func(s *store.Store) error {
				n, err := s.Move(c.Context(), args[0], args[1], args[2], count)
				if err != nil && n == 0 {
					return err
				}
				return errors.Join(a.one(row{{"moved", n}}), err)
			})
		},
	}
	c.Flags().IntVarP(&count, "count", "n", 0, "messages at most; 0 is all")
	return c
}
