package group

import (
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

func queues(n int) []message.Queue {
	qs := make([]message.Queue, n)
	for i := range qs {
		qs[i] = message.Queue{Topic: "t", ID: int32(i)}
	}
	return qs
}

func ids(k int) []string {
	ms := make([]string, k)
	for i := range ms {
		ms[i] = fmt.Sprintf("c%d", i)
	}
	slices.Sort(ms)
	return ms
}

// allocate asks for every member and writes the answers as "0,1|2".
func allocate(t *testing.T, s Strategy, qs []message.Queue, members []string) string {
	t.Helper()
	var all []string
	for _, m := range members {
		mine, err := s.Allocate("g", m, qs, members)
		require.NoError(t, err)
		var parts []string
		for _, q := range mine {
			parts = append(parts, fmt.Sprint(q.ID))
		}
		all = append(all, strings.Join(parts, ","))
	}
	return strings.Join(all, "|")
}

// room places queues 0-3 in A, 4-5 in B and the rest in C; c0 and c1 are in A,
// c2 in B.
var room = Rooms{
	Queue: func(q message.Queue) string {
		switch {
		case q.ID < 4:
			return "A"
		case q.ID < 6:
			return "B"
		}
		return "C"
	},
	Member: func(id string) string {
		if id == "c2" {
			return "B"
		}
		return "A"
	},
}

func TestStrategies(t *testing.T) {
	firstFive := func(q message.Queue) string {
		if q.ID < 5 {
			return "A"
		}
		return "B"
	}
	cases := []struct {
		name string
		s    Strategy
		n, k int
		want string
	}{
		{"avg_8_3", Average(), 8, 3, "0,1,2|3,4,5|6,7"},
		{"avg_5_2", Average(), 5, 2, "0,1,2|3,4"},
		{"avg_2_3", Average(), 2, 3, "0|1|"},
		{"circle_8_3", Circle(), 8, 3, "0,3,6|1,4,7|2,5"},
		{"circle_5_2", Circle(), 5, 2, "0,2,4|1,3"},
		{"circle_2_3", Circle(), 2, 3, "0|1|"},
		{"config", Config(queues(8)[6], queues(8)[1], message.Queue{Topic: "other", ID: 3}), 8, 2, "6,1|6,1"},
		{"config_ignores_the_topic", Config(message.Queue{Topic: "t", ID: 90}), 2, 1, "90"},
		{"machine_room", MachineRoom(firstFive, "A"), 8, 3, "0,3|1,4|2"},
		{"machine_room_both", MachineRoom(firstFive, "A", "B"), 8, 3, "0,1,6|2,3,7|4,5"},
		{"machine_room_unknown", MachineRoom(firstFive, "Z"), 8, 3, "||"},
		{"nearby_avg", Nearby(Average(), room), 8, 3, "0,1,6|2,3,7|4,5"},
		{"nearby_circle", Nearby(Circle(), room), 8, 3, "0,2,6|1,3,7|4,5"},
		{"nearby_nobody_in_b", Nearby(Average(), room), 8, 2, "0,1,4,6|2,3,5,7"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, allocate(t, c.s, queues(c.n), ids(c.k)))
		})
	}
}

func every() []Strategy {
	return []Strategy{
		Average(), Circle(), Config(queues(1)...), MachineRoom(room.Queue, "A"), Nearby(Average(), room), ConsistentHash(0),
	}
}

func TestStrategyArguments(t *testing.T) {
	for _, s := range every() {
		t.Run(s.Name(), func(t *testing.T) {
			_, err := s.Allocate("g", "", queues(2), ids(1))
			require.ErrorIs(t, err, errNoSelf)
			_, err = s.Allocate("g", "c0", nil, ids(1))
			require.ErrorIs(t, err, errNoQueues)
			_, err = s.Allocate("g", "c0", queues(2), nil)
			require.ErrorIs(t, err, errNoMembers)
			mine, err := s.Allocate("g", "stranger", queues(2), ids(1))
			require.NoError(t, err)
			require.Empty(t, mine)
		})
	}
	names := []string{"AVG", "AVG_BY_CIRCLE", "CONFIG", "MACHINE_ROOM", "MACHINE_ROOM_NEARBY-AVG", "CONSISTENT_HASH"}
	for i, s := range every() {
		require.Equal(t, names[i], s.Name())
	}
}

func TestStrategyMistakes(t *testing.T) {
	nowhere := Rooms{Queue: func(message.Queue) string { return "" }, Member: room.Member}
	noMember := Rooms{Queue: room.Queue, Member: func(string) string { return "" }}
	for name, s := range map[string]Strategy{
		"machine_room_without_resolver": MachineRoom(nil, "A"),
		"nearby_without_resolver":       Nearby(Average(), Rooms{}),
		"nearby_without_inner":          Nearby(nil, room),
		"queue_without_room":            Nearby(Average(), nowhere),
		"member_without_room":           Nearby(Average(), noMember),
		"inner_fails":                   Nearby(ConsistentHash(-1), room),
		"negative_virtual_nodes":        ConsistentHash(-1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Allocate("g", "c0", queues(8), ids(3))
			require.Error(t, err)
			require.NotEmpty(t, s.Name())
		})
	}
}

