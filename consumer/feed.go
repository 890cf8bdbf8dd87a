package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

// feed is what a consumer without handlers has of its group: a seat, the queues
// that were given to it, and a watch on them. Whoever holds the turn takes
// messages; the listener, a goroutine that lives as long as the seat, learns what
// is given and revoked.
//
// Invariant: a source that may hold records its consumer has not seen is ready,
// or its queue is announced by the watch, or it is paused, stopped or revoked.
type feed struct {
	e     Engine
	o     *options
	bad   error // what is wrong with the options
	group string
	mode  group.Mode
	// revoked is told of claims that are to be given back, by the listener. It
	// releases them, now or later.
	revoked func([]*source)

	turn     chan struct{}
	listener sync.WaitGroup

	mu       sync.Mutex
	filters  map[string]message.Filter // by subscribed topic
	assigned bool
	seat     *group.Membership // nil before the first join
	leave    context.CancelFunc
	watch    message.Watch
	sources  map[message.Queue]*source
	ready    []*source
	changed  bool   // somebody must look again
	wake     func() // ends the wait under way
	closed   bool
	over     error // why the listener ended
}

// source is one queue of a feed. feed.mu guards it.
type source struct {
	queue  message.Queue
	claim  group.Claim // zero if the queue was assigned
	filter message.Filter

	ready, paused, revoked, gone bool
	stopped                      error     // the queue cannot be read on
	again                        time.Time // when it becomes ready by itself

	// placed says that the rest is known.
	placed  bool
	epoch   uint64
	version int // moves when next was set by anything but reading
	next    int64
	handed  int64 // behind the last record that the user got
	done    int64 // behind the last of these that counts as done
	stored  int64 // what the group has committed
	settled []message.Range
	hands   []*Delivery // handed out and not done, for the deduper
}

func newFeed(e Engine, groupName string, o *options, mode group.Mode) *feed {
	f := &feed{
		e: e, o: o, group: groupName, mode: mode,
		turn:    make(chan struct{}, 1),
		filters: make(map[string]message.Filter),
		sources: make(map[message.Queue]*source),
	}
	f.bad = o.err()
	if err := message.CheckGroup(groupName); err != nil {
		f.bad = errors.Join(f.bad, fmt.Errorf("consumer: %w", err))
	}
	if e == nil {
		f.bad = errors.Join(f.bad, fmt.Errorf("consumer: no engine: %w", message.ErrUnsupported))
	}
	return f
}

// enter takes the turn.
func (f *feed) enter(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case f.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *feed) exit() { <-f.turn }

func (f *feed) errClosed() error {
	return fmt.Errorf("consumer: group %s: %w", f.group, message.ErrClosed)
}

// usableLocked reports why nothing works any more.
func (f *feed) usableLocked() error {
	switch {
	case f.bad != nil:
		return f.bad
	case f.closed:
		return f.errClosed()
	}
	return f.over
}

// subscribe adds or replaces the subscription to a topic.
func (f *feed) subscribe(topic string, filter message.Filter) error {
	if err := message.CheckTopic(topic); err != nil {
		return fmt.Errorf("consumer: subscribe: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.usableLocked(); err != nil {
		return err
	}
	if f.assigned {
		return fmt.Errorf("consumer: subscribe to %s: queues were assigned: %w", topic, message.ErrUnsupported)
	}
	return f.resubscribeLocked(func(filters map[string]message.Filter) { filters[topic] = filter })
}

func (f *feed) unsubscribe(topic string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.usableLocked(); err != nil {
		return err
	}
	return f.resubscribeLocked(func(filters map[string]message.Filter) { delete(filters, topic) })
}

// resubscribeLocked changes nothing if the group does not agree.
func (f *feed) resubscribeLocked(change func(map[string]message.Filter)) error {
	filters := maps.Clone(f.filters)
	change(filters)
	if f.seat != nil {
		if err := f.seat.Resubscribe(texts(filters)); err != nil {
			return fmt.Errorf("consumer: subscribe: %w", err)
		}
	}
	f.filters = filters
	for q, s := range f.sources {
		if filter := filters[q.Topic]; !sameFilter(s.filter, filter) {
			s.filter = filter
			f.watch.Add(filter, q)
		}
	}
	return nil
}

func texts(filters map[string]message.Filter) map[string]string {
	t := make(map[string]string, len(filters))
	for topic, f := range filters {
		t[topic] = filterText(f)
	}
	return t
}

func filterText(f message.Filter) string {
	if f == nil {
		return group.AllMessages
	}
	return f.String()
}

func sameFilter(a, b message.Filter) bool { return filterText(a) == filterText(b) }

// join takes a seat unless there is one.
func (f *feed) join() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.joinLocked()
}

func (f *feed) joinLocked() error {
	if err := f.usableLocked(); err != nil {
		return err
	}
	if f.seat != nil {
		return nil
	}
	if !f.assigned && len(f.filters) == 0 {
		return fmt.Errorf("consumer: group %s: nothing is subscribed or assigned: %w", f.group, message.ErrNotFound)
	}
	ctx, leave := context.WithCancel(context.Background())
	seat, err := f.e.Groups().Join(ctx, f.o.join(f.group, f.mode, texts(f.filters)))
	if err != nil {
		leave()
		return fmt.Errorf("consumer: join: %w", err)
	}
	f.seat, f.leave = seat, leave
	f.watch = f.e.Watch(nil)
	f.listener.Go(func() { f.listen(seat) })
	return nil
}

