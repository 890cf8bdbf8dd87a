package group

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/embermq/embermq/message"
)

// Mode says how a group's members share the messages.
type Mode uint8

const (
	// Clustering gives each queue to one member at a time.
	Clustering Mode = iota
	// Broadcasting gives every queue to every member, each of which keeps its
	// own place.
	Broadcasting
	// Shared gives every queue to every member, all of which take messages from
	// one common supply by lease.
	Shared
)

// String returns the name of the constant.
func (m Mode) String() string {
	switch m {
	case Clustering:
		return "Clustering"
	case Broadcasting:
		return "Broadcasting"
	case Shared:
		return "Shared"
	}
	return "Mode(" + strconv.Itoa(int(m)) + ")"
}

// AllMessages is the filter text of a subscription without a filter; an empty
// one means the same.
const AllMessages = "*"

// Member is what a consumer says about itself when it joins.
type Member struct {
	Group string
	// ID is unique among the group's members; empty lets the coordinator choose.
	ID   string
	Mode Mode
	// Subscriptions maps each topic to the text of its filter. Texts are
	// compared as they are, save for blanks at their ends.
	Subscriptions map[string]string
	// Strategy shares the queues of a clustering group; nil is Average. The
	// other modes ignore it.
	Strategy Strategy
	// DrainLimit is how long a revoked queue may stay unreleased before the
	// member loses it. Zero is the coordinator's.
	DrainLimit time.Duration
	// Guest takes a seat and no queues: a guest settles, under the claim on its
	// seat, what others were given. It agrees with every mode, strategy and
	// subscription and decides none of them.
	Guest bool
}

// normalise checks m and makes it the coordinator's own.
func (m *Member) normalise() error {
	var errs []error
	if err := message.CheckGroup(m.Group); err != nil {
		errs = append(errs, err)
	}
	if m.Mode > Shared {
		errs = append(errs, fmt.Errorf("group: %s: %w", m.Mode, message.ErrUnsupported))
	}
	if m.DrainLimit < 0 {
		errs = append(errs, fmt.Errorf("group: drain limit %s: %w", m.DrainLimit, message.ErrOutOfRange))
	}
	subs, err := subscriptions(m.Subscriptions)
	if err != nil {
		errs = append(errs, err)
	}
	m.Subscriptions = subs
	if m.Guest {
		clear(m.Subscriptions)
	}
	if m.Guest || m.Mode != Clustering {
		m.Strategy = nil
	} else if m.Strategy == nil {
		m.Strategy = Average()
	}
	return errors.Join(errs...)
}

// subscriptions copies a set of subscriptions in the form they are compared in.
func subscriptions(subs map[string]string) (map[string]string, error) {
	var errs []error
	own := make(map[string]string, len(subs))
	for topic, text := range subs {
		if err := message.CheckTopic(topic); err != nil {
			errs = append(errs, err)
		}
		if text = strings.TrimSpace(text); text == "" {
			text = AllMessages
		}
		own[topic] = text
	}
	return own, errors.Join(errs...)
}

// strategyName asks a member's strategy for its name, which is user code.
func strategyName(s Strategy) (name string, err error) {
	if s == nil {
		return "", nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("group: strategy panicked when asked for its name: %v", p)
		}
	}()
	return s.Name(), nil
}

// ConflictError says in what a member differs from one that is in the group. It
// is message.ErrSubscriptionConflict for errors.Is.
type ConflictError struct {
	Group  string
	Member string // who was refused
	Other  string // a member that is in the group
	What   string // "mode", "strategy" or "subscription to <topic>"
	// Want is the refused member's, Have the group's. For a subscription it is
	// the filter's text, empty for none.
	Want, Have string
}

// Error names both members and what each has.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("group: %s: member %s has %s %s, member %s has %s: %s", e.Group, e.Member, e.What,
		quote(e.Want), e.Other, quote(e.Have), message.ErrSubscriptionConflict)
}

func quote(s string) string {
	if s == "" {
		return "none"
	}
	return strconv.Quote(s)
}

// Is reports whether target is message.ErrSubscriptionConflict.
func (e *ConflictError) Is(target error) bool { return target == message.ErrSubscriptionConflict }

// differ returns the first topic, in order, that two sets treat differently.
func differ(want, have map[string]string) (topic string, found bool) {
	all := maps.Clone(want)
	maps.Copy(all, have)
	for _, topic := range slices.Sorted(maps.Keys(all)) {
		w, inWant := want[topic]
		h, inHave := have[topic]
		if w != h || inWant != inHave {
			return topic, true
		}
	}
	return "", false
}
