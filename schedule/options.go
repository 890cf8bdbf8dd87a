package schedule

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

// DB is the part of the key-value store that a Schedule needs.
type DB interface {
	// Apply makes the batch visible as a whole, and durable when sync is set.
	// Batches survive in the order in which they were applied.
	Apply(ctx context.Context, b *kv.Batch, sync bool) error
	// Scan yields the rows in [from, to) in order, lent for one step. An error is
	// the last thing it yields.
	Scan(from, to []byte) iter.Seq2[kv.KV, error]
}

// Defaults of Options.
const (
	DefaultCatchUp  = 50_000
	DefaultNear     = 50_000
	DefaultDirty    = 50_000
	DefaultBatch    = 512
	DefaultRemember = 65_536
	DefaultSleep    = time.Minute
)

// Options of Open. Appender and Read are needed; all other zero values are
// defaults.
type Options struct {
	// Levels is the table of delay levels; nil is DefaultLevels.
	Levels Levels
	// Appender writes copies and cancellations.
	Appender Appender
	// Read returns the verified record at a position. It may use buf and returns
	// it, or a larger one, for the next call.
	Read func(position int64, size int, buf []byte, r *message.Record) ([]byte, error)
	// Foreign says whether a waiting record counts. It is asked about every one,
	// in the order of the log, and depends on the record alone. nil counts all.
	// See Import.
	Foreign func(r *message.Record) bool
	// Delivered is asked about an id that is neither pending nor remembered: has
	// its message been delivered? nil is no.
	Delivered func(ctx context.Context, id message.TimerID) (bool, error)

	// CatchUp is how many overdue timers are fired a second; 50,000.
	CatchUp int
	// Near is how many timers each of the two lanes keeps in memory; 50,000.
	Near int
	// Dirty is how many changes may wait for a save before NeedsSave, and half as
	// many as may before Crowded; 50,000.
	Dirty int
	// Batch is how many timers one append fires; 512.
	Batch int
	// Remember is how many ended timers Cancel can tell apart from unknown ones;
	// 65,536.
	Remember int
	// Sleep is the longest that the driver sleeps while something is pending, and
	// so the longest that it overlooks a clock that was set forward; one minute.
	Sleep time.Duration

	// Manual starts no goroutine: timers are fired by Step.
	Manual bool
	// Clock is the real one when nil.
	Clock clock.Clock
	// Logger hears of timers that cannot be fired; silent when nil.
	Logger *slog.Logger

	// saveBytes is the largest part of a save; tests make it small.
	saveBytes int
}

func (o *Options) normalise() error {
	var errs []error
	bad := func(what string) { errs = append(errs, errors.New("schedule: options: "+what)) }
	if o.Appender == nil {
		bad("Appender is missing")
	}
	if o.Read == nil {
		bad("Read is missing")
	}
	for _, n := range []struct {
		name  string
		value *int
		usual int
	}{
		{"CatchUp", &o.CatchUp, DefaultCatchUp}, {"Near", &o.Near, DefaultNear}, {"Dirty", &o.Dirty, DefaultDirty},
		{"Batch", &o.Batch, DefaultBatch}, {"Remember", &o.Remember, DefaultRemember}, {"saveBytes", &o.saveBytes, 256 << 10},
	} {
		if *n.value < 0 {
			bad(n.name + " is negative")
		}
		if *n.value == 0 {
			*n.value = n.usual
		}
	}
	if o.Sleep < 0 {
		bad("Sleep is negative")
	}
	if o.Sleep == 0 {
		o.Sleep = DefaultSleep
	}
	if o.Levels == nil {
		o.Levels, _ = ParseLevels(DefaultLevels) // a constant that parses
	}
	if len(o.Levels) == 0 || len(o.Levels) > maxLevels {
		bad("Levels has no or too many levels")
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}
