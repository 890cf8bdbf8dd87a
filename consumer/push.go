package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

// Push calls handlers for the messages of a group. It works while Run does. All
// methods may be called by several goroutines; handlers may call them too, except
// for Run, and Close only with a context that ends.
type Push struct {
	e     Engine
	group string
	o     *options
	bad   error // what is wrong with the options

	// subs is replaced under changing and mu, never changed.
	subs     atomic.Pointer[map[string]*subscription]
	changing sync.Mutex // one Subscribe or Unsubscribe at a time; taken before mu

	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed when Run has returned, or will never run
	force   chan struct{} // closed when Close does not wait any longer

	count counters

	// Set by Run before it starts anything, and not changed by it later.
	ctx       context.Context // of reads and settles
	cancel    context.CancelCauseFunc
	handling  context.Context // parent of the handlers' contexts
	alarms    *alarms
	seat      *group.Membership
	watch     message.Watch
	local     *localOffsets // of a broadcasting group
	crew      sync.WaitGroup
	savingSet atomic.Bool

	mu    sync.Mutex
	idle  sync.Cond
	state pushState
	err   error // what has ended Run
	fail  chan struct{}

	intakes  map[message.Queue]*intake // those that the consumer has a claim on
	runnable fifo[*intake]             // have something ready
	readable fifo[*intake]             // a read will find something
	tails    fifo[*intake]             // a read may find something
	chores   fifo[func()]              // short work that may wait for the engine
	paused   map[message.Queue]bool    // ID AllQueues: the topic; no topic: everything
	bucket   bucket
	limited  bool // an alarm tells when there are tokens again
	lateSet  bool // an alarm looks for late handlers

	workers  int
	hands    map[*hand]struct{} // goroutines that do all the work
	parked   int
	waking   bool // a hand is on its way to look for work
	running  int  // handler calls
	watching bool // a hand waits for messages
}

type pushState uint8

const (
	fresh pushState = iota
	joins           // Run has begun; hands are not hired yet, for they would have nothing to wait on
	serves
	stops // no new handler calls
	over
)

type subscription struct {
	filter message.Filter
	handle Handler
}

func (s *subscription) text() string {
	if s.filter == nil {
		return group.AllMessages
	}
	return s.filter.String()
}

// AllQueues in the ID of a queue stands for all queues of its topic, in Pause and
// Resume.
const AllQueues int32 = -1

// everything is the name under which Pause without arguments is noted.
var everything = message.Queue{ID: AllQueues}

// NewPush returns a consumer for a group. If an option or the group's name is not
// valid, Subscribe and Run fail with the reason.
func NewPush(e Engine, groupName string, opts ...Option) *Push {
	o := newOptions(usePush, opts)
	o.checkPush()
	o.start.settle(o.push.mode == group.Broadcasting, o.clock.Now())
	p := &Push{
		e:       e,
		group:   groupName,
		o:       o,
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		force:   make(chan struct{}),
		fail:    make(chan struct{}),
		intakes: make(map[message.Queue]*intake),
		paused:  make(map[message.Queue]bool),
		bucket:  bucket{rate: o.push.rate, burst: float64(o.push.burst)},
		workers: o.push.workers,
		hands:   make(map[*hand]struct{}),
	}
	p.idle.L = &p.mu
	p.subs.Store(&map[string]*subscription{})
	p.bad = errors.Join(o.err(), message.CheckGroup(groupName))
	if e == nil {
		p.bad = errors.Join(p.bad, fmt.Errorf("consumer: no engine: %w", message.ErrUnsupported))
	}
	if o.push.mode == group.Broadcasting && o.push.order != Unordered && !o.push.localOrder {
		p.bad = errors.Join(p.bad, fmt.Errorf("consumer: order in a broadcasting group: %w", message.ErrUnsupported))
	}
	return p
}

func (p *Push) broadcasting() bool { return p.o.push.mode == group.Broadcasting }
func (p *Push) ordered() bool      { return p.o.push.order != Unordered }

// Subscribe has h called for the messages of a topic that f matches; nil matches
// all. The topic need not exist yet. Subscribing to a topic again replaces filter
// and handler for what is handed out from then on.
//
// While Run works it takes effect at once if this is the group's only member.
// In a group of several, all members must subscribe to the same; the change is in
// force once all of them have, and until then a member that asks for something
// else gets ErrSubscriptionConflict, as does one whose subscriptions differ when it
// joins.
//
// A handler of the group's dead letters subscribes to message.PrefixDead and the
// group's name under another group.
func (p *Push) Subscribe(topic string, f message.Filter, h Handler) error {
	if h == nil {
		return fmt.Errorf("consumer: subscribe to %q: no handler: %w", topic, message.ErrUnsupported)
	}
	if topic == message.PrefixRetry+p.group {
		return fmt.Errorf("consumer: subscribe to %q: it is the group's own: %w", topic, message.ErrUnsupported)
	}
	if err := message.CheckTopic(topic); err != nil {
		return fmt.Errorf("consumer: subscribe: %w", err)
	}
	for i := len(p.o.push.intercept) - 1; i >= 0; i-- {
		h = p.o.push.intercept[i](h)
	}
	h = p.o.once(p.group, h)
	return p.resubscribe(func(subs map[string]*subscription) {
		subs[topic] = &subscription{filter: f, handle: h}
	})
}

