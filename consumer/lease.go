package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

// Leaser receives messages one by one, whichever queue they lie in: any worker takes
// any message, and what it takes is invisible to all others for a time. Within it
// the worker acknowledges the message, gives it back, extends the time or makes it
// a dead letter; otherwise the message comes again, to anybody. There is no order
// and no limit by the number of queues. Leases outlive the process.
//
// A message that has been delivered as often as the group allows, or
// WithMaxAttempts, becomes a dead letter instead of being delivered again.
//
// All members of a group lease. All methods may be called by any number of
// goroutines; those that receive take turns.
type Leaser struct {
	*feed
	guest *group.Membership // settles while nothing is received; guarded by mu

	heldMu sync.Mutex
	held   map[receipt]time.Time // to be handed back, with its end; nil if nobody wants that
	pruned int                   // the number held, 1,024 at least, after what had ended was dropped
}

// NewLeaser returns a consumer that joins its group with the first Receive. If an
// option is not valid, every call fails with the reason.
func NewLeaser(e Engine, groupName string, opts ...Option) *Leaser {
	o := newOptions(useLease, opts)
	o.start.settle(false, o.clock.Now())
	l := &Leaser{feed: newFeed(e, groupName, o, group.Shared)}
	l.feed.revoked = func(ss []*source) { l.release(ss...) }
	if o.lease.handBack {
		l.held, l.pruned = make(map[receipt]time.Time), 1024
	}
	return l
}

// Subscribe asks for a topic's messages that f chooses (nil: all of them). What f
// does not choose is settled for the group. All members of a group subscribe to the
// same; otherwise the error is ErrSubscriptionConflict.
func (l *Leaser) Subscribe(topic string, f message.Filter) error { return l.subscribe(topic, f) }

// Unsubscribe ends a subscription. Receipts stay valid.
func (l *Leaser) Unsubscribe(topic string) error { return l.unsubscribe(topic) }

// Receive leases messages as soon as there are any, at most limit of them
// (DefaultPoll if not positive); it waits until there is one. If ctx ends first, its
// error is returned and nothing is leased. An expired message becomes a dead letter
// instead.
func (l *Leaser) Receive(ctx context.Context, limit int) ([]Lease, error) {
	if limit <= 0 {
		limit = DefaultPoll
	}
	if err := l.join(); err != nil {
		return nil, err
	}
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	defer l.exit()
	for {
		if err := l.look(); err != nil {
			return nil, err
		}
		ls, err := l.leaseRound(ctx, limit)
		if len(ls) > 0 || err != nil {
			return ls, err
		}
		if err := l.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// leaseRound asks ready sources, each at most once, until there are enough
// messages. An error ends it only if there are none.
func (l *Leaser) leaseRound(ctx context.Context, limit int) (ls []Lease, err error) {
	var again []*source
	for len(ls) < limit {
		s := l.take()
		if s == nil {
			break
		}
		got, more, e := l.leaseFrom(ctx, s, limit-len(ls))
		ls = append(ls, got...)
		if more || e != nil {
			again = append(again, s)
		}
		if e != nil {
			err = e
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range again {
		l.readyLocked(s)
	}
	if len(ls) > 0 {
		return ls, nil // the source that failed is ready, and fails again
	}
	if len(again) > 0 {
		l.changed = true
	}
	return nil, err
}

// leaseFrom leases messages of one queue; more says that there may be others.
func (l *Leaser) leaseFrom(ctx context.Context, s *source, n int) (ls []Lease, more bool, err error) {
	if err := l.begin(ctx, s); err != nil {
		return nil, false, l.sourceError(s, err)
	}
	l.mu.Lock()
	k, filter := s.claim, s.filter
	l.mu.Unlock()
	b, err := l.e.Lease(ctx, k, filter, message.Limit{Count: n}, l.o.lease.invisible, l.o.push.attempts)
	if err != nil {
		return nil, false, l.sourceError(s, err)
	}
	l.mu.Lock()
	s.again = b.Wait
	l.mu.Unlock()
	for i := range b.Records {
		r := &b.Records[i]
		lease := Lease{
			Delivery: newDelivery(&r.Record, s.queue.Topic),
			Receipt:  receipt{l.group, s.queue, r.Record.Offset(), r.Lease, k.Epoch}.String(),
			Until:    r.Until,
		}
		lease.attempt = r.Attempt
		wanted, err := l.wanted(ctx, k, r, lease.Delivery)
		if err != nil {
			return ls, true, err
		}
		if wanted {
			ls = append(ls, lease)
			l.hold(receipt{l.group, s.queue, r.Record.Offset(), r.Lease, k.Epoch}, r.Until)
		}
	}
	return ls, len(b.Records) > 0, nil
}

// begin says where the group begins in a queue, unless it has begun there.
func (l *Leaser) begin(ctx context.Context, s *source) error {
	l.mu.Lock()
	placed, k := s.placed, s.claim
	l.mu.Unlock()
	if placed {
		return nil
	}
	st, err := l.e.Standing(ctx, k, s.queue)
	if err != nil {
		return err
	}
	if !st.Known {
		at, err := l.o.start.resolve(ctx, l.e, s.queue, 0, false, l.o.clock.Now())
		if err != nil {
			return err
		}
		if err := l.e.Settle(ctx, k, message.Verdict{Queue: s.queue, Offset: at, Kind: message.Begin}); err != nil {
			return err
		}
	}
	l.mu.Lock()
	s.placed = true
	l.mu.Unlock()
	return nil
}

// wanted says whether a leased message is to be handed out; one that was handled
// before is settled.
func (l *Leaser) wanted(ctx context.Context, k group.Claim, r *message.Leased, d *Delivery) (bool, error) {
	if l.o.dedupe == nil {
		return true, nil
	}
	known, err := l.o.dedupe.Begin(ctx, l.group, d)
	if err != nil {
		return false, fmt.Errorf("consumer: dedupe: %w", err)
	}
	if known == Fresh {
		// Nobody would tell the deduper of a lease that ends by itself.
		l.o.dedupe.Fail(l.group, d)
	}
	if known != Handled {
		return true, nil
	}
	err = l.e.Settle(ctx, k, message.Verdict{Queue: k.Queue, Offset: r.Record.Offset(), Lease: r.Lease, Kind: message.Done})
	if errors.Is(err, message.ErrFenced) {
		err = nil
	}
	return false, err
}

// sourceError is nil for an error that a change of the assignment will explain.
func (l *Leaser) sourceError(s *source, err error) error {
	if errors.Is(err, message.ErrFenced) || errors.Is(err, message.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("consumer: lease from %v: %w", s.queue, err)
}
