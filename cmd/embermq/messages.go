package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

// readBatch is how many messages are read at a time.
const readBatch = 1000

// filters are the two flags that choose messages.
type filters struct{ tags, sql string }

func (f *filters) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.tags, "tags", "", `only these tags, such as "paid || shipped"`)
	c.Flags().StringVar(&f.sql, "sql", "", `only what this SQL92 expression on properties chooses, such as "price > 10"`)
	c.MarkFlagsMutuallyExclusive("tags", "sql")
}

func (f *filters) filter() (out message.Filter, err error) {
	if f.sql != "" {
		out, err = message.SQL92(f.sql)
	} else {
		out, err = message.Tags(f.tags)
	}
	if err != nil {
		return nil, &usageError{err}
	}
	return out, nil
}

// queuesOf are a topic's queues, or the one that was asked for.
func queuesOf(s *store.Store, topic string, only int) ([]message.Queue, error) {
	n, err := s.QueueCount(topic)
	if err != nil {
		return nil, fmt.Errorf("topic %q: %w", topic, err)
	}
	if only >= 0 {
		return []message.Queue{{Topic: topic, ID: int32(only)}}, nil
	}
	var qs []message.Queue
	for i := range n {
		qs = append(qs, message.Queue{Topic: topic, ID: int32(i)})
	}
	return qs, nil
}

func (a *app) peek() *cobra.Command {
	var f filters
	var queue, count int
	var from int64
	c := &cobra.Command{
		Use: "peek TOPIC", GroupID: "data", Args: cobra.ExactArgs(1),
		Short: "Print messages of a topic without consuming them",
		Example: `  embermq peek orders
  embermq peek orders --queue 1 --from 2 --count 5 --tags "paid || shipped" --json`,
		RunE: func(c *cobra.Command, args []string) error {
			filter, err := f.filter()
			if err != nil {
				return err
			}
			return a.read(func(s *store.Store) error {
				qs, err := queuesOf(s, args[0], queue)
				if err != nil {
					return err
				}
				return a.rows(a.peeked(c.Context(), s, qs, from, count, filter))
			})
		},
	}
	f.flags(c)
	c.Flags().IntVar(&queue, "queue", -1, "only this queue")
	c.Flags().Int64Var(&from, "from", -1, "first offset in each queue; a negative number counts back from the end")
	c.Flags().IntVarP(&count, "count", "n", 10, "messages of each queue, at most")
	return c
}

// peeked yields messages queue by queue. A negative from is resolved to the last
// count of each queue.
func (a *app) peeked(ctx context.Context, s *store.Store, qs []message.Queue, from int64, count int, f message.Filter) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		for _, q := range qs {
			start, end, err := s.Bounds(q)
			if err != nil {
				yield(nil, err)
				return
			}
			at := max(start, from)
			if from < 0 {
				at = max(start, end-int64(count))
			}
			if _, ok := a.between(ctx, s, q, at, end, count, f, yield); !ok {
				return
			}
		}
	}
}

// between yields messages of a queue in [at, end), at most that many; it returns
// where it stopped, and whether more are wanted.
func (a *app) between(ctx context.Context, s *store.Store, q message.Queue, at, end int64, most int, f message.Filter, yield func(row, error) bool) (next int64, ok bool) {
	for left := most; at < end && left > 0; {
		b, err := s.Read(ctx, q, at, message.Limit{Count: min(left, readBatch)}, f)
		if err != nil {
			yield(nil, err)
			return at, false
		}
		for i := range b.Records {
			if !yield(a.recordRow(q, &b.Records[i]), nil) {
				return at, false
			}
		}
		left -= len(b.Records)
		at = b.Next
	}
	return at, true
}