// listen learns changes until the seat is over.
func (f *feed) listen(seat *group.Membership) {
	for {
		ch, err := seat.Next(context.Background())
		if err != nil {
			f.mu.Lock()
			if !f.closed {
				f.over = fmt.Errorf("consumer: group %s: %w", f.group, err)
			}
			f.kickLocked()
			f.mu.Unlock()
			return
		}
		f.change(seat, ch)
	}
}

func (f *feed) change(seat *group.Membership, ch group.Change) {
	f.mu.Lock()
	var revoked []*source
	for _, k := range ch.Lost {
		if s := f.sources[k.Queue]; s != nil && s.claim == k {
			f.dropLocked(s)
		}
	}
	for _, k := range ch.Revoked {
		if s := f.sources[k.Queue]; s != nil && s.claim == k {
			s.revoked = true
			revoked = append(revoked, s)
		}
	}
	for _, k := range ch.Given {
		f.addLocked(&source{queue: k.Queue, claim: k, filter: f.filters[k.Queue.Topic]})
	}
	f.kickLocked()
	f.mu.Unlock()
	seat.Release(ch.Lost...)
	if len(revoked) > 0 {
		f.revoked(revoked)
	}
}

func (f *feed) addLocked(s *source) {
	f.sources[s.queue] = s
	f.watch.Add(s.filter, s.queue)
	f.readyLocked(s)
}

func (f *feed) dropLocked(s *source) {
	s.gone = true
	delete(f.sources, s.queue)
	f.watch.Remove(s.queue)
}

// release gives revoked sources back.
func (f *feed) release(ss ...*source) {
	f.mu.Lock()
	var claims []group.Claim
	for _, s := range ss {
		if !s.gone {
			f.dropLocked(s)
			claims = append(claims, s.claim)
		}
	}
	seat := f.seat
	f.mu.Unlock()
	if len(claims) > 0 {
		seat.Release(claims...)
	}
}

// claimLocked is what settles under: the source's claim, or the seat's.
func (f *feed) claimLocked(s *source) group.Claim {
	if s.claim != (group.Claim{}) {
		return s.claim
	}
	return f.seat.Claim()
}

func (f *feed) readyLocked(s *source) {
	s.again = time.Time{}
	if !s.ready && !s.gone {
		s.ready = true
		f.ready = append(f.ready, s)
	}
}

// take returns a source that may have something, nil if there is none.
func (f *feed) take() *source {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.ready) > 0 {
		s := f.ready[0]
		f.ready[0] = nil
		f.ready = f.ready[1:]
		s.ready = false
		if !s.gone && !s.revoked && !s.paused && s.stopped == nil {
			return s
		}
	}
	return nil
}

// kickLocked makes whoever waits look again.
func (f *feed) kickLocked() {
	f.changed = true
	if f.wake != nil {
		f.wake()
	}
}

// ended is a context that is over: under it a watch tells what it knows without
// waiting.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// look marks every source that the watch or the time has something for.
func (f *feed) look() error {
	for {
		q, err := f.watch.Next(ended)
		if err != nil {
			break
		}
		f.announce(q)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = false
	now := f.o.clock.Now()
	for _, s := range f.sources {
		if !s.again.IsZero() && !now.Before(s.again) {
			f.readyLocked(s)
		}
	}
	return f.usableLocked()
}

func (f *feed) announce(q message.Queue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.sources[q]; s != nil {
		f.readyLocked(s)
	}
}

// wait returns when look may find something, or with ctx's error.
func (f *feed) wait(ctx context.Context) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	f.mu.Lock()
	if f.changed {
		f.mu.Unlock()
		return nil
	}
	f.wake = cancel
	var first time.Time
	for _, s := range f.sources {
		if !s.again.IsZero() && (first.IsZero() || s.again.Before(first)) {
			first = s.again
		}
	}
	f.mu.Unlock()
	var timer sync.WaitGroup
	if !first.IsZero() {
		c, stop := f.o.clock.After(first.Sub(f.o.clock.Now()))
		timer.Go(func() {
			defer stop()
			select {
			case <-c:
				cancel()
			case <-waiting.Done():
			}
		})
	}
	q, err := f.watch.Next(waiting)
	f.mu.Lock()
	f.wake = nil
	f.mu.Unlock()
	woken := waiting.Err() != nil
	cancel()
	timer.Wait()
	switch {
	case err == nil:
		f.announce(q)
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case woken:
		return nil
	}
	return fmt.Errorf("consumer: group %s: %w", f.group, err)
}

// close ends the feed after last, which runs when nobody takes messages any more.
// It reports whether this call was the first.
func (f *feed) close(ctx context.Context, last func(context.Context) error) (bool, error) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return false, nil
	}
	f.closed = true
	f.kickLocked()
	seat := f.seat
	f.mu.Unlock()
	if seat == nil {
		return true, nil
	}
	err := f.enter(ctx)
	if err == nil {
		defer f.exit()
		err = last(ctx)
	}
	f.mu.Lock()
	all := slices.Collect(maps.Values(f.sources))
	f.mu.Unlock()
	if f.isAssigned() {
		all = nil
	}
	f.release(all...)
	err = errors.Join(err, seat.Leave(ctx))
	f.leave()
	f.listener.Wait()
	return true, errors.Join(err, f.watch.Close())
}

func (f *feed) isAssigned() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.assigned
}
