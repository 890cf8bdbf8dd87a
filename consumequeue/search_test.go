package consumequeue

import (
	"fmt"
	"testing"

	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

func TestOffsetAt(t *testing.T) {
	// Offsets 3..8 were stored at these times; 9 and 10 are missing; 11 and 12 follow.
	times := map[int64]int64{3: 10, 4: 20, 5: 20, 6: 20, 7: 30, 8: 50, 11: 60, 12: 60}
	for _, flushed := range []bool{false, true} {
		s := open(t, memory(t), manual())
		q := s.Queue(topic0)
		fill(q, 3, 9)
		fill(q, 11, 13)
		if flushed {
			require.NoError(t, s.Flush())
		}
		storedAt := func(_ int64, e Entry) (int64, error) { return times[e.Position/100], nil }
		for _, c := range []struct {
			situation    string
			ms           int64
			lower, upper int64
		}{
			{"all after", 5, 3, 3},
			{"equals the first", 10, 3, 3},
			{"between two", 15, 4, 3},
			{"equals several", 20, 4, 6},
			{"between two, one equal on the left", 25, 7, 6},
			{"exact single", 30, 7, 7},
			{"gap to the right", 55, 11, 8},
			{"equals the last two", 60, 11, 12},
			{"all before", 61, 13, 12},
		} {
			t.Run(fmt.Sprintf("%s/flushed=%v", c.situation, flushed), func(t *testing.T) {
				got, err := q.OffsetAt(c.ms, message.Lower, storedAt)
				require.NoError(t, err)
				require.Equal(t, c.lower, got, "lower")
				got, err = q.OffsetAt(c.ms, message.Upper, storedAt)
				require.NoError(t, err)
				require.Equal(t, c.upper, max(got, 3), "upper")
			})
		}
		_, err := q.OffsetAt(20, message.Lower, func(int64, Entry) (int64, error) { return 0, errTest })
		require.ErrorIs(t, err, errTest)
		// Records that have expired count as older than everything.
		got, err := q.OffsetAt(0, message.Lower, func(_ int64, e Entry) (int64, error) {
			if e.Position < 600 {
				return 0, fmt.Errorf("gone: %w", message.ErrOutOfRange)
			}
			return times[e.Position/100], nil
		})
		require.NoError(t, err)
		require.Equal(t, int64(6), got)
	}
}

func TestOffsetAtOfEmptyQueue(t *testing.T) {
	s := open(t, memory(t), manual())
	q := s.Create(topic0, 40)
	for _, b := range []message.Bound{message.Lower, message.Upper} {
		got, err := q.OffsetAt(1, b, nil)
		require.NoError(t, err)
		require.Equal(t, int64(40), got)
	}
}

func TestExpire(t *testing.T) {
	for _, c := range []struct {
		min   int64
		start int64
		files []string // 10 entries each
	}{
		{0, 0, []string{"0", "200", "400"}},
		{1, 1, []string{"0", "200", "400"}},
		{900, 9, []string{"0", "200", "400"}},
		{1000, 10, []string{"200", "400"}},
		{1050, 11, []string{"200", "400"}},
		{2000, 20, []string{"400"}},
		{2400, 24, []string{"400"}},
		{1 << 40, 25, []string{"400"}},
	} {
		t.Run(fmt.Sprint(c.min), func(t *testing.T) {
			sim := memory(t)
			s := open(t, sim, manual())
			q := s.Queue(topic0)
			fill(q, 0, 25)
			require.NoError(t, s.Flush())
			save(t, s, 2500)
			all := tree(t, sim.FS().Sub("consumequeue"), ".")
			require.NoError(t, s.Expire(c.min))
			requireFilled(t, q, c.start, 25)
			require.Equal(t, all, tree(t, sim.FS().Sub("consumequeue"), "."), "files stay until the image no longer names them")
			save(t, s, 2500)
			want := map[string]string{}
			for _, f := range c.files {
				name := fmt.Sprintf("topic/0/%020s", f)
				want[name] = all[name]
			}
			require.Equal(t, want, tree(t, sim.FS().Sub("consumequeue"), "."))
			requireFilled(t, q, c.start, 25)
			fill(q, 25, 30)
			require.NoError(t, s.Flush())
			require.Empty(t, check(t, s, nil))

			again := open(t, sim, manual())
			requireFilled(t, again.Queue(topic0), c.start, 25)
		})
	}
}

func TestExpireInTailAndOverGaps(t *testing.T) {
	s := open(t, memory(t), manual())
	q := s.Queue(topic0)
	fill(q, 0, 4)
	require.NoError(t, s.Flush())
	q.Append(9, nth(9))
	fill(q, 10, 12)
	require.NoError(t, s.Expire(350))
	requireBounds(t, q, 9, 12)
	require.NoError(t, s.Expire(1001))
	requireBounds(t, q, 11, 12)
	require.NoError(t, s.Flush())
	requireFilled(t, q, 11, 12)
	require.Empty(t, check(t, s, nil))
}

func requireBounds(t *testing.T, q *Queue, start, end int64) {
	t.Helper()
	a, b := q.Bounds()
	require.Equal(t, []int64{start, end}, []int64{a, b})
}
