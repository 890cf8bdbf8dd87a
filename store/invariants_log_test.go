package store_test

import (
	"encoding/binary"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// Checks of single invariants on a simulated disk, small enough to be run against
// every planted bug: the log and the files beside it.

// What Put has returned for is there with its bytes and its offset, in whatever
// segment it lies, after the power failed at that moment; and after a kill of the
// process that recovered it and one more power cut.
func TestI01AcknowledgedSurvives(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	bodies := numbered(1, 70)
	for i, body := range bodies {
		r := put(t, s, &message.Message{Topic: "orders", Body: []byte(body)})
		require.EqualValues(t, i, r.Offset)
		if i%4 != 1 {
			continue
		}
		sim := m.sim.PowerCut(crash.KeepNone, uint64(i))
		for death := range 3 {
			after := &machine{t, sim, sim.FS(), m.clock}
			again := after.open()
			holds(t, again, bodies[:i+1]...)
			if death == 0 {
				sim = sim.Kill()
			} else {
				sim = sim.PowerCut(crash.KeepNone, uint64(death))
			}
			require.NoError(t, again.Abandon())
		}
	}
	require.Greater(t, len(s.Log().Segments()), 1)
}

// Two whole records that the disk returns in each other's place are not taken for those
// that were written there.
func TestI02StaleRecord(t *testing.T) {
	const sector = 512
	m := newMachine(t)
	s := m.open()
	fill := func(topic string, n int64) message.Receipt {
		return put(t, s, &message.Message{Topic: topic, Body: []byte("x" + strings.Repeat(".", int(n)))})
	}
	for _, topic := range []string{"topic-a", "topic-b"} {
		require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: topic}))
	}
	from := fill("probe-1", 0).Position
	size := fill("probe-1", 0).Position - from // of a record with one byte
	// The third one ends on a border of sectors, and those behind it fill one each.
	fill("probe-1", (sector-(from+3*size)%sector)%sector)
	first, second := fill("topic-a", sector-size), fill("topic-b", sector-size)
	require.Zero(t, first.Position%sector)
	require.Equal(t, first.Position+sector, second.Position)
	require.NoError(t, m.sim.SwapSectors(firstSegment, first.Position, second.Position))
	for _, at := range []int64{first.Position, second.Position} {
		var r message.Record
		_, err := s.Log().Record(at, sector, nil, &r)
		require.ErrorIs(t, err, store.ErrCorrupt)
	}
	m.kill(s)
	m.corrupt()
}

// A file whose chain leads in a circle neither hangs nor misleads a query: it is
// named, built anew, and the query answered.
func TestI13CircleInIndex(t *testing.T) {
	m := newMachine(t)
	opts := []store.Option{store.WithIndexSizes(16, 64)}
	s := m.open(opts...)
	for range 150 {
		put(t, s, &message.Message{Topic: "orders", Keys: []string{"k"}, Body: []byte("x")})
	}
	require.NoError(t, s.Checkpoint(ctx))
	require.NoError(t, s.Close())
	list, err := m.root.List("index")
	require.NoError(t, err)
	require.Greater(t, len(list), 2)
	m.edit(path.Join("index", list[0].Name), func(b []byte) {
		const entry = 30
		binary.BigEndian.PutUint32(b[40+4*16+20*entry+16:], entry) // its own predecessor
	})
	s = m.open(opts...)
	find := func() (n int, err error) {
		for _, e := range s.Find(ctx, index.Query{Topic: "orders", Key: "k", Limit: 200}) {
			if e != nil {
				err = e
				continue
			}
			n++
		}
		return n, err
	}
	_, err = find()
	require.ErrorIs(t, err, store.ErrCorrupt)
	n, err := find()
	require.NoError(t, err)
	require.Equal(t, 150, n)
}