// TestRing compares the ring with the definition, worked out the slow way.
func TestRing(t *testing.T) {
	hash := func(s string) (h uint64) {
		sum := md5.Sum([]byte(s))
		for _, b := range sum[:4] {
			h = h<<8 | uint64(b)
		}
		return h
	}
	// The first eight digits of md5sum's answer.
	require.Equal(t, uint64(0x900150983cd24fb0>>32), hash("abc"))
	require.Equal(t, uint32(0x90015098), ringHash("abc"))

	qs, members := queues(200), ids(7)
	owner := make(map[message.Queue]string)
	for _, m := range members {
		mine, err := ConsistentHash(10).Allocate("g", m, qs, members)
		require.NoError(t, err)
		for _, q := range mine {
			require.Empty(t, owner[q])
			owner[q] = m
		}
	}
	for _, q := range qs {
		const ring = 1 << 32
		best, who := uint64(ring), ""
		for _, m := range members {
			for v := range 10 {
				clockwise := (hash(fmt.Sprintf("%s-%d", m, v)) + ring - hash(fmt.Sprintf("t/%d", q.ID))) % ring
				if clockwise <= best {
					best, who = clockwise, m
				}
			}
		}
		require.Equal(t, who, owner[q], q.String())
	}
}

// TestRingMoves takes one of k members away: only its queues move, about one in
// k.
func TestRingMoves(t *testing.T) {
	const n, k = 2000, 10
	qs, members := queues(n), ids(k)
	owners := func(members []string) map[message.Queue]string {
		o := make(map[message.Queue]string)
		for _, m := range members {
			mine, err := ConsistentHash(0).Allocate("g", m, qs, members)
			require.NoError(t, err)
			for _, q := range mine {
				o[q] = m
			}
		}
		require.Len(t, o, n)
		return o
	}
	before := owners(members)
	for i, gone := range members {
		after, moved := owners(slices.Delete(slices.Clone(members), i, i+1)), 0
		for q, m := range before {
			if m == gone {
				moved++
			} else {
				require.Equal(t, m, after[q], "a queue of somebody else moved")
			}
		}
		// Ten points each leave the shares uneven, but of that order.
		require.Greater(t, moved, n/k/4, gone)
		require.Less(t, moved, n/k*3, gone)
	}
}

// checkShare demands a partition: every queue once, and balanced shares from
// the strategies that promise them.
func checkShare(t *testing.T, s Strategy, balanced bool, n, k int) {
	t.Helper()
	qs, members := queues(n), ids(k)
	seen, least, most := make(map[message.Queue]bool), n, 0
	for _, m := range members {
		mine, err := s.Allocate("g", m, qs, members)
		require.NoError(t, err)
		least, most = min(least, len(mine)), max(most, len(mine))
		for _, q := range mine {
			if seen[q] || q.Topic != "t" || q.ID < 0 || int(q.ID) >= n {
				t.Fatalf("%s: %s is foreign or there twice", s.Name(), q)
			}
			seen[q] = true
		}
	}
	require.Len(t, seen, n, s.Name())
	if balanced {
		require.LessOrEqual(t, most-least, 1, s.Name())
	}
}

func FuzzStrategies(f *testing.F) {
	f.Add(uint8(8), uint8(3), uint8(2))
	f.Add(uint8(1), uint8(40), uint8(1))
	f.Add(uint8(100), uint8(1), uint8(9))
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		f.Add(uint8(rnd.Uint32()), uint8(rnd.Uint32()), uint8(rnd.Uint32()))
	}
	f.Fuzz(func(t *testing.T, n, k, rooms uint8) {
		queues, members, r := int(n)+1, int(k)%60+1, int32(rooms)%5+1
		near := Rooms{
			Queue:  func(q message.Queue) string { return fmt.Sprint(q.ID % r) },
			Member: func(id string) string { return fmt.Sprint(int32(id[len(id)-1]) % r) },
		}
		all := []string{"0", "1", "2", "3", "4"}
		checkShare(t, Average(), true, queues, members)
		checkShare(t, Circle(), true, queues, members)
		checkShare(t, ConsistentHash(int(rooms)%20), false, queues, members)
		checkShare(t, MachineRoom(near.Queue, all...), true, queues, members)
		checkShare(t, Nearby(Average(), near), false, queues, members)
		checkShare(t, Nearby(ConsistentHash(3), near), false, queues, members)
	})
}
