package producer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/message"
)

// Defaults of what options can change.
const (
	DefaultTimeout       = 3 * time.Second
	DefaultRetries       = 2
	DefaultMaxBody       = 4 << 20
	DefaultMaxBatch      = 4 << 20
	DefaultInFlight      = 4096
	DefaultInFlightBytes = 8 << 20
	DefaultLingerBytes   = 32 << 10
)

// Option changes one setting of New. The defaults suit most programs.
type Option func(*options)

type options struct {
	clock       clock.Clock
	timeout     time.Duration
	retries     int
	maxBody     int
	maxBatch    int
	split       bool
	selector    Selector
	uniqueID    bool
	dedupe      bool
	dedupeKey   func(*message.Message) string
	inFlight    int
	flightBytes int64
	refuse      bool
	hold        bool
	linger      time.Duration
	lingerBytes int
	encoding    message.Encoding
	threshold   int
	trace       func(context.Context, message.Carrier)
	intercept   []Interceptor
	sends       *slog.Logger
	onFailure   func(context.Context, *message.Message, error)
	spool       *Spool
	resend      time.Duration
	reply       time.Duration
	errs        []error
}

func newOptions(opts []Option) *options {
	o := &options{
		clock:       clock.Real{},
		timeout:     DefaultTimeout,
		reply:       DefaultTimeout,
		retries:     DefaultRetries,
		maxBody:     DefaultMaxBody,
		maxBatch:    DefaultMaxBatch,
		selector:    ByKey(),
		inFlight:    DefaultInFlight,
		flightBytes: DefaultInFlightBytes,
	}
	for _, f := range opts {
		if f != nil {
			f(o)
		}
	}
	if o.resend > 0 && o.spool == nil {
		o.reject("WithResend", "there is no spool")
	}
	return o
}

func (o *options) reject(option, format string, args ...any) {
	o.errs = append(o.errs, fmt.Errorf("producer: %s: %s", option, fmt.Sprintf(format, args...)))
}

func (o *options) err() error { return errors.Join(o.errs...) }

func (o *options) positive(option string, n int64) bool {
	if n < 1 {
		o.reject(option, "%d is not positive", n)
	}
	return n >= 1
}

// WithTimeout sets how long a send may take with all its attempts, 3 seconds by
// default; zero leaves it to the caller's context.
func WithTimeout(d time.Duration) Option {
	return func(o *options) {
		if d < 0 {
			o.reject("WithTimeout", "%v is negative", d)
			return
		}
		o.timeout = d
	}
}

// WithReplyTimeout sets how long Request waits for a reply when its context has
// no deadline, 3 seconds by default.
func WithReplyTimeout(d time.Duration) Option {
	return func(o *options) {
		if d <= 0 {
			o.reject("WithReplyTimeout", "%v is not positive", d)
			return
		}
		o.reply = d
	}
}

// WithRetries sets how many more attempts follow a failed one, 2 by default.
// Only ErrBusy and a time-out of the engine are followed by another attempt, on
// the next queue unless a key, a selector or the caller has chosen the queue.
func WithRetries(n int) Option {
	return func(o *options) {
		if n < 0 {
			o.reject("WithRetries", "%d is negative", n)
			return
		}
		o.retries = n
	}
}

// WithMaxBody bounds a body before it is compressed, 4 MiB by default. The
// engine has a limit of its own.
func WithMaxBody(n int) Option {
	return func(o *options) {
		if o.positive("WithMaxBody", int64(n)) {
			o.maxBody = n
		}
	}
}

// WithMaxBatch bounds the bytes of one SendBatch, 4 MiB by default, counting
// bodies, properties and some overhead. Beyond it the error is ErrTooLarge.
func WithMaxBatch(n int) Option {
	return func(o *options) {
		if o.positive("WithMaxBatch", int64(n)) {
			o.maxBatch = n
		}
	}
}

// WithSplit makes SendBatch cut a batch that is over the limit into several
// groups, each of which is stored as a whole or not at all.
func WithSplit() Option { return func(o *options) { o.split = true } }

// WithSelector sets how queues are chosen, ByKey by default.
func WithSelector(s Selector) Option {
	return func(o *options) {
		if s.pick == nil {
			o.reject("WithSelector", "empty selector")
			return
		}
		o.selector = s
	}
}

// WithCallerQueue sends every message to its own QueueID.
func WithCallerQueue() Option { return func(o *options) { o.selector = Selector{given: true} } }

// WithUniqueID gives each message that has none a unique id, once, before the
// first attempt.
func WithUniqueID() Option { return func(o *options) { o.uniqueID = true } }

