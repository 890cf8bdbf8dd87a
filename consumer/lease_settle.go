package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

// ReceiptError says that one receipt of several could not be used. Its cause is
// ErrFenced when the lease is over: the message was settled, its invisible time has
// passed and somebody else has received it, or the group was reset.
type ReceiptError struct {
	Receipt string
	Err     error
}

// Error names the receipt.
func (e *ReceiptError) Error() string { return "consumer: receipt " + e.Receipt + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ReceiptError) Unwrap() error { return e.Err }

// Ack settles messages, in any order. Each counts for itself: the error joins a
// *ReceiptError for every one that could not be settled. A receipt of an earlier
// process counts too, without a subscription or a Receive. An acknowledgement takes
// effect at once; when it is on disk is the engine's to say, and a crash before
// that delivers the message again. With a deduper, the message is read once more to
// tell it.
func (l *Leaser) Ack(ctx context.Context, receipts ...string) error {
	return l.settleAll(ctx, receipts, message.Verdict{Kind: message.Done})
}

// Later, given to Nack, leaves the time to the engine's retry table.
const Later time.Duration = -1

// Nack gives messages back: they become visible again after a time, at once if it
// is zero, or after Later. A message that has had its last attempt becomes a dead
// letter.
func (l *Leaser) Nack(ctx context.Context, after time.Duration, receipts ...string) error {
	// For the engine zero is its table, and less is at once.
	switch {
	case after == Later:
		after = 0
	case after < 0:
		return fmt.Errorf("consumer: nack: %v: %w", after, message.ErrOutOfRange)
	case after == 0:
		after = -1
	}
	return l.settleAll(ctx, receipts, message.Verdict{Kind: message.Retry, After: after})
}

// Extend keeps a message invisible for d from now on. Its receipt stays the same.
func (l *Leaser) Extend(ctx context.Context, d time.Duration, receipts ...string) error {
	if d <= 0 {
		return fmt.Errorf("consumer: extend: %v: %w", d, message.ErrOutOfRange)
	}
	return l.settleAll(ctx, receipts, message.Verdict{Kind: message.Extend, After: d})
}

// DeadLetter puts messages among the group's dead letters, with a reason.
func (l *Leaser) DeadLetter(ctx context.Context, why string, receipts ...string) error {
	text, _ := reason(DeadLetter(why))
	return l.settleAll(ctx, receipts, message.Verdict{Kind: message.DeadLetter, Reason: text})
}

// settleAll carries one verdict out for many receipts.
func (l *Leaser) settleAll(ctx context.Context, receipts []string, v message.Verdict) error {
	seat, err := l.sit()
	if err != nil {
		return err
	}
	var errs []error
	for _, text := range receipts {
		if err := l.settleOne(ctx, seat.Claim(), text, v); err != nil {
			errs = append(errs, &ReceiptError{Receipt: text, Err: err})
		}
	}
	return errors.Join(errs...)
}

// sit returns the seat to settle under: the one that receives, or before the first
// Receive that of a guest, which needs no subscription.
func (l *Leaser) sit() (*group.Membership, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(); err != nil {
		return nil, err
	}
	if l.seat != nil {
		return l.seat, nil
	}
	if l.guest == nil {
		g, err := l.e.Groups().Join(context.Background(), group.Member{Group: l.group, Mode: l.mode, Guest: true})
		if err != nil {
			return nil, fmt.Errorf("consumer: join: %w", err)
		}
		l.guest = g
	}
	return l.guest, nil
}

func (l *Leaser) settleOne(ctx context.Context, k group.Claim, text string, v message.Verdict) error {
	r, err := parseReceipt(text, l.group)
	if err != nil {
		return err
	}
	if k.Epoch != r.epoch {
		return message.ErrFenced
	}
	v.Queue, v.Offset, v.Lease = r.queue, r.at, r.lease
	if l.o.dedupe != nil && v.Kind == message.Done {
		if err := l.confirm(ctx, r); err != nil {
			return fmt.Errorf("dedupe: %w", err)
		}
	}
	if err := l.e.Settle(ctx, k, v); err != nil {
		return err
	}
	if v.Kind == message.Extend {
		l.hold(r, l.o.clock.Now().Add(v.After))
	} else {
		l.letGo(r)
	}
	return nil
}

// confirm tells the deduper that a message was handled.
func (l *Leaser) confirm(ctx context.Context, r receipt) error {
	b, err := l.e.Read(ctx, r.queue, r.at, message.Limit{Count: 1}, nil)
	if err != nil || len(b.Records) == 0 || b.Records[0].Offset() != r.at {
		return err // a message that is not kept any more does not come again
	}
	return l.o.dedupe.Done(ctx, l.group, newDelivery(&b.Records[0], r.queue.Topic))
}

// hold notes what Close is to hand back.
func (l *Leaser) hold(r receipt, until time.Time) {
	if l.held == nil {
		return
	}
	l.heldMu.Lock()
	defer l.heldMu.Unlock()
	l.held[r] = until
	if len(l.held) < 2*l.pruned {
		return
	}
	now := l.o.clock.Now()
	for r, until := range l.held {
		if now.After(until) {
			delete(l.held, r)
		}
	}
	l.pruned = max(len(l.held), 1024)
}

func (l *Leaser) letGo(r receipt) {
	if l.held != nil {
		l.heldMu.Lock()
		delete(l.held, r)
		l.heldMu.Unlock()
	}
}

// Close leaves the group; Receive ends with ErrClosed. What was received and not
// settled stays leased until its time has passed, unless WithHandBack; its receipts
// count for other Leasers of the group. Close may be called again.
func (l *Leaser) Close(ctx context.Context) error {
	first, err := l.close(ctx, l.handBack)
	l.mu.Lock()
	defer l.mu.Unlock()
	if first && l.guest != nil {
		err = errors.Join(err, l.guest.Leave(ctx)) // it has no queues to wait for
	}
	return err
}

// handBack makes what is held visible again.
func (l *Leaser) handBack(ctx context.Context) error {
	l.heldMu.Lock()
	held := l.held
	l.held = nil
	l.heldMu.Unlock()
	var errs []error
	now, k := l.o.clock.Now(), l.seat.Claim()
	for r, until := range held {
		if r.epoch != k.Epoch || now.After(until) {
			continue
		}
		v := message.Verdict{Queue: r.queue, Offset: r.at, Lease: r.lease, Kind: message.Retry, After: -1}
		if err := l.e.Settle(ctx, k, v); err != nil && !errors.Is(err, message.ErrFenced) {
			errs = append(errs, &ReceiptError{Receipt: r.String(), Err: err})
		}
	}
	return errors.Join(errs...)
}
