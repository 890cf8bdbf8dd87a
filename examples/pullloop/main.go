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
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/examples/internal/example"
	"github.com/embermq/embermq/message"
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

// begin reads all queues of the topic, each from where start says.
func begin(ctx context.Context, s *store.Store, group string, start func(id int32) message.Start) (*consumer.Pull, error) {
	c := consumer.NewPull(s, group, consumer.WithManualCommit())
	var qs []message.Queue
	for id := range int32(queues) {
		qs = append(qs, message.Queue{Topic: topic, ID: id})
	}
	err := c.Assign(nil, qs...)
	for _, q := range qs {
		err = errors.Join(err, c.Seek(ctx, q, start(q.ID)))
	}
	return c, err
}

// sum adds messages to what is in the file until there are so many.
func sum(ctx context.Context, s *store.Store, file string, until int) (st state, err error) {
	if st, err = load(file); err != nil {
		return st, err
	}
	c, err := begin(ctx, s, "sums", func(id int32) message.Start { return message.At(st.Next[id]) })
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	for err == nil && st.Messages < until {
		var ds []*consumer.Delivery
		ds, err = c.Poll(ctx, min(batch, until-st.Messages))
		for _, d := range ds {
			st.Messages++
			st.Sum += int(binary.BigEndian.Uint32(d.Body()))
			st.Next[d.QueueID()] = d.Offset() + 1
		}
		err = errors.Join(err, st.save(file))
	}
	return st, err
}

// firstSince returns the smallest number among so many messages from a time on.
func firstSince(ctx context.Context, s *store.Store, at time.Time, n int) (smallest int, err error) {
	c, err := begin(ctx, s, "late", func(int32) message.Start { return message.AtTime(at) })
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	if err != nil {
		return 0, err
	}
	smallest = 2 * count
	for d, err := range c.All(ctx) {
		if err != nil {
			return 0, err
		}
		smallest = min(smallest, int(binary.BigEndian.Uint32(d.Body())))
		if n--; n == 0 {
			break
		}
	}
	return smallest, nil
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
	if err := send(ctx, s, 0); err != nil {
		return err
	}
	// Store times are whole milliseconds: the second part begins in a later one.
	second := time.Now().Truncate(time.Millisecond).Add(2 * time.Millisecond)
	if err := example.Until(ctx, func() bool { return time.Now().After(second) }); err != nil {
		return err
	}
	if err := send(ctx, s, count); err != nil {
		return err
	}

	file := filepath.Join(dir, "sums.json")
	half, err := sum(ctx, s, file, count*2/3)
	if err != nil {
		return err
	}
	all, err := sum(ctx, s, file, 2*count)
	if err != nil {
		return err
	}
	smallest, err := firstSince(ctx, s, second, count)
	if err != nil {
		return err
	}
	t.Claim(half.Messages == count*2/3 && half.Sum < all.Sum, "stopped after %d messages, the sum was %d", half.Messages, half.Sum)
	t.Claim(all.Messages == 2*count && all.Sum == count*(2*count-1), "went on to %d messages, the sum is %d as sent", all.Messages, all.Sum)
	t.Claim(smallest == count, "from the time of the second part on the first number is %d", smallest)
	return nil
}

// send stores a part: the numbers from one on, each in a message.
func send(ctx context.Context, s *store.Store, from int) error {
	ms := make([]*message.Message, count)
	for i := range ms {
		ms[i] = &message.Message{Topic: topic, QueueID: int32(i % queues), Body: binary.BigEndian.AppendUint32(nil, uint32(from+i))}
	}
	_, err := s.PutBatch(ctx, ms)
	return err
}
