package group_test

import (
	"fmt"
	"strings"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

// How each strategy shares six queues between two members.
func ExampleStrategy() {
	var qs []message.Queue
	for i := range int32(6) {
		qs = append(qs, message.Queue{Topic: "orders", ID: i})
	}
	odd := func(q message.Queue) string {
		if q.ID%2 == 1 {
			return "east"
		}
		return "west"
	}
	rooms := group.Rooms{Queue: odd, Member: func(id string) string { return strings.TrimPrefix(id, "in-") }}
	members := []string{"in-east", "in-west"}
	for _, s := range []group.Strategy{
		group.Average(), group.Circle(), group.Config(qs[5]), group.ConsistentHash(0),
		group.MachineRoom(odd, "east"), group.Nearby(group.Average(), rooms),
	} {
		mine, err := s.Allocate("billing", "in-east", qs, members)
		fmt.Println(s.Name(), mine, err)
	}
	// Output:
	// AVG [orders/0 orders/1 orders/2] <nil>
	// AVG_BY_CIRCLE [orders/0 orders/2 orders/4] <nil>
	// CONFIG [orders/5] <nil>
	// CONSISTENT_HASH [orders/0 orders/3 orders/5] <nil>
	// MACHINE_ROOM [orders/1 orders/5] <nil>
	// MACHINE_ROOM_NEARBY-AVG [orders/1 orders/3 orders/5] <nil>
}
