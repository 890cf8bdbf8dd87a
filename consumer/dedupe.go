package consumer

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/embermq/embermq/message"
)

// Known is what a Deduper knows of a message.
type Known uint8

const (
	// Fresh is a message that is to be handled now.
	Fresh Known = iota
	// InFlight is one that somebody else handles at this moment.
	InFlight
	// Handled is one that needs no handling any more.
	Handled
)

// Deduper remembers which messages were handled, so that one that comes twice,
// because it was sent twice or delivered twice, is handled once. Its methods are
// called by several goroutines at once. d is not kept.
type Deduper interface {
	// Begin asks whether a message is to be handled. After Fresh the answer for
	// everything that counts as the same message is InFlight, until Done or Fail.
	Begin(ctx context.Context, group string, d *Delivery) (Known, error)
	// Done says that a message was handled. The consumer settles it afterwards:
	// after a crash between the two it comes again and is Handled.
	Done(ctx context.Context, group string, d *Delivery) error
	// Fail says that a message was not handled and may come again.
	Fail(group string, d *Delivery)
}

// WithDeduper passes messages over that were handled before: they are settled
// without a handler. A message that is in flight elsewhere comes again a second
// later.
//
// A handled message of a Pull is one that counts as done, one of a Leaser one that
// was acknowledged.
func WithDeduper(d Deduper) Option {
	return func(o *options) {
		if d == nil {
			o.reject("WithDeduper", "no deduper")
			return
		}
		o.dedupe = d
	}
}

// inFlightWait is when a message comes again whose twin is being handled.
const inFlightWait = time.Second

// orderedDeduper needs the messages of a queue one after another.
type orderedDeduper interface{ needsOrder() }

// checkDedupe finds what does not go with a deduper.
func (o *options) checkDedupe() {
	if o.dedupe == nil {
		return
	}
	if o.use == usePush && o.push.manual {
		o.reject("WithDeduper", "does not go with WithManualCommit")
	}
	if _, ok := o.dedupe.(orderedDeduper); ok && (o.use == useLease || o.use == usePush && o.push.order != PerQueue) {
		o.reject("WithDeduper", "this deduper needs the order of a queue")
	}
}

// DedupeKey is what names a message among its copies: its idempotency key if it
// has one, else the id that it keeps through retries, else its place.
func DedupeKey(d *Delivery) string {
	if key, ok := d.Property(message.PropIdempotency); ok {
		return key
	}
	if id := d.OriginID(); id != "" {
		return id
	}
	return d.Queue().String() + "@" + strconv.FormatInt(d.Offset(), 10)
}

// once is h behind the deduper.
func (o *options) once(groupName string, h Handler) Handler {
	if o.dedupe == nil {
		return h
	}
	return func(ctx context.Context, ds []*Delivery) error {
		b := deduped{o: o, group: groupName, ordered: ds[0].ordered, failed: make(map[int]error)}
		b.begin(ctx, ds)
		if len(b.fresh) > 0 {
			b.end(ctx, protect(func() error { return h(ctx, b.fresh) }))
		}
		return b.result(len(ds))
	}
}

// deduped is one call of a handler for what is fresh in a batch.
type deduped struct {
	o       *options
	group   string
	ordered bool
	fresh   []*Delivery
	index   []int         // of the fresh ones, in the batch
	failed  map[int]error // by index in the batch
}

// begin asks about a batch. Where order is kept, the first message that cannot be
// handled now ends it.
func (b *deduped) begin(ctx context.Context, ds []*Delivery) {
	for i, d := range ds {
		known, err := b.o.dedupe.Begin(ctx, b.group, d)
		switch {
		case err != nil:
			b.failed[i] = err
		case known == InFlight:
			b.failed[i] = RetryAfter(inFlightWait)
		case known == Fresh:
			b.fresh, b.index = append(b.fresh, d), append(b.index, i)
		}
		if b.ordered && b.failed[i] != nil {
			return
		}
	}
}

// end tells the deduper what the handler has said.
func (b *deduped) end(ctx context.Context, err error) {
	if errors.Is(err, Commit) {
		err = nil
	}
	said := newOutcomes(err, b.ordered)
	for i, d := range b.fresh {
		err := said.of(i)
		if err == nil {
			err = b.o.dedupe.Done(ctx, b.group, d)
		}
		if err != nil {
			b.o.dedupe.Fail(b.group, d)
			b.failed[b.index[i]] = err
		}
	}
}

func (b *deduped) result(n int) error {
	if len(b.failed) == 0 {
		return nil
	}
	if n == 1 {
		return b.failed[0]
	}
	if !b.ordered {
		return Partial(b.failed)
	}
	for i := range n {
		if err := b.failed[i]; err != nil {
			return FirstDone(i, err)
		}
	}
	return nil
}
