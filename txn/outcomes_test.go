package txn

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

// TestOutcomes compares the ring with a list of all verdicts, also after it was
// saved and loaded at any point.
func TestOutcomes(t *testing.T) {
	for _, most := range []int{1, 7, 200, 3000} {
		rnd := rand.New(rand.NewPCG(1, uint64(most)))
		o := newOutcomes(most)
		var all []remembered
		some := func() (i ident) {
			binary.BigEndian.PutUint64(i[:], 1+rnd.Uint64N(uint64(2*most)))
			return i
		}
		for n := range 4 * most {
			v := remembered{some(), message.Committed + message.Decision(rnd.IntN(2))}
			o.add(v.id, v.how)
			all = append(all, v)
			want := make(map[ident]message.Decision)
			last := all[max(0, len(all)-most):]
			if most <= 200 || n%500 == 0 {
				for _, v := range last {
					want[v.id] = v.how
				}
				for _, v := range all {
					require.Equal(t, want[v.id], o.get(v.id), "most %d, after %d", most, n)
				}
				i := some()
				require.Equal(t, want[i], o.get(i))
			}
			if rnd.IntN(most) == 0 {
				var ring []remembered
				for page := 0; page*pageLen < len(o.ring); page++ {
					ring = append(ring, o.page(page)...)
				}
				require.Equal(t, o.ring, ring)
				loaded := newOutcomes(most)
				loaded.load(ring, o.next())
				o = loaded
			}
		}
	}
}

// BenchmarkOutcomes is what remembering costs each verdict when the ring is full.
func BenchmarkOutcomes(b *testing.B) {
	o := newOutcomes(DefaultRemember)
	var n uint64
	for b.Loop() {
		n++
		o.add(ident{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}, message.Committed)
	}
}
