package group

import (
	"errors"
	"slices"

	"github.com/embermq/embermq/message"
)

// Strategy shares the queues of one topic among the members of a clustering
// group. The coordinator asks it once per member; the answers together are the
// plan. All members of a group name the same strategy, and each brings its own
// value of it.
//
// A strategy is a function of its arguments: the same for every member that
// asks. It may leave queues out. Naming a queue that is not in qs, or one that
// another member gets, makes the whole topic's plan fail.
type Strategy interface {
	// Name is the same for all values that may be mixed in one group.
	Name() string
	// Allocate returns what self gets of qs. Both lists are sorted and not
	// empty, qs by queue number and members by their bytes; they are lent for
	// the call, and the result may alias qs. No queues is a legal answer, as it
	// is for a self that is not in members.
	Allocate(group, self string, qs []message.Queue, members []string) ([]message.Queue, error)
}

// Errors of arguments that no strategy can work with.
var (
	errNoSelf    = errors.New("group: allocate: the member has no name")
	errNoQueues  = errors.New("group: allocate: no queues")
	errNoMembers = errors.New("group: allocate: no members")
)

// place is the check that all strategies begin with: self's place among the
// members, or -1.
func place(self string, qs []message.Queue, members []string) (int, error) {
	switch {
	case self == "":
		return -1, errNoSelf
	case len(qs) == 0:
		return -1, errNoQueues
	case len(members) == 0:
		return -1, errNoMembers
	}
	return slices.Index(members, self), nil
}

// Average gives each member one run of neighbouring queues; the first n mod k
// members get one queue more than the others. It is the default and RocketMQ's
// AVG.
func Average() Strategy { return average{} }

type average struct{}

func (average) Name() string { return "AVG" }

func (average) Allocate(_, self string, qs []message.Queue, members []string) ([]message.Queue, error) {
	i, err := place(self, qs, members)
	if err != nil || i < 0 {
		return nil, err
	}
	size, more := len(qs)/len(members), len(qs)%len(members)
	from := i*size + min(i, more)
	if i < more {
		size++
	}
	return qs[from : from+size], nil
}

// Circle deals the queues round like cards. It is RocketMQ's AVG_BY_CIRCLE.
func Circle() Strategy { return circle{} }

type circle struct{}

func (circle) Name() string { return "AVG_BY_CIRCLE" }

func (circle) Allocate(_, self string, qs []message.Queue, members []string) ([]message.Queue, error) {
	i, err := place(self, qs, members)
	if err != nil || i < 0 {
		return nil, err
	}
	var mine []message.Queue
	for ; i < len(qs); i += len(members) {
		mine = append(mine, qs[i])
	}
	return mine, nil
}

// Config gives a member the queues it names, whatever the others do: each
// member brings its own list, and the lists must not overlap. Queues that no
// list names, those of the group's retry topic included, have no holder. It is
// RocketMQ's CONFIG, except that a plan for one topic leaves out the list's
// queues of other topics.
func Config(qs ...message.Queue) Strategy { return config{slices.Clone(qs)} }

type config struct{ qs []message.Queue }

func (config) Name() string { return "CONFIG" }

func (s config) Allocate(_, self string, qs []message.Queue, members []string) ([]message.Queue, error) {
	i, err := place(self, qs, members)
	if err != nil || i < 0 {
		return nil, err
	}
	var mine []message.Queue
	for _, q := range s.qs {
		if q.Topic == qs[0].Topic {
			mine = append(mine, q)
		}
	}
	return mine, nil
}
