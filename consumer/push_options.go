package consumer

import (
	"time"

	"github.com/embermq/embermq/group"
)

// Defaults of what the options of NewPush can change. Most are RocketMQ's.
const (
	DefaultWorkers       = 20
	DefaultBatch         = 1
	DefaultReadBatch     = 512
	DefaultPrefetch      = 1000
	DefaultPrefetchBytes = 100 << 20
	DefaultSpan          = 2000
	DefaultSuspension    = time.Second
	DefaultTimeout       = 15 * time.Minute
	DefaultStopTimeout   = 30 * time.Second
)

// Order says which messages a Push keeps in order.
type Order uint8

const (
	// Unordered hands messages out to whichever worker is free.
	Unordered Order = iota
	// PerQueue handles a queue's messages one call at a time, in order.
	PerQueue
	// PerKey handles the messages of one key in one queue one call at a time, in
	// order, and different keys side by side. Messages without a key have no
	// order.
	PerKey
)

// String returns the name of the constant.
func (o Order) String() string {
	switch o {
	case Unordered:
		return "Unordered"
	case PerQueue:
		return "PerQueue"
	case PerKey:
		return "PerKey"
	}
	return "Order(?)"
}

// CorruptPolicy says what a Push does with a record that cannot be read.
type CorruptPolicy uint8

const (
	// StopQueue reads no further in that queue and tells the listener. Resume,
	// or a new claim, tries again.
	StopQueue CorruptPolicy = iota
	// SkipCorrupt puts what is known of the record among the dead letters and
	// goes on behind it.
	SkipCorrupt
)

type pushOptions struct {
	mode       group.Mode
	order      Order
	localOrder bool
	key        func(*Delivery) string
	manual     bool
	workers    int
	batch      int
	readBatch  int
	count      int
	bytes      int64
	span       int64
	backoff    Backoff
	attempts   int
	suspension time.Duration
	timeout    time.Duration
	stop       time.Duration
	rate       float64
	burst      int
	corrupt    CorruptPolicy
	listener   func(Event)
	drop       func(*Delivery, error)
	intercept  []func(Handler) Handler
}

func defaultPush() pushOptions {
	return pushOptions{
		workers:    DefaultWorkers,
		batch:      DefaultBatch,
		readBatch:  DefaultReadBatch,
		count:      DefaultPrefetch,
		bytes:      DefaultPrefetchBytes,
		span:       DefaultSpan,
		backoff:    Levels(),
		suspension: DefaultSuspension,
		timeout:    DefaultTimeout,
		stop:       DefaultStopTimeout,
		key:        func(d *Delivery) string { return shardingKey(d) },
	}
}

// checkPush finds what does not go together.
func (o *options) checkPush() {
	p := &o.push
	if p.manual && p.order != PerQueue {
		o.reject("WithManualCommit", "needs WithOrder(PerQueue)")
	}
	if p.rate > 0 && p.burst < p.batch {
		o.reject("WithRate", "a burst of %d is less than a batch of %d", p.burst, p.batch)
	}
	p.readBatch = min(p.readBatch, p.count)
}

func (o *options) positive(option string, n int64) bool {
	if n < 1 {
		o.reject(option, "%d is not positive", n)
	}
	return n >= 1
}

func (o *options) lasting(option string, d time.Duration) bool {
	if d <= 0 {
		o.reject(option, "%v is not positive", d)
	}
	return d > 0
}

// pushOption is an option of NewPush alone.
func pushOption(name string, set func(o *options, p *pushOptions)) Option {
	return sharedOption(name, usePush, set)
}

// sharedOption is an option of NewPush and others.
func sharedOption(name string, u use, set func(o *options, p *pushOptions)) Option {
	return func(o *options) {
		if o.serves(name, u) {
			set(o, &o.push)
		}
	}
}

// WithMode makes the group a broadcasting one: every instance gets every message
// and keeps its own place. The default is group.Clustering.
func WithMode(m group.Mode) Option {
	return sharedOption("WithMode", usePush|usePull, func(o *options, p *pushOptions) {
		if m != group.Clustering && m != group.Broadcasting {
			o.reject("WithMode", "%v is not for this consumer", m)
			return
		}
		p.mode = m
	})
}

// WithOrder keeps messages in order, by queue or by key.
func WithOrder(order Order) Option {
	return pushOption("WithOrder", func(o *options, p *pushOptions) {
		if order > PerKey {
			o.reject("WithOrder", "unknown %v", order)
			return
		}
		p.order = order
	})
}

// WithLocalOrder allows order in a broadcasting group: each instance keeps it for
// itself. A failed message then holds up its queue or key, for ever or until
// WithMaxAttempts has it dropped. Without this option Run returns ErrUnsupported.
func WithLocalOrder() Option {
	return pushOption("WithLocalOrder", func(_ *options, p *pushOptions) { p.localOrder = true })
}

// WithKey sets what PerKey takes for a message's key, its ShardingKey by default;
// "" is no key. f is called by several goroutines and must not panic.
func WithKey(f func(*Delivery) string) Option {
	return pushOption("WithKey", func(o *options, p *pushOptions) {
		if f == nil {
			o.reject("WithKey", "no function")
			return
		}
		p.key = f
	})
}

// WithManualCommit lets handlers of WithOrder(PerQueue) decide when messages are
// settled: nil goes on to the next ones, Commit settles all since the last Commit,
// Rollback delivers them again. What is handled and not committed takes no memory.
// Under it a Pull commits nothing by itself.
func WithManualCommit() Option {
	return sharedOption("WithManualCommit", usePush|usePull, func(_ *options, p *pushOptions) { p.manual = true })
}

