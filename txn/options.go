package txn

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

// DB is the part of the key-value store that a Coordinator needs.
type DB interface {
	// Apply makes the batch visible as a whole, and durable when sync is set.
	// Batches survive in the order in which they were applied.
	Apply(ctx context.Context, b *kv.Batch, sync bool) error
	// Scan yields the rows in [from, to) in order, lent for one step. An error is
	// the last thing it yields.
	Scan(from, to []byte) iter.Seq2[kv.KV, error]
}

// Defaults of Options, which are RocketMQ's where it has them.
const (
	DefaultTimeout     = 6 * time.Second
	DefaultInterval    = 30 * time.Second
	DefaultMaxInterval = 10 * time.Minute
	DefaultMaxChecks   = 15
	DefaultRemember    = 65_536
	DefaultGroupBytes  = 1 << 20

	maxRemember = 1 << 24
)

// Options of New. Appender, Read and NewID are needed; all other zero values are
// defaults.
type Options struct {
	// Appender writes halves and verdicts.
	Appender Appender
	// Read returns the verified record at a position. It may use buf and returns
	// it, or a larger one, for the next call.
	Read func(position int64, size int, buf []byte, r *message.Record) ([]byte, error)
	// NewID makes the unique id of a half.
	NewID func() string
	// Sync returns when everything that Apply has seen is on disk; nil if Apply sees
	// nothing else.
	Sync func(ctx context.Context) error
	// Foreign says whether a half counts that bears no sign of ours. It depends on
	// the record alone. nil counts all.
	Foreign func(r *message.Record) bool

	// Timeout is how old a half is before anybody is asked about it; 6 s.
	Timeout time.Duration
	// Interval is how long after an answer that says nothing, or without any
	// answer, a half is asked about again; 30 s. It doubles with every answer.
	Interval time.Duration
	// MaxInterval is where the doubling ends; 10 minutes, at least Interval.
	MaxInterval time.Duration
	// MaxChecks is how many answers that say nothing a half gets before it is
	// given up; 15.
	MaxChecks int
	// Remember is how many verdicts are known after they were given; 65,536.
	Remember int
	// GroupBytes bounds what one atomic group carries forward; 1 MiB.
	GroupBytes int64

	// Manual starts no goroutine: halves are asked about by Step.
	Manual bool
	// Clock is the real one when nil.
	Clock clock.Clock
	// Logger hears of checkers that fail and of halves that are given up; silent
	// when nil.
	Logger *slog.Logger

	saveBytes int // the largest part of a save; tests make it small
}

func (o *Options) normalise() error {
	var errs []error
	bad := func(what string) { errs = append(errs, errors.New("txn: options: "+what)) }
	for _, f := range []struct {
		name    string
		missing bool
	}{{"Appender", o.Appender == nil}, {"Read", o.Read == nil}, {"NewID", o.NewID == nil}} {
		if f.missing {
			bad(f.name + " is missing")
		}
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		usual time.Duration
	}{{"Timeout", &o.Timeout, DefaultTimeout}, {"Interval", &o.Interval, DefaultInterval}, {"MaxInterval", &o.MaxInterval, DefaultMaxInterval}} {
		if *d.value < 0 {
			bad(d.name + " is negative")
		}
		if *d.value == 0 {
			*d.value = d.usual
		}
	}
	o.MaxInterval = max(o.MaxInterval, o.Interval)
	for _, n := range []struct {
		name  string
		value *int
		usual int
	}{{"MaxChecks", &o.MaxChecks, DefaultMaxChecks}, {"Remember", &o.Remember, DefaultRemember}, {"saveBytes", &o.saveBytes, 16 << 20}} {
		if *n.value < 0 {
			bad(n.name + " is negative")
		}
		if *n.value == 0 {
			*n.value = n.usual
		}
	}
	if o.Remember > maxRemember {
		bad("Remember is over 16,777,216")
	}
	if o.GroupBytes <= 0 {
		o.GroupBytes = DefaultGroupBytes
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}
