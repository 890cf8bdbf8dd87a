package consumer

import (
	"time"

	"github.com/embermq/embermq/group"
)

// DefaultCommitInterval is how often a Pull commits by itself.
const DefaultCommitInterval = 5 * time.Second

// DefaultPoll is how many messages Poll and Receive return at most when their
// caller does not say.
const DefaultPoll = 32

type pullOptions struct {
	every time.Duration
}

// WithCommitInterval sets how often a Pull commits what counts as done, 5 seconds
// by default; zero is with every Poll. Between two commits a crash of the process
// delivers again what was done since.
func WithCommitInterval(every time.Duration) Option {
	return func(o *options) {
		if every < 0 {
			o.reject("WithCommitInterval", "%v is negative", every)
			return
		}
		if o.serves("WithCommitInterval", usePull) {
			o.pull.every = every
		}
	}
}

// join is how a consumer joins a group.
func (o *options) join(groupName string, m group.Mode, subs map[string]string) group.Member {
	return group.Member{
		Group: groupName, ID: o.seat.member, Mode: m, Subscriptions: subs,
		Strategy: o.seat.strategy, DrainLimit: o.seat.drain,
	}
}
