package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/producer"
	"github.com/embermq/embermq/store"
)

const (
	maxBody          = 1 << 20
	maxPoll          = 256
	minWait, maxWait = 10 * time.Millisecond, 30 * time.Second
)

// broker serves a store over HTTP. Messages are leased: a client that dies with
// them loses them after the invisible time, and somebody else gets them.
type broker struct {
	s *store.Store
	p *producer.Producer
	// invisible is how long a client has for what it has received.
	invisible time.Duration

	mu      sync.Mutex
	leasers map[[2]string]*consumer.Leaser // by topic and group, one for all clients
}

func newBroker(s *store.Store, invisible time.Duration) *broker {
	return &broker{s: s, p: producer.New(s, producer.WithMaxBody(maxBody)), invisible: invisible, leasers: make(map[[2]string]*consumer.Leaser)}
}

// handler routes requests. Their contexts end what they wait for.
func (b *broker) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(r *http.Request) (any, error){
		"POST /topics/{topic}/messages":               b.send,
		"POST /topics/{topic}/groups/{group}/receive": b.receive,
		"POST /topics/{topic}/groups/{group}/ack":     b.ack,
		"GET /topics/{topic}/groups/{group}/lag":      b.lag,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { b.serve(w, r, f) })
	}
	return mux
}

// serve answers with what f returns: JSON, or 204 for nothing.
func (b *broker) serve(w http.ResponseWriter, r *http.Request, f func(*http.Request) (any, error)) {
	v, err := f(r)
	switch {
	case err != nil:
		http.Error(w, err.Error(), status(err))
	case v == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the client has gone
	}
}

// codes tell a client whether to try again.
var codes = map[int][]error{
	http.StatusBadRequest:            {message.ErrInvalidMessage, message.ErrInvalidName, message.ErrKind},
	http.StatusForbidden:             {message.ErrPermission},
	http.StatusNotFound:              {message.ErrNotFound},
	http.StatusConflict:              {message.ErrFenced, message.ErrSubscriptionConflict},
	http.StatusRequestEntityTooLarge: {message.ErrTooLarge},
	http.StatusServiceUnavailable:    {message.ErrBusy, message.ErrClosed, message.ErrDiskFull, context.Canceled},
}

func status(err error) int {
	for code, errs := range codes {
		if slices.ContainsFunc(errs, func(e error) bool { return errors.Is(err, e) }) {
			return code
		}
	}
	return http.StatusInternalServerError
}

// send stores the request's body as one message. It is on disk when the client has
// the answer; ?key= keeps messages of one key in one queue, ?tag= is the tag.
func (b *broker) send(r *http.Request) (any, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	m := &message.Message{Topic: r.PathValue("topic"), ShardingKey: q.Get("key"), Tag: q.Get("tag"), Body: body}
	rc, err := b.p.Send(r.Context(), m)
	return map[string]int64{"queue": int64(rc.Queue.ID), "offset": rc.Offset}, err
}

type received struct {
	Body    []byte    `json:"body"`
	Tag     string    `json:"tag,omitempty"`
	Attempt int       `json:"attempt"`
	Until   time.Time `json:"until"`
	Receipt string    `json:"receipt"`
}

// receive leases up to ?max= messages. It waits for the first one for ?wait=, such
// as 20s, and answers with 204 if none came.
func (b *broker) receive(r *http.Request) (any, error) {
	q := r.URL.Query()
	n, err1 := strconv.Atoi(q.Get("max"))
	wait, err2 := time.ParseDuration(q.Get("wait"))
	if err1 != nil || err2 != nil || n < 1 || n > maxPoll || wait < minWait || wait > maxWait {
		reason := fmt.Sprintf("not in 1..%d and %v..%v", maxPoll, minWait, maxWait)
		return nil, &message.InvalidError{Field: "max or wait", Reason: reason}
	}
	l, err := b.leaser(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	leases, err := l.Receive(ctx, n)
	if errors.Is(err, context.DeadlineExceeded) && r.Context().Err() == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out, receipts := make([]received, len(leases)), make([]string, len(leases))
	for i, m := range leases {
		out[i], receipts[i] = received{m.Body(), m.Tag(), m.Attempt(), m.Until, m.Receipt}, m.Receipt
	}
	if err := r.Context().Err(); err != nil { // nobody waits for them any more
		return nil, errors.Join(err, l.Nack(context.WithoutCancel(ctx), 0, receipts...))
	}
	return out, nil
}

// ack settles the receipts of the request, a JSON list of strings. 409 says that
// one of them is over; the others count.
func (b *broker) ack(r *http.Request) (any, error) {
	var receipts []string
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&receipts); err != nil {
		return nil, &message.InvalidError{Field: "receipts", Reason: err.Error()}
	}
	l, err := b.leaser(r)
	if err != nil {
		return nil, err
	}
	return nil, l.Ack(r.Context(), receipts...)
}

// lag tells how many messages a group has not acknowledged, and the oldest's age.
func (b *broker) lag(r *http.Request) (any, error) {
	g, err := b.s.Lag(r.Context(), r.PathValue("group"), r.PathValue("topic"))
	return map[string]any{"records": g.Records, "age": g.Age.String()}, err
}

// leaser returns the one of a topic and group.
func (b *broker) leaser(r *http.Request) (l *consumer.Leaser, err error) {
	topic, group := r.PathValue("topic"), r.PathValue("group")
	b.mu.Lock()
	defer b.mu.Unlock()
	if l = b.leasers[[2]string{topic, group}]; l == nil {
		l = consumer.NewLeaser(b.s, group, consumer.WithInvisible(b.invisible))
		if err = l.Subscribe(topic, nil); err == nil {
			b.leasers[[2]string{topic, group}] = l
		}
	}
	return l, err
}

// close comes after the last request, and leaves the store to its owner.
func (b *broker) close(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	errs := []error{b.p.Close(ctx)}
	for _, l := range b.leasers {
		errs = append(errs, l.Close(ctx))
	}
	return errors.Join(errs...)
}
