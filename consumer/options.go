package consumer

import (
	"errors"
	"fmt"

	"github.com/embermq/embermq/internal/clock"
)

// Option changes one setting of a consumer. The defaults suit most programs. An
// option that does not fit the consumer it is given to is refused.
type Option func(*options)

// use says which consumer the options are for.
type use uint8

const (
	usePush use = 1 << iota
	usePull
	useLease
)

// String names the constructor.
func (u use) String() string {
	switch u {
	case usePush:
		return "NewPush"
	case usePull:
		return "NewPull"
	case useLease:
		return "NewLeaser"
	}
	return "consumer"
}

type options struct {
	use   use
	clock clock.Clock
	start start
	local localOptions
	seat  seatOptions
	push  pushOptions
	pull  pullOptions
	lease leaseOptions
	// dedupe is nil when nobody wants to know.
	dedupe Deduper
	errs   []error
}

func newOptions(u use, opts []Option) *options {
	o := &options{use: u, clock: clock.Real{}, push: defaultPush(), pull: pullOptions{every: DefaultCommitInterval}, lease: leaseOptions{invisible: DefaultInvisible}}
	for _, f := range opts {
		if f != nil {
			f(o)
		}
	}
	o.checkDedupe()
	return o
}

func (o *options) reject(option, format string, args ...any) {
	o.errs = append(o.errs, fmt.Errorf("consumer: %s: %s", option, fmt.Sprintf(format, args...)))
}

// serves refuses an option that is for other consumers only.
func (o *options) serves(option string, u use) bool {
	if o.use&u == 0 {
		o.reject(option, "is not an option of %v", o.use)
	}
	return o.use&u != 0
}

func (o *options) err() error { return errors.Join(o.errs...) }

// WithClock replaces the time. Its argument's type is internal: it serves this
// module's tests, and those of programs, which get one from embermqtest.
func WithClock(c clock.Clock) Option { return func(o *options) { o.clock = c } }