// WithDedupe fills an empty IdempotencyKey, once, before the first attempt: with
// what key returns, or with a new unique id if key is nil. An engine that
// remembers such keys stores the message once, however often it is tried.
func WithDedupe(key func(*message.Message) string) Option {
	return func(o *options) { o.dedupe, o.dedupeKey = true, key }
}

// WithInFlight bounds what SendAsync and SendOneWay have on its way, in messages
// and in bytes: 4,096 and 8 MiB by default. One message larger than that goes
// alone. Who wants to send more waits, or gets ErrBusy under WithRefusal.
func WithInFlight(messages int, bytes int64) Option {
	return func(o *options) {
		if o.positive("WithInFlight", int64(messages)) && o.positive("WithInFlight", bytes) {
			o.inFlight, o.flightBytes = messages, bytes
		}
	}
}

// WithRefusal makes SendAsync and SendOneWay fail with ErrBusy when too much is in
// flight, instead of waiting for room.
func WithRefusal() Option { return func(o *options) { o.refuse = true } }

// WithHeldKeys makes a sharding key whose message SendAsync could not send stay
// failed until Producer.Resume is called for it: until then everything sent under the
// key fails with ErrPrecedingFailed, also what a goroutine sends that does not know of
// the failure yet. By default the key is free again as soon as the first callback
// tells.
func WithHeldKeys() Option { return func(o *options) { o.hold = true } }

// WithLinger gathers messages of SendAsync and stores them as atomic groups: when
// the first has waited for d, or when there are bytes of them (32 KiB if zero).
// Groups follow one another.
func WithLinger(d time.Duration, bytes int) Option {
	return func(o *options) {
		if d <= 0 || bytes < 0 {
			o.reject("WithLinger", "%v, %d are not positive", d, bytes)
			return
		}
		o.linger, o.lingerBytes = d, bytes
		if bytes == 0 {
			o.lingerBytes = DefaultLingerBytes
		}
	}
}

// WithCompression compresses bodies of at least threshold bytes (4,096 if zero)
// unless they are compressed already or would grow. Readers of the store get them
// inflated.
func WithCompression(e message.Encoding, threshold int) Option {
	return func(o *options) {
		if e != message.Zlib && e != message.Zstd {
			o.reject("WithCompression", "%v cannot be written", e)
			return
		}
		if threshold < 0 {
			o.reject("WithCompression", "%d is negative", threshold)
			return
		}
		o.encoding, o.threshold = e, threshold
		if threshold == 0 {
			o.threshold = 4096
		}
	}
}

// WithTrace lets inject write the headers of a trace into each message, as
// properties; an OpenTelemetry propagator's Inject fits. A traceparent that is
// malformed by the rules of W3C Trace Context is dropped, with its tracestate,
// whoever wrote it and with or without this option.
func WithTrace(inject func(context.Context, message.Carrier)) Option {
	return func(o *options) { o.trace = inject }
}

// Interceptor sees every send. Before may change the message, which is the
// producer's copy (but not what its slices and maps hold), replace the context,
// or refuse with an error. After sees the outcome. Either may be nil. Befores are
// called in the order of the options, Afters in reverse. What they are given is
// theirs for the call only.
type Interceptor struct {
	Before func(ctx context.Context, m *message.Message) (context.Context, error)
	After  func(ctx context.Context, m *message.Message, r message.Receipt, err error)
}

// WithInterceptor adds an interceptor.
func WithInterceptor(i Interceptor) Option {
	return func(o *options) { o.intercept = append(o.intercept, i) }
}

// LogSends writes one line per send: topic, keys, id, queue, offset, error, time.
func LogSends(l *slog.Logger) Option { return func(o *options) { o.sends = l } }

// OnSendFailure calls f for each message that could not be sent, unless the
// message itself is at fault. f must not keep m; it may copy it. For messages
// that the spool has taken the error matches ErrSpooled.
func OnSendFailure(f func(ctx context.Context, m *message.Message, err error)) Option {
	return func(o *options) { o.onFailure = f }
}

// WithSpool keeps messages that could not be sent in s, unless the message itself
// is at fault. The error then matches ErrSpooled. While s holds messages of a
// sharding key, later ones of that key go there too, with ErrPrecedingFailed. The
// spool stays the caller's to close, after the Producer.
func WithSpool(s *Spool) Option { return func(o *options) { o.spool = s } }

// WithResend sends what is in the spool again every so often; without it,
// Producer.Resend does it by hand.
func WithResend(every time.Duration) Option {
	return func(o *options) {
		if every <= 0 {
			o.reject("WithResend", "%v is not positive", every)
			return
		}
		o.resend = every
	}
}

// WithClock replaces the time. Its argument's type is internal: it serves this
// module's tests, and those of programs, which get one from embermqtest.
func WithClock(c clock.Clock) Option { return func(o *options) { o.clock = c } }
