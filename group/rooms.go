package group

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/embermq/embermq/message"
)

// Rooms tells where queues and members are: a machine room, a disk, a NUMA node.
type Rooms struct {
	Queue  func(q message.Queue) string
	Member func(id string) string
}

var errNoResolver = errors.New("group: allocate: nobody tells the rooms")

// MachineRoom shares only the queues in the rooms it names: as many neighbours
// to each member as go evenly, the rest one by one. It is RocketMQ's
// MACHINE_ROOM, which reads the room from a broker's name; here room tells it.
func MachineRoom(room func(q message.Queue) string, rooms ...string) Strategy {
	return machineRoom{room, slices.Clone(rooms)}
}

type machineRoom struct {
	room  func(q message.Queue) string
	rooms []string
}

func (machineRoom) Name() string { return "MACHINE_ROOM" }

func (s machineRoom) Allocate(_, self string, qs []message.Queue, members []string) ([]message.Queue, error) {
	i, err := place(self, qs, members)
	if err != nil || i < 0 {
		return nil, err
	}
	if s.room == nil {
		return nil, errNoResolver
	}
	var near []message.Queue
	for _, q := range qs {
		if slices.Contains(s.rooms, s.room(q)) {
			near = append(near, q)
		}
	}
	size, k := len(near)/len(members), len(members)
	mine := slices.Clone(near[i*size : (i+1)*size])
	if i < len(near)%k {
		mine = append(mine, near[size*k+i])
	}
	return mine, nil
}

// Nearby lets inner share each room's queues among the members in that room.
// The queues of a room without members are shared by all. A queue or member
// without a room is an error. It is RocketMQ's MACHINE_ROOM_NEARBY.
func Nearby(inner Strategy, rooms Rooms) Strategy { return nearby{inner, rooms} }

type nearby struct {
	inner Strategy
	rooms Rooms
}

func (s nearby) Name() string {
	if s.inner == nil {
		return "MACHINE_ROOM_NEARBY"
	}
	return "MACHINE_ROOM_NEARBY-" + s.inner.Name()
}

func (s nearby) Allocate(group, self string, qs []message.Queue, members []string) ([]message.Queue, error) {
	i, err := place(self, qs, members)
	if err != nil || i < 0 {
		return nil, err
	}
	if s.inner == nil || s.rooms.Queue == nil || s.rooms.Member == nil {
		return nil, errNoResolver
	}
	queuesIn, membersIn := make(map[string][]message.Queue), make(map[string][]string)
	for _, q := range qs {
		room := s.rooms.Queue(q)
		if room == "" {
			return nil, fmt.Errorf("group: allocate: queue %s has no room", q)
		}
		queuesIn[room] = append(queuesIn[room], q)
	}
	for _, m := range members {
		room := s.rooms.Member(m)
		if room == "" {
			return nil, fmt.Errorf("group: allocate: member %s has no room", m)
		}
		membersIn[room] = append(membersIn[room], m)
	}
	var mine []message.Queue
	for _, room := range slices.Sorted(maps.Keys(queuesIn)) {
		who := membersIn[room]
		if len(who) == 0 {
			who = members
		} else if !slices.Contains(who, self) {
			continue
		}
		part, err := s.inner.Allocate(group, self, queuesIn[room], who)
		if err != nil {
			return nil, err
		}
		mine = append(mine, part...)
	}
	return mine, nil
}
