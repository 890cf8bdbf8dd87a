package consumer

import (
	"time"

	"github.com/embermq/embermq/group"
)

// seatOptions say how a consumer joins its group.
type seatOptions struct {
	member   string
	strategy group.Strategy
	drain    time.Duration
}

// WithMember names the consumer within its group. By default the group's
// coordinator chooses a name.
func WithMember(id string) Option { return func(o *options) { o.seat.member = id } }

// WithStrategy sets how the group's members share the queues, group.Average by
// default. All members name the same one.
func WithStrategy(s group.Strategy) Option {
	return func(o *options) {
		if o.serves("WithStrategy", usePush|usePull) {
			o.seat.strategy = s
		}
	}
}

// WithDrainLimit sets how long a handler may keep a queue that was revoked, 15
// minutes by default. Then the queue is lost and goes to another member.
func WithDrainLimit(d time.Duration) Option {
	return func(o *options) {
		if d <= 0 {
			o.reject("WithDrainLimit", "%v is not positive", d)
			return
		}
		o.seat.drain = d
	}
}