func (a *app) tail() *cobra.Command {
	var f filters
	var follow bool
	var count int
	c := &cobra.Command{
		Use: "tail TOPIC", GroupID: "data", Args: cobra.ExactArgs(1),
		Short: "Print the last messages of a topic, and with -f what comes next",
		Long: `Print the last messages of a topic. With -f new ones follow until the command is
interrupted, also those that another process puts, once they are on disk.`,
		Example: `  embermq tail orders -n 3`,
		RunE: func(c *cobra.Command, args []string) error {
			filter, err := f.filter()
			if err != nil {
				return err
			}
			return a.tailing(c.Context(), args[0], count, follow, filter)
		},
	}
	f.flags(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new messages until interrupted")
	c.Flags().IntVarP(&count, "count", "n", 10, "messages of each queue to begin with")
	return c
}

// tailing looks at the directory again and again while it follows: the process
// that writes tells nobody else. What is read stops at what is on disk.
func (a *app) tailing(ctx context.Context, topic string, count int, follow bool, f message.Filter) error {
	next := map[message.Queue]int64{}
	for {
		err := a.read(func(s *store.Store) error {
			qs, err := queuesOf(s, topic, -1)
			if err != nil {
				return err
			}
			return a.rows(a.since(ctx, s, qs, next, count, f))
		})
		if err != nil || !follow {
			return err
		}
		a.headless = true
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// since yields what lies behind next and moves it.
func (a *app) since(ctx context.Context, s *store.Store, qs []message.Queue, next map[message.Queue]int64, count int, f message.Filter) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		for _, q := range qs {
			start, end, err := s.Bounds(q)
			if err != nil {
				yield(nil, err)
				return
			}
			at, seen := next[q]
			if !seen {
				at = end - int64(count)
			}
			at, ok := a.between(ctx, s, q, max(at, start), end, math.MaxInt, f, yield)
			if !ok {
				return
			}
			next[q] = at
		}
	}
}

func (a *app) put() *cobra.Command {
	var m message.Message
	var asJSON, create bool
	c := &cobra.Command{
		Use: "put TOPIC", GroupID: "data", Args: cobra.ExactArgs(1),
		Short: "Send each line of the standard input as a message",
		Long: `Send each line of the standard input as a message, or with --json-lines each line
as an object with body, tag, keys, shardingKey, properties and delay ("10s"). A message
is on disk when its line of output appears.`,
		Example: `  echo "order 42 was paid" | embermq put orders --tag paid --key 42
  echo '{"body":"pay me","tag":"reminder","delay":"1h"}' | embermq put orders --json-lines`,
		RunE: func(c *cobra.Command, args []string) error {
			if !create {
				if err := a.present(); err != nil {
					return err
				}
			}
			s, err := store.Open(a.dir)
			if err != nil {
				return err
			}
			m.Topic = args[0]
			p := producer.New(s)
			err = a.rows(a.sent(c.Context(), p, &m, asJSON))
			return errors.Join(err, p.Close(context.WithoutCancel(c.Context())), s.Close())
		},
	}
	c.Flags().StringVar(&m.Tag, "tag", "", "tag of every message")
	c.Flags().StringSliceVar(&m.Keys, "key", nil, "keys of every message")
	c.Flags().StringVar(&m.ShardingKey, "sharding-key", "", "messages with the same one keep their order")
	c.Flags().DurationVar(&m.Delay, "delay", 0, "deliver so much later")
	c.Flags().BoolVar(&asJSON, "json-lines", false, "lines are JSON objects")
	c.Flags().BoolVar(&create, "create", false, "make the store when it is not there")
	return c
}

// line is a message as put reads it.
type line struct {
	Body        string            `json:"body"`
	Tag         string            `json:"tag"`
	Keys        []string          `json:"keys"`
	ShardingKey string            `json:"shardingKey"`
	Properties  map[string]string `json:"properties"`
	Delay       string            `json:"delay"`
}

func (a *app) sent(ctx context.Context, p *producer.Producer, like *message.Message, asJSON bool) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		in := bufio.NewReader(a.in)
		for n := 1; ; n++ {
			b, err := in.ReadBytes('\n')
			if err != nil && (!errors.Is(err, io.EOF) || len(b) == 0) {
				if !errors.Is(err, io.EOF) {
					yield(nil, err)
				}
				return
			}
			m, err := parseLine(trimNewline(b), like, asJSON)
			if err == nil {
				var r message.Receipt
				if r, err = p.Send(ctx, m); err == nil {
					if !yield(row{{"queue", r.Queue}, {"offset", r.Offset}, {"position", r.Position}, {"timer", string(r.Timer)}}, nil) {
						return
					}
					continue
				}
			}
			yield(nil, fmt.Errorf("line %d: %w", n, err))
			return
		}
	}
}

func trimNewline(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b
}

func parseLine(b []byte, like *message.Message, asJSON bool) (*message.Message, error) {
	m := *like
	if !asJSON {
		m.Body = b
		return &m, nil
	}
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, err
	}
	m.Body, m.Properties = []byte(l.Body), l.Properties
	if l.Tag != "" {
		m.Tag = l.Tag
	}
	if l.ShardingKey != "" {
		m.ShardingKey = l.ShardingKey
	}
	m.Keys = append(m.Keys[:len(m.Keys):len(m.Keys)], l.Keys...)
	if l.Delay != "" {
		d, err := time.ParseDuration(l.Delay)
		if err != nil {
			return nil, err
		}
		m.Delay = d
	}
	return &m, nil
}

func (a *app) query() *cobra.Command {
	var key, id, from, to string
	var limit int
	c := &cobra.Command{
		Use: "query TOPIC", GroupID: "data", Args: cobra.ExactArgs(1),
		Short: "Find messages of a topic by key, unique id or time",
		Example: `  embermq query orders --key 42
  embermq query orders --from 2020-01-01T00:00:00Z --limit 3 --json`,
		RunE: func(c *cobra.Command, args []string) error {
			begin, err := parseTime(from)
			if err != nil {
				return err
			}
			end, err := parseTime(to)
			if err != nil {
				return err
			}
			q := index.Query{Topic: args[0], Key: key, By: index.ByKey, Begin: begin, End: end, Limit: limit}
			if id != "" {
				q.Key, q.By = id, index.ByUniqueID
			}
			return a.read(func(s *store.Store) error {
				return a.rows(func(yield func(row, error) bool) { a.found(c.Context(), s, q, yield) })
			})
		},
	}
	c.Flags().StringVar(&key, "key", "", "a key of the message")
	c.Flags().StringVar(&id, "id", "", "the message's unique id")
	c.Flags().StringVar(&from, "from", "", "stored at this time or later (RFC 3339)")
	c.Flags().StringVar(&to, "to", "", "stored at this time or earlier")
	c.Flags().IntVar(&limit, "limit", 32, "messages at most")
	c.MarkFlagsMutuallyExclusive("key", "id")
	c.MarkFlagsOneRequired("key", "id", "from", "to")
	return c
}

func (a *app) found(ctx context.Context, s *store.Store, q index.Query, yield func(row, error) bool) {
	if q.Key != "" {
		for h, err := range s.FindAll(ctx, q) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(a.recordRow(h.Queue, h.Record, field{"state", h.State}), nil) {
				return
			}
		}
		return
	}
	if q.End.IsZero() {
		q.End = time.Now()
	}
	n := 0
	for r, err := range s.Between(ctx, q.Topic, q.Begin, q.End) {
		if err != nil {
			yield(nil, err)
			return
		}
		if n++; n > q.Limit || !yield(a.recordRow(r.Queue(), r), nil) {
			return
		}
	}
}

func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, badUsage("%q is no time such as 2026-01-02T15:04:05Z", s)
	}
	return t, nil
}
