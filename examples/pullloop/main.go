// Pullloop reads a topic with a loop of its own: it asks for messages when it wants
// them, from the queues that it names, and keeps its places itself, in a file beside
// what it has computed. It stops half way, as a process does that is replaced, and
// goes on from the file; then a second loop begins at a time instead. The program
// checks that each message was summed up once. The exit code is 1 if not.
//
//	go run ./examples/pullloop
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/examples/internal/example"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

const (
	topic  = "readings"
	queues = 3
	count  = 3000 // in each of two parts
	batch  = 100
)

func main() { example.Main("pullloop", run) }

// state is what the program computes, with the places that it was computed to. Both
// are in one file, so that they cannot disagree.
type state struct {
	Messages int
	Sum      int
	Next     map[int32]int64 // by queue
}

// load reads the state; without a file everything begins at the first message.
func load(file string) (st state, err error) {
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if st.Next == nil {
		st.Next = make(map[int32]int64)
	}
	return st, err
}

// save puts the new state in place of the old one.
func (st *state) save(file string) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// pull sums up messages from where the file says until there are so many.
func pull(ctx context.Context, s *store.Store, file string, until int) (st state, err error) {
	st, err = load(file)
	if err != nil {
		return st, err
	}
	c := consumer.NewPull(s, "sums", consumer.WithManualCommit())
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	var qs []message.Queue
	for id := range int32(queues) {
		qs = append(qs, message.Queue{Topic: topic, ID: id})
	}
	if err := c.Assign(nil, qs...); err != nil {
		return st, err
	}
	for _, q := range qs {
		if err := c.Seek(ctx, q, message.At(st.Next[q.ID])); err != nil {
			return st, err
		}
	}
	for st.Messages < until {
		ds, err := c.Poll(ctx, min(batch, until-st.Messages))
		if err != nil {
			return st, err
		}
		for _, d := range ds {
			n, err := strconv.Atoi(string(d.Body()))
			if err != nil {
				return st, err
			}
			st.Messages++
			st.Sum += n
			st.Next[d.QueueID()] = d.Offset() + 1
		}
		if err := st.save(file); err != nil {
			return st, err
		}
	}
	return st, nil
}

// pullFrom counts the messages of a topic that were stored at a time or later.
func pullFrom(ctx context.Context, s *store.Store, at time.Time) (n int, err error) {
	c := consumer.NewPull(s, "late", consumer.WithManualCommit())
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	left := 0
	var qs []message.Queue
	for id := range int32(queues) {
		q := message.Queue{Topic: topic, ID: id}
		start, err := s.OffsetAt(q, at, message.Lower)
		if err != nil {
			return 0, err
		}
		_, end, err := s.Bounds(q)
		if err != nil {
			return 0, err
		}
		left += int(end - start)
		qs = append(qs, q)
	}
	if err := c.Assign(nil, qs...); err != nil {
		return 0, err
	}
	for _, q := range qs {
		if err := c.Seek(ctx, q, message.AtTime(at)); err != nil {
			return 0, err
		}
	}
	for _, err := range c.All(ctx) {
		if err != nil {
			return n, err
		}
		if n++; n == left {
			break
		}
	}
	return n, nil
}

func run(ctx context.Context, dir string, t *example.Table) (err error) {
	s, err := store.Open(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.CreateTopic(ctx, store.Topic{Name: topic, WriteQueues: queues}); err != nil {
		return err
	}
	sum1, err := send(ctx, s, 0)
	if err != nil {
		return err
	}
	// Store times are whole milliseconds: the second part begins in a later one.
	first := time.Now().Truncate(time.Millisecond)
	if err := example.Until(ctx, func() bool { return time.Since(first) > 2*time.Millisecond }); err != nil {
		return err
	}
	second := time.Now()
	sum2, err := send(ctx, s, count)
	if err != nil {
		return err
	}

	file := filepath.Join(dir, "sums.json")
	half, err := pull(ctx, s, file, count*2/3)
	if err != nil {
		return err
	}
	all, err := pull(ctx, s, file, 2*count)
	if err != nil {
		return err
	}
	late, err := pullFrom(ctx, s, second.Truncate(time.Millisecond))
	if err != nil {
		return err
	}
	t.Claim(half.Messages == count*2/3 && half.Sum < all.Sum, "stopped after %d messages, the sum was %d", half.Messages, half.Sum)
	t.Claim(all.Messages == 2*count && all.Sum == sum1+sum2, "went on to %d messages, the sum is %d as sent", all.Messages, all.Sum)
	ends := int64(0)
	for _, at := range all.Next {
		ends += at
	}
	t.Claim(ends == 2*count, "the places in the file are the ends of %d queues", len(all.Next))
	t.Claim(late == count, "from the time of the second part on there are %d messages", late)
	return nil
}

// send sends a part and returns its sum.
func send(ctx context.Context, s *store.Store, from int) (sum int, err error) {
	p := producer.New(s)
	for n := from; n < from+count; n++ {
		sum += n
		p.SendAsync(ctx, &message.Message{Topic: topic, Body: strconv.AppendInt(nil, int64(n), 10)}, nil)
	}
	err = p.Close(ctx)
	if f := p.Stats().Failed; f > 0 {
		err = errors.Join(err, fmt.Errorf("%d readings could not be sent", f))
	}
	return sum, err
}
