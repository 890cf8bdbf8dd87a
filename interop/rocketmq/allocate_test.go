package rocketmq

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/interop/rocketmq/oracle"
	"github.com/embermq/embermq/message"
)

const allocations = 10_000

// room is the room of a name such as "room1@x".
func room(name string) string {
	before, _, _ := strings.Cut(name, "@")
	return before
}

// TestAllocations: every strategy gives a member what RocketMQ's gives it. A
// queue has no broker here, so the room of queue i is written into a table; and
// the ring of CONSISTENT_HASH, which hashes a queue's text, gives other queues
// than RocketMQ's, whose text names a broker: there only the shares are compared.
func TestAllocations(t *testing.T) {
	j, r := java(t), random(t, 40)
	names := []string{"average", "circle", "config", "room", "nearby"}
	count := make(map[string]int)
	for n := range allocations {
		a := randomAllocation(r, names[n%len(names)])
		theirs, err := j.Allocate(t.Context(), a)
		ours, ourErr := allocateOurs(a)
		if err != nil {
			require.Error(t, ourErr, "%+v: %v", a, err)
			continue
		}
		require.NoError(t, ourErr, "%+v", a)
		if len(theirs) == 0 {
			theirs = nil
		}
		if a.Strategy == "nearby" { // rooms come in another order
			slices.Sort(theirs)
			slices.Sort(ours)
		}
		require.Equal(t, theirs, ours, "%+v", a)
		count[a.Strategy]++
	}
	for _, name := range names {
		require.Greater(t, count[name], allocations/10, name)
	}
	fmt.Printf("allocations: %v equal\n", count)
}

// TestConsistentHash: RocketMQ's ring and ours share queues out completely.
func TestConsistentHash(t *testing.T) {
	j, r := java(t), random(t, 41)
	for range 200 {
		a := randomAllocation(r, "hash")
		var theirs, ours []int
		for _, a.Consumer = range a.Consumers {
			part, err := j.Allocate(t.Context(), a)
			require.NoError(t, err)
			theirs = append(theirs, part...)
			part, err = allocateOurs(a)
			require.NoError(t, err)
			ours = append(ours, part...)
		}
		slices.Sort(theirs)
		slices.Sort(ours)
		require.Equal(t, theirs, ours)
	}
}

func randomAllocation(r *rand.Rand, strategy string) oracle.Allocation {
	a := oracle.Allocation{Strategy: strategy, Group: "g", Virtual: 1 + r.IntN(20)}
	for i := range 1 + r.IntN(12) {
		a.Consumers = append(a.Consumers, fmt.Sprintf("room%d@c%02d", r.IntN(3), i))
	}
	slices.Sort(a.Consumers)
	for i := range 1 + r.IntN(24) {
		a.Queues = append(a.Queues, oracle.AllocateQueue{Topic: "t", Broker: fmt.Sprintf("room%d@b", r.IntN(4)), Queue: i})
	}
	a.Consumer = a.Consumers[r.IntN(len(a.Consumers))]
	// CONFIG gives a stranger its queues in RocketMQ; here a plan has members only.
	if r.IntN(10) == 0 && strategy != "hash" && strategy != "config" {
		a.Consumer = "room0@nobody"
	}
	for i := range 3 {
		if r.IntN(2) == 0 {
			a.Rooms = append(a.Rooms, fmt.Sprintf("room%d", i))
		}
	}
	if a.Rooms == nil {
		a.Rooms = []string{"room0"}
	}
	for i := range a.Queues {
		if r.IntN(3) == 0 {
			a.Fixed = append(a.Fixed, i)
		}
	}
	if a.Fixed == nil {
		a.Fixed = []int{0}
	}
	return a
}

func allocateOurs(a oracle.Allocation) (out []int, err error) {
	var qs, fixed []message.Queue
	for _, q := range a.Queues {
		qs = append(qs, message.Queue{Topic: q.Topic, ID: int32(q.Queue)})
	}
	for _, i := range a.Fixed {
		fixed = append(fixed, qs[i])
	}
	roomOf := func(q message.Queue) string { return room(a.Queues[q.ID].Broker) }
	s := map[string]group.Strategy{
		"average": group.Average(), "circle": group.Circle(), "config": group.Config(fixed...), "hash": group.ConsistentHash(a.Virtual),
		"room":   group.MachineRoom(roomOf, a.Rooms...),
		"nearby": group.Nearby(group.Average(), group.Rooms{Queue: roomOf, Member: room}),
	}[a.Strategy]
	got, err := s.Allocate(a.Group, a.Consumer, qs, a.Consumers)
	for _, q := range got {
		out = append(out, int(q.ID))
	}
	return out, err
}