// WithWorkers sets how many handlers may run at once, 20 by default. SetWorkers
// changes it later.
func WithWorkers(n int) Option {
	return pushOption("WithWorkers", func(o *options, p *pushOptions) {
		if o.positive("WithWorkers", int64(n)) {
			p.workers = n
		}
	})
}

// WithBatch sets how many messages a handler gets at most in one call, 1 by
// default. Nobody waits for a batch to become full. Under PerKey a batch holds one
// key.
func WithBatch(n int) Option {
	return pushOption("WithBatch", func(o *options, p *pushOptions) {
		if o.positive("WithBatch", int64(n)) {
			p.batch = n
		}
	})
}

// WithReadBatch sets how many messages are read from the engine at a time, 512 by
// default.
func WithReadBatch(n int) Option {
	return pushOption("WithReadBatch", func(o *options, p *pushOptions) {
		if o.positive("WithReadBatch", int64(n)) {
			p.readBatch = n
		}
	})
}

// WithPrefetch bounds what is read of one queue and not handled yet: 1,000
// messages and 100 MiB by default. One batch that is larger is read whole.
func WithPrefetch(messages int, bytes int64) Option {
	return pushOption("WithPrefetch", func(o *options, p *pushOptions) {
		if o.positive("WithPrefetch", int64(messages)) && o.positive("WithPrefetch", bytes) {
			p.count, p.bytes = messages, bytes
		}
	})
}

// WithSpan bounds how far reading goes beyond the lowest unsettled message of a
// queue, 2,000 offsets by default: one stuck message stops the queue there. It
// also bounds what is delivered twice after a crash.
func WithSpan(n int64) Option {
	return pushOption("WithSpan", func(o *options, p *pushOptions) {
		if o.positive("WithSpan", n) {
			p.span = n
		}
	})
}

// WithRetry sets how long failed messages wait, Levels by default. It does not
// concern the modes that keep order, see WithSuspension.
func WithRetry(b Backoff) Option {
	return pushOption("WithRetry", func(o *options, p *pushOptions) {
		if b == nil {
			o.reject("WithRetry", "no function")
			return
		}
		p.backoff = b
	})
}

// WithMaxAttempts makes a message a dead letter when its nth delivery fails. By
// default that is for the group's settings to say (17 in RocketMQ) and, where
// order is kept, never. A message of a Leaser becomes one when it would be
// delivered once more.
func WithMaxAttempts(n int) Option {
	return sharedOption("WithMaxAttempts", usePush|useLease, func(o *options, p *pushOptions) {
		if o.positive("WithMaxAttempts", int64(n)) {
			p.attempts = n
		}
	})
}

// WithSuspension sets how long a failed message holds up its queue or key before
// it is delivered again, where order is kept: one second by default.
func WithSuspension(d time.Duration) Option {
	return pushOption("WithSuspension", func(o *options, p *pushOptions) {
		if o.lasting("WithSuspension", d) {
			p.suspension = d
		}
	})
}

// WithTimeout sets how long a handler may take, 15 minutes by default. Then its
// context ends. Without order its messages count as failed and what it says later
// does not count; where order is kept they stay in its hands until it returns. The
// worker is occupied until it returns, in any case.
func WithTimeout(d time.Duration) Option {
	return pushOption("WithTimeout", func(o *options, p *pushOptions) {
		if o.lasting("WithTimeout", d) {
			p.timeout = d
		}
	})
}

// WithStopTimeout sets how long Run waits for running handlers when it ends, 30
// seconds by default; Close has a context for that.
func WithStopTimeout(d time.Duration) Option {
	return pushOption("WithStopTimeout", func(o *options, p *pushOptions) {
		if o.lasting("WithStopTimeout", d) {
			p.stop = d
		}
	})
}

// WithRate bounds how many messages are handed out in a second; up to burst of
// them at once after a pause.
func WithRate(perSecond float64, burst int) Option {
	return pushOption("WithRate", func(o *options, p *pushOptions) {
		if !(perSecond > 0) || perSecond > 1e9 || burst < 1 {
			o.reject("WithRate", "%v, %d are not a rate and a burst", perSecond, burst)
			return
		}
		p.rate, p.burst = perSecond, burst
	})
}

// OnCorrupt says what to do with a record that cannot be read: StopQueue by
// default.
func OnCorrupt(c CorruptPolicy) Option {
	return pushOption("OnCorrupt", func(o *options, p *pushOptions) {
		if c > SkipCorrupt {
			o.reject("OnCorrupt", "unknown policy %d", c)
			return
		}
		p.corrupt = c
	})
}

// OnEvent calls f for what happens to the consumer. f may be called by several
// goroutines at once and holds up the one that calls it; a panic is caught.
func OnEvent(f func(Event)) Option {
	return pushOption("OnEvent", func(_ *options, p *pushOptions) { p.listener = f })
}

// OnDrop calls f for every message that a broadcasting consumer gives up, because
// its handler failed or it expired: there are no retries, but see WithLocalOrder.
// For a corrupt record d is nil. f may be called by several goroutines at once; a
// panic is caught.
func OnDrop(f func(d *Delivery, err error)) Option {
	return pushOption("OnDrop", func(_ *options, p *pushOptions) { p.drop = f })
}

// WithInterceptor wraps every handler that is subscribed. The first interceptor is
// the outermost.
func WithInterceptor(f func(next Handler) Handler) Option {
	return pushOption("WithInterceptor", func(o *options, p *pushOptions) {
		if f == nil {
			o.reject("WithInterceptor", "no function")
			return
		}
		p.intercept = append(p.intercept, f)
	})
}
