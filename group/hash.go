package group

import (
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"

	"github.com/embermq/embermq/message"
)

// DefaultVirtualNodes is RocketMQ's number of points a member has on the ring
// of ConsistentHash.
const DefaultVirtualNodes = 10

var errVirtualNodes = errors.New("group: allocate: the number of virtual nodes is negative")

// ConsistentHash puts each member on a ring virtualNodes times (0: 10) and gives
// a queue to the next member clockwise. A member that comes or goes moves about
// one k-th of the queues and no others; in return the shares are uneven. It is
// RocketMQ's CONSISTENT_HASH.
func ConsistentHash(virtualNodes int) Strategy {
	if virtualNodes == 0 {
		virtualNodes = DefaultVirtualNodes
	}
	return consistent{virtualNodes}
}

type consistent struct{ virtualNodes int }

func (consistent) Name() string { return "CONSISTENT_HASH" }

// point is one place of a member on the ring.
type point struct {
	at     uint32
	member int
}

func (s consistent) Allocate(_, self string, qs []message.Queue, members []string) ([]message.Queue, error) {
	i, err := place(self, qs, members)
	if err != nil || i < 0 {
		return nil, err
	}
	if s.virtualNodes < 0 {
		return nil, errVirtualNodes
	}
	ring := s.ring(members)
	var mine []message.Queue
	for _, q := range qs {
		at, _ := slices.BinarySearchFunc(ring, ringHash(q.String()), func(p point, h uint32) int {
			return cmp.Compare(p.at, h)
		})
		if ring[at%len(ring)].member == i {
			mine = append(mine, q)
		}
	}
	return mine, nil
}

// ring holds the points in order. Of two that fall together the later one
// counts, as in the map that RocketMQ keeps them in.
func (s consistent) ring(members []string) []point {
	ring := make([]point, 0, len(members)*s.virtualNodes)
	for m, id := range members {
		for v := range s.virtualNodes {
			ring = append(ring, point{ringHash(id + "-" + strconv.Itoa(v)), m})
		}
	}
	slices.SortStableFunc(ring, func(a, b point) int { return cmp.Compare(a.at, b.at) })
	kept := ring[:0]
	for _, p := range ring {
		if n := len(kept); n > 0 && kept[n-1].at == p.at {
			kept[n-1] = p
			continue
		}
		kept = append(kept, p)
	}
	return kept
}

// ringHash is the first four bytes of the MD5 sum as an unsigned number.
func ringHash(s string) uint32 {
	sum := md5.Sum([]byte(s))
	return binary.BigEndian.Uint32(sum[:])
}
