package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func (a *app) topic() *cobra.Command {
	c := &cobra.Command{Use: "topic", GroupID: "admin", Short: "List, create, change and delete topics", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.topicList(), a.topicSet("create"), a.topicSet("update"), a.topicDelete())
	return c
}

func (a *app) topicList() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Args: cobra.NoArgs,
		Short:   "List topics with what they hold",
		Example: `  embermq topic ls`,
		RunE: func(c *cobra.Command, _ []string) error {
			list := func(s *store.Store) error {
				return a.rows(func(yield func(row, error) bool) {
					for _, t := range s.Topics() {
						if r, err := topicRow(s, t); !yield(r, err) || err != nil {
							return
						}
					}
				})
			}
			err := a.write(list)
			if errors.Is(err, store.ErrLocked) || errors.Is(err, store.ErrCorrupt) {
				return a.read(list)
			}
			return err
		},
	}
}

func topicRow(s *store.Store, t store.Topic) (row, error) {
	var messages int64
	for i := range max(t.ReadQueues, t.WriteQueues) {
		start, end, err := s.Bounds(message.Queue{Topic: t.Name, ID: int32(i)})
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		messages += end - start
	}
	return row{{"topic", t.Name}, {"messages", messages}, {"write queues", t.WriteQueues}, {"read queues", t.ReadQueues},
		{"permission", permission(t.Permission)}, {"kind", t.Kind}, {"indexed", !t.Unindexed}}, nil
}

func permission(p store.Permission) string {
	switch p {
	case store.PermRead:
		return "read"
	case store.PermWrite:
		return "write"
	case 0:
		return "-"
	}
	return "read write"
}

// topicSet is create and update, whose flags are the same.
func (a *app) topicSet(verb string) *cobra.Command {
	t := store.Topic{}
	var queues int
	var perm, kind string
	c := &cobra.Command{
		Use: verb + " TOPIC", Args: cobra.ExactArgs(1),
		Short: map[string]string{"create": "Create a topic", "update": "Change a topic; what no flag names stays"}[verb],
		Example: map[string]string{
			"create": `  embermq topic create invoices --queues 8 --kind ordered`,
			"update": `  embermq topic update orders --write-queues 2`,
		}[verb],
		RunE: func(c *cobra.Command, args []string) (err error) {
			t.Name = args[0]
			if queues > 0 {
				t.ReadQueues, t.WriteQueues = queues, queues
			}
			if t.Permission, err = parsePermission(perm); err != nil {
				return err
			}
			return a.write(func(s *store.Store) error {
				if verb == "update" {
					return a.updateTopic(c, s, t, kind)
				}
				if t.Kind, err = parseKind(kind); err != nil {
					return err
				}
				return s.CreateTopic(c.Context(), t)
			})
		},
	}
	c.Flags().IntVar(&queues, "queues", 0, "queues to write to and to read from")
	c.Flags().IntVar(&t.WriteQueues, "write-queues", 0, "queues that producers use")
	c.Flags().IntVar(&t.ReadQueues, "read-queues", 0, "queues that consumers use")
	c.Flags().StringVar(&perm, "permission", "", "read, write or both")
	c.Flags().StringVar(&kind, "kind", "any", "any, normal, ordered, delayed or transactional")
	c.Flags().BoolVar(&t.Unindexed, "no-index", false, "messages cannot be found by key")
	c.MarkFlagsMutuallyExclusive("queues", "write-queues")
	c.MarkFlagsMutuallyExclusive("queues", "read-queues")
	return c
}

func (a *app) updateTopic(c *cobra.Command, s *store.Store, t store.Topic, kind string) (err error) {
	for _, old := range s.Topics() {
		if old.Name != t.Name {
			continue
		}
		if t.Kind = old.Kind; c.Flags().Changed("kind") {
			if t.Kind, err = parseKind(kind); err != nil {
				return err
			}
		}
		if !c.Flags().Changed("no-index") {
			t.Unindexed = old.Unindexed
		}
	}
	return s.UpdateTopic(c.Context(), t)
}

func parseKind(s string) (store.Kind, error) {
	var names []string
	for k := store.KindAny; k <= store.KindTransactional; k++ {
		if k.String() == s {
			return k, nil
		}
		names = append(names, k.String())
	}
	return 0, badUsage("kind %q is none of %s", s, strings.Join(names, ", "))
}

func parsePermission(s string) (store.Permission, error) {
	switch s {
	case "":
		return 0, nil
	case "read":
		return store.PermRead, nil
	case "write":
		return store.PermWrite, nil
	case "both":
		return store.PermRead | store.PermWrite, nil
	}
	return 0, badUsage("permission %q is none of read, write, both", s)
}

func (a *app) topicDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete TOPIC", Aliases: []string{"rm"}, Args: cobra.ExactArgs(1),
		Short:   "Delete a topic with its messages",
		Example: `  embermq topic delete scratch`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.write(func(s *store.Store) error { return deleteTopic(c.Context(), s, args[0]) })
		},
	}
}

func deleteTopic(ctx context.Context, s *store.Store, name string) error {
	if err := s.DeleteTopic(ctx, name); err != nil {
		return fmt.Errorf("delete topic %q: %w", name, err)
	}
	return nil
}