// Unsubscribe gives a topic up. What its handlers are working on is finished; what
// waits for a retry becomes a dead letter, unless the topic is subscribed again in
// time. An unknown topic is nil.
func (p *Push) Unsubscribe(topic string) error {
	return p.resubscribe(func(subs map[string]*subscription) { delete(subs, topic) })
}

func (p *Push) resubscribe(change func(map[string]*subscription)) error {
	if p.bad != nil {
		return p.bad
	}
	p.changing.Lock()
	defer p.changing.Unlock()
	old := *p.subs.Load()
	subs := maps.Clone(old)
	change(subs)
	p.mu.Lock()
	state, seat := p.state, p.seat
	if state == stops || state == over {
		p.mu.Unlock()
		return fmt.Errorf("consumer: %w", message.ErrClosed)
	}
	p.subs.Store(&subs)
	p.mu.Unlock()
	if seat == nil {
		return nil // Run will tell
	}
	if err := seat.Resubscribe(p.texts(subs)); err != nil {
		p.subs.Store(&old)
		return fmt.Errorf("consumer: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, in := range p.intakes {
		if s := subs[in.q.Topic]; s != nil && s != old[in.q.Topic] && in.stage == serving {
			p.watch.Add(s.filter, in.q)
			p.offerRunLocked(in)
			p.offerReadLocked(in)
		}
	}
	p.stirLocked()
	return nil
}

// texts are the subscriptions as the group compares them.
func (p *Push) texts(subs map[string]*subscription) map[string]string {
	texts := make(map[string]string, len(subs)+1)
	for topic, s := range subs {
		texts[topic] = s.text()
	}
	if p.retries() {
		texts[message.PrefixRetry+p.group] = group.AllMessages
	}
	return texts
}

// retries reports whether failed messages come again through the retry topic.
func (p *Push) retries() bool { return !p.broadcasting() && !p.ordered() }

// filter is what reading in has to match; ok is false if nobody wants it.
func (p *Push) filter(in *intake) (f message.Filter, ok bool) {
	if in.retry {
		return nil, true
	}
	s := (*p.subs.Load())[in.q.Topic]
	if s == nil {
		return nil, false
	}
	return s.filter, true
}

// Pause stops handing out messages of the queues it names, or of all; a queue with
// the ID AllQueues stands for a topic. What has been read stays, and running
// handlers go on. Pauses of a queue, of its topic and of everything are lifted one
// by one. The group's retry topic is a topic of its own.
func (p *Push) Pause(qs ...message.Queue) { p.setPaused(true, qs) }

// Resume lifts pauses. A queue that stopped at a corrupt record is tried again.
func (p *Push) Resume(qs ...message.Queue) { p.setPaused(false, qs) }

func (p *Push) setPaused(on bool, qs []message.Queue) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(qs) == 0 {
		qs = []message.Queue{everything}
	}
	for _, q := range qs {
		if on {
			p.paused[q] = true
		} else {
			delete(p.paused, q)
		}
	}
	if on {
		return
	}
	for _, in := range p.intakes {
		in.stopped = nil
		p.offerRunLocked(in)
		p.offerReadLocked(in)
	}
	p.stirLocked()
}

func (p *Push) pausedLocked(q message.Queue) bool {
	if len(p.paused) == 0 {
		return false
	}
	return p.paused[everything] || p.paused[q] || p.paused[message.Queue{Topic: q.Topic, ID: AllQueues}]
}

// SetWorkers changes how many handlers may run at once, at least one. Handlers that
// run are not disturbed.
func (p *Push) SetWorkers(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers = max(n, 1)
	p.idle.Broadcast()
	p.stirLocked()
}

// shardingKey is the key that producers keep order by. It aliases the record.
func shardingKey(d *Delivery) string {
	key, _ := d.Property(message.PropShardingKey)
	return key
}

// keyOf is the key of a line, which outlives the record.
func (p *Push) keyOf(d *Delivery) string {
	if p.o.push.order == PerQueue {
		return ""
	}
	return strings.Clone(p.o.push.key(d))
}
