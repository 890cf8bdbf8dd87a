package consumer

import "time"

// DefaultInvisible is how long a received message is invisible to others.
const DefaultInvisible = time.Minute

type leaseOptions struct {
	invisible time.Duration
	handBack  bool
}

// WithInvisible sets how long a message that a Leaser has received is invisible to
// all others, one minute by default. After that time it comes again, to anybody.
func WithInvisible(d time.Duration) Option {
	return func(o *options) {
		if o.serves("WithInvisible", useLease) && o.lasting("WithInvisible", d) {
			o.lease.invisible = d
		}
	}
}

// WithHandBack makes Close hand back what a Leaser has received and not settled:
// others see it at once instead of after its invisible time. Receipts of it are
// void then.
func WithHandBack() Option {
	return func(o *options) {
		if o.serves("WithHandBack", useLease) {
			o.lease.handBack = true
		}
	}
}
