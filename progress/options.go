package progress

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

// DB is the part of the key-value store that progress needs.
type DB interface {
	// Apply makes the batch visible as a whole, and durable when sync is set.
	Apply(ctx context.Context, b *kv.Batch, sync bool) error
	// Scan yields the rows in [from, to) in order. Their bytes may be lent for
	// one step. An error is the last thing it yields.
	Scan(from, to []byte) iter.Seq2[kv.KV, error]
}

// Defaults of Options.
const (
	DefaultFlushEvery  = 100 * time.Millisecond
	DefaultForgetAfter = 30 * 24 * time.Hour
)

// Options of Open. Bounds and SyncLog are needed; all other zero values are
// defaults.
type Options struct {
	// Bounds gives a queue's first kept offset and the next one to be assigned.
	// An error refuses the commit that asked. It is called without a lock.
	Bounds func(q message.Queue) (start, end int64, err error)
	// SyncLog returns once everything that Bounds has shown so far is durable.
	SyncLog func(ctx context.Context) error

	// Raised is told of a group whose epoch was raised, once that is on disk and in
	// memory; what members still hold under the old one is refused already. It is
	// called without a lock. Nil tells nobody.
	Raised func(group string)
	// RetryAfter is how long a leased record stays invisible that was delivered
	// so often in vain, when the verdict does not say; nil is not at all.
	RetryAfter func(attempts int) time.Duration

	// NoAutoCreate refuses a commit by an unknown group with ErrNotFound
	// instead of creating the group.
	NoAutoCreate bool
	// DurableSettle makes Commit wait until the offsets are on disk.
	DurableSettle bool
	// FlushEvery is how long a commit may stay in memory alone; 100 ms.
	FlushEvery time.Duration
	// ForgetAfter is how long a group that is not seen keeps guarding; 30 days.
	ForgetAfter time.Duration

	// Manual starts no goroutine: only Step, Flush and Close write.
	Manual bool
	// Clock is the real one when nil.
	Clock clock.Clock
	// Logger hears of failed background writes; silent when nil.
	Logger *slog.Logger
}

func (o *Options) normalise() error {
	var errs []error
	if o.Bounds == nil {
		errs = append(errs, errors.New("progress: options: Bounds is missing"))
	}
	if o.SyncLog == nil {
		errs = append(errs, errors.New("progress: options: SyncLog is missing"))
	}
	if o.FlushEvery < 0 {
		errs = append(errs, errors.New("progress: options: FlushEvery is negative"))
	}
	if o.ForgetAfter < 0 {
		errs = append(errs, errors.New("progress: options: ForgetAfter is negative"))
	}
	if o.FlushEvery == 0 {
		o.FlushEvery = DefaultFlushEvery
	}
	if o.ForgetAfter == 0 {
		o.ForgetAfter = DefaultForgetAfter
	}
	if o.Raised == nil {
		o.Raised = func(string) {}
	}
	if o.RetryAfter == nil {
		o.RetryAfter = func(int) time.Duration { return 0 }
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}
