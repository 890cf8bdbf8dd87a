package producer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/embermq/embermq/message"
)

// questions are the requests of this process that wait, by correlation id. Ids
// are unique, so producers of different engines do not meet; an entry exists only
// while its Request runs.
var questions sync.Map // string → chan *message.Record

// Request sends a message and waits for somebody in this process to answer it
// with Reply. There are three outcomes: the reply; an error that matches ErrNoReply,
// when the message is stored and nobody has answered before ctx or, if ctx has no
// deadline, the time of WithReplyTimeout ended; any other error, when it was not sent, as
// of Send. The message is delivered like any other, and may be answered after
// nobody waits any more. Close ends a waiting Request with ErrClosed.
//
// The reply is not stored anywhere: its queue is nobody's and its offset and
// position are -1.
func (p *Producer) Request(ctx context.Context, m *message.Message) (*message.Record, error) {
	if m == nil {
		return nil, &message.InvalidError{Field: "Message", Reason: "is nil"}
	}
	wait := p.o.reply
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = withTimeout(ctx, p.o.clock, wait)
		defer cancel()
	} else if at, _ := ctx.Deadline(); true {
		wait = max(at.Sub(p.o.clock.Now()), time.Millisecond)
	}
	id := p.ids.Next()
	asked := *m
	asked.ReplyTo = &message.ReplyTo{Correlation: id, Client: "embermq", TTL: wait}
	if asked.UniqueID == "" {
		asked.UniqueID = id
	}
	answer := make(chan *message.Record, 1)
	questions.Store(id, answer)
	defer questions.Delete(id)
	if _, err := p.Send(ctx, &asked); err != nil {
		return nil, err
	}
	select {
	case r := <-answer:
		return r, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("producer: request %s: %w: %w", id, ErrNoReply, ctx.Err())
	case <-p.closing:
		return nil, fmt.Errorf("producer: request %s: %w: %w", id, ErrNoReply, message.ErrClosed)
	}
}

// Reply answers a request that was read from a queue. What Request returns is a
// record of its own with answer's body, tag, keys and properties and the request's
// correlation id. The first answer counts.
//
// The error is ErrNotFound if nobody waits for it (any more), and *InvalidError
// if request is none or answer cannot be encoded.
func Reply(request *message.Record, answer *message.Message) error {
	id, ok := request.Property(message.PropCorrelation)
	if !ok {
		return &message.InvalidError{Field: "Request", Reason: "has no correlation id"}
	}
	if answer == nil {
		return &message.InvalidError{Field: "Message", Reason: "is nil"}
	}
	q := message.Queue{Topic: answer.Topic}
	if q.Topic == "" {
		q.Topic = request.Topic()
	}
	var d message.Draft
	err := d.Encode(answer, q, &message.Envelope{Reserved: []message.Property{{Name: message.PropCorrelation, Value: id}}})
	if err != nil {
		return err
	}
	d.Stamp(-1, -1, request.StoredAtMillis())
	r, err := message.ParseRecord(d.Bytes())
	if err != nil {
		return err
	}
	if w, ok := questions.LoadAndDelete(id); ok {
		w.(chan *message.Record) <- &r // there is room for one, and only one comes
		return nil
	}
	return fmt.Errorf("producer: reply: nobody waits: %w", message.ErrNotFound)
}
