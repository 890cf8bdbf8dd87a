package consumequeue

import (
	"syscall"
	"testing"

	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

var topic0 = message.Queue{Topic: "topic", ID: 0}

func TestAppendRules(t *testing.T) {
	for _, c := range []struct {
		name       string
		run        func(s *Queues, q *Queue)
		start, end int64
		want       []Entry
	}{
		{"dense", func(_ *Queues, q *Queue) { fill(q, 0, 3) }, 0, 3, []Entry{nth(0), nth(1), nth(2)}},
		{"first offset is the start", func(_ *Queues, q *Queue) { fill(q, 7, 9) }, 7, 9, []Entry{nth(7), nth(8)}},
		{"repeated offset is left alone", func(_ *Queues, q *Queue) { fill(q, 0, 2); q.Append(0, nth(9)); q.Append(1, nth(9)) }, 0, 2, []Entry{nth(0), nth(1)}},
		{"missing offsets become pre-blank", func(_ *Queues, q *Queue) { fill(q, 0, 1); q.Append(3, nth(3)) }, 0, 4, []Entry{nth(0), Blank, Blank, nth(3)}},
		{"at the end whatever it says", func(_ *Queues, q *Queue) { fill(q, 5, 6); q.AppendAtEnd(nth(9)) }, 5, 7, []Entry{nth(5), nth(9)}},
		{"created further on", func(s *Queues, q *Queue) { s.Create(q.Name(), 40); fill(q, 40, 41) }, 40, 41, []Entry{nth(40)}},
		{"created further on drops older offsets", func(s *Queues, q *Queue) { s.Create(q.Name(), 40); q.Append(39, nth(39)) }, 40, 40, []Entry{}},
		{"created with entries stays", func(s *Queues, q *Queue) { fill(q, 0, 1); s.Create(q.Name(), 40) }, 0, 1, []Entry{nth(0)}},
		{"negative offset", func(_ *Queues, q *Queue) { q.Append(-1, nth(1)) }, 0, 0, []Entry{}},
		{"offset beyond all bounds", func(_ *Queues, q *Queue) { q.Append(1<<62, nth(1)) }, 0, 0, []Entry{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, memory(t), manual())
			q := s.Queue(topic0)
			c.run(s, q)
			for _, flushed := range []bool{false, true} {
				start, es := readAll(t, q)
				_, end := q.Bounds()
				require.Equal(t, c.start, start, flushed)
				require.Equal(t, c.end, end, flushed)
				require.Equal(t, c.want, es, flushed)
				require.NoError(t, s.Flush())
			}
			require.Empty(t, check(t, s, nil))
		})
	}
}

// The bytes RocketMQ finds: names, lengths, pre-blank entries up to the first
// offset, zeros behind the end.
func TestFilesAreRocketMQs(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(q *Queue)
		want map[string]string
	}{
		{"from the beginning", func(q *Queue) { fill(q, 0, 2) }, map[string]string{
			"topic/0/00000000000000000000": encode(nth(0), nth(1)) + zeros(60)}},
		{"full file", func(q *Queue) { fill(q, 0, 5) }, map[string]string{
			"topic/0/00000000000000000000": encode(nth(0), nth(1), nth(2), nth(3), nth(4))}},
		{"two files", func(q *Queue) { fill(q, 0, 6) }, map[string]string{
			"topic/0/00000000000000000000": encode(nth(0), nth(1), nth(2), nth(3), nth(4)),
			"topic/0/00000000000000000100": encode(nth(5)) + zeros(80)}},
		{"starts in the middle of a file", func(q *Queue) { fill(q, 8, 9) }, map[string]string{
			"topic/0/00000000000000000100": blanks(3) + encode(nth(8)) + zeros(20)}},
		{"starts at a file's beginning", func(q *Queue) { fill(q, 10, 11) }, map[string]string{
			"topic/0/00000000000000000200": encode(nth(10)) + zeros(80)}},
		{"a jump over a file", func(q *Queue) { fill(q, 3, 4); q.Append(11, nth(11)) }, map[string]string{
			"topic/0/00000000000000000000": blanks(3) + encode(nth(3)) + blanks(1),
			"topic/0/00000000000000000100": blanks(5),
			"topic/0/00000000000000000200": blanks(1) + encode(nth(11)) + zeros(60)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim := memory(t)
			o := manual()
			o.FileSize = 100
			s := open(t, sim, o)
			c.run(s.Queue(topic0))
			require.NoError(t, s.Flush())
			require.Equal(t, c.want, tree(t, sim.FS().Sub("consumequeue"), "."))
			require.Empty(t, check(t, s, nil))
			require.NoError(t, s.Flush(), "a second flush has nothing to do")
			require.Equal(t, c.want, tree(t, sim.FS().Sub("consumequeue"), "."))
		})
	}
}

func TestReadAcrossFilesAndTail(t *testing.T) {
	s := open(t, memory(t), manual())
	q := s.Queue(topic0)
	fill(q, 3, 40)
	require.NoError(t, s.Flush())
	fill(q, 40, 700)
	for from := int64(3); from <= 700; from++ {
		es := make([]Entry, 64)
		n, err := q.Read(from, es)
		require.NoError(t, err)
		require.Equal(t, min(64, int(700-from)), n)
		for i := range n {
			require.Equal(t, nth(from+int64(i)), es[i])
		}
	}
	for _, from := range []int64{-1, 0, 2, 701, 1 << 60} {
		_, err := q.Read(from, make([]Entry, 1))
		require.ErrorIs(t, err, message.ErrOutOfRange)
	}
}

// Law: an entry does not reach a file before the log has synced its record, and
// pre-blank entries wait for the record behind them.
func TestNothingUnsyncedReachesAFile(t *testing.T) {
	sim := memory(t)
	o := manual()
	var synced int64
	o.Synced = func() int64 { return synced }
	s := open(t, sim, o)
	q := s.Queue(topic0)
	fill(q, 0, 3)
	q.Append(5, nth(5))
	fill(q, 6, 8)
	for _, c := range []struct {
		synced int64
		want   string
	}{
		{0, ""}, {99, ""},
		{100, encode(nth(0))},
		{399, encode(nth(0), nth(1), nth(2))},
		{599, encode(nth(0), nth(1), nth(2))},
		{600, encode(nth(0), nth(1), nth(2)) + blanks(2) + encode(nth(5))},
		{800, encode(nth(0), nth(1), nth(2)) + blanks(2) + encode(nth(5), nth(6), nth(7))},
	} {
		synced = c.synced
		require.NoError(t, s.Flush())
		files := tree(t, sim.FS().Sub("consumequeue"), ".")
		if c.want == "" {
			require.Empty(t, files)
			continue
		}
		require.Equal(t, map[string]string{"topic/0/00000000000000000000": c.want + zeros(200-len(c.want))}, files)
		_, es := readAll(t, q)
		require.Equal(t, []Entry{nth(0), nth(1), nth(2), Blank, Blank, nth(5), nth(6), nth(7)}, es)
	}
}

func TestHugeGapTakesNoMemory(t *testing.T) {
	s := open(t, memory(t), manual())
	q := s.Queue(topic0)
	fill(q, 0, 1)
	before := s.Stats().TailBytes
	q.Append(1<<40, Entry{Position: 100, Size: 100})
	require.Less(t, s.Stats().TailBytes-before, int64(500))
	es := make([]Entry, 2)
	n, err := q.Read(1<<40-1, es)
	require.NoError(t, err)
	require.Equal(t, []Entry{Blank, {Position: 100, Size: 100}}, es[:n])
	require.Equal(t, int64(1<<40-1), s.Stats().Blanks)
	s.Delete("topic") // nothing to write at Close
}

func TestFullDiskLosesNothing(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	q := s.Queue(topic0)
	fill(q, 0, 300)
	sim.SetCapacity(1)
	require.ErrorIs(t, s.Flush(), syscall.ENOSPC)
	require.Error(t, s.Err())
	require.Error(t, s.Stats().Err)
	requireFilled(t, q, 0, 300)
	require.NoError(t, q.Damaged())
	s.Step()
	require.Error(t, s.Err())
	sim.SetCapacity(0)
	require.True(t, s.Step())
	require.NoError(t, s.Err())
	requireFilled(t, q, 0, 300)
	require.Empty(t, check(t, s, nil))
	require.Positive(t, s.Stats().Flushed)
}

func TestApply(t *testing.T) {
	o := manual()
	o.Skip = func(r *message.Record) bool { return r.Topic() == "dead" }
	s := open(t, memory(t), o)
	record := func(topic string, sysFlag int32, position, offset int64) *message.Record {
		var d message.Draft
		m := &message.Message{Topic: topic, Tag: "TagA", Body: []byte("x")}
		require.NoError(t, d.Encode(m, message.Queue{Topic: topic, ID: 2}, &message.Envelope{SysFlag: sysFlag}))
		d.Stamp(position, offset, 1)
		r, err := message.ParseRecord(d.Bytes())
		require.NoError(t, err)
		return &r
	}
	s.Apply(record("a", 0, 10, 0))
	s.Apply(record("a", message.FlagPrepared, 20, 0))
	s.Apply(record("dead", 0, 30, 0))
	r := record("a", message.FlagCommit, 40, 1)
	r.Home = holder{s.Queue(message.Queue{Topic: "a", ID: 2})}
	s.Apply(r)
	q, ok := s.Lookup(message.Queue{Topic: "a", ID: 2})
	require.True(t, ok)
	_, es := readAll(t, q)
	require.Equal(t, []Entry{
		{Position: 10, Size: int32(r.Size()), TagHash: 2598919},
		{Position: 40, Size: int32(r.Size()), TagHash: 2598919},
	}, es)
	_, ok = s.Lookup(message.Queue{Topic: "dead", ID: 2})
	require.False(t, ok)
}

type holder struct{ q *Queue }

func (h holder) ConsumeQueue() *Queue { return h.q }

func TestUnsafeTopicStaysInMemory(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	for _, topic := range []string{"..", ".", "", "a/b", "a\\b", "x\x00"} {
		q := s.Queue(message.Queue{Topic: topic})
		fill(q, 0, 300)
		requireFilled(t, q, 0, 300)
	}
	require.NoError(t, s.Flush())
	require.Empty(t, tree(t, sim.FS().Sub("consumequeue"), "."))
	save(t, s, 1)
}

func TestDelete(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	q := s.Queue(topic0)
	other := s.Queue(message.Queue{Topic: "topic2"})
	fill(q, 0, 300)
	fill(other, 0, 300)
	require.NoError(t, s.Flush())
	require.NoError(t, s.Delete("topic"))
	require.NoError(t, s.Delete("topic"))
	require.NoError(t, s.Delete("never there"))
	q.Append(300, nth(300))
	_, err := q.Read(0, make([]Entry, 1))
	require.ErrorIs(t, err, message.ErrNotFound)
	_, err = sim.FS().Stat("consumequeue/topic")
	require.True(t, isNotExist(err))
	requireFilled(t, other, 0, 300)

	again := s.Create(topic0, 300)
	require.NotSame(t, q, again)
	fill(again, 300, 310)
	require.NoError(t, s.Flush())
	requireFilled(t, again, 300, 310)
	require.Empty(t, check(t, s, nil))

	cut := sim.PowerCut(0, 1) // the folder does not come back
	_, err = cut.FS().Stat("consumequeue/topic/0/00000000000000000000")
	require.True(t, isNotExist(err))
}

func TestOptionsAreChecked(t *testing.T) {
	sim := memory(t)
	for _, o := range []Options{
		{}, {Synced: allSynced, FileSize: 30}, {Synced: allSynced, FileSize: -20}, {Synced: allSynced, TailBudget: -1}, {Synced: allSynced, FileSize: 1 << 40},
	} {
		_, err := Open(sim.FS(), sim.FS(), o)
		require.Error(t, err)
	}
}

func TestReadOnlyWritesNothing(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	q := s.Queue(topic0)
	fill(q, 0, 300)
	require.NoError(t, s.Flush())
	fill(q, 300, 310)
	save(t, s, 31000)
	fill(q, 310, 320)
	before := tree(t, sim.FS(), ".")

	ro, err := Open(sim.FS().Sub("consumequeue"), sim.FS().Sub("ember"), Options{FileSize: 200, ReadOnly: true})
	require.NoError(t, err)
	m, ok := ro.Saved()
	require.True(t, ok)
	require.Equal(t, int64(31000), m.Offset)
	rq, ok := ro.Lookup(topic0)
	require.True(t, ok)
	requireFilled(t, rq, 0, 310)
	fill(rq, 310, 700)
	requireFilled(t, rq, 0, 700)
	require.ErrorIs(t, ro.Flush(), message.ErrReadOnly)
	require.ErrorIs(t, ro.Freeze(message.Mark{})(), message.ErrReadOnly)
	require.False(t, ro.Step())
	require.NoError(t, ro.Delete("topic"))
	require.NoError(t, ro.Reset())
	require.NoError(t, ro.Close())
	require.Equal(t, before, tree(t, sim.FS(), "."))
}

// A reader beside a live writer that expires files meanwhile sees the queue
// begin later, not damage.
func TestReadOnlyBesideRetention(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	q := s.Queue(topic0)
	fill(q, 0, 100)
	require.NoError(t, s.Flush())
	save(t, s, 1)
	ro, err := Open(sim.FS().Sub("consumequeue"), sim.FS().Sub("ember"), Options{FileSize: 200, ReadOnly: true, LiveWriter: true})
	require.NoError(t, err)
	require.NoError(t, s.Expire(5500))
	save(t, s, 2)
	rq := ro.Queue(topic0)
	_, err = rq.Read(0, make([]Entry, 8))
	if err != nil {
		require.ErrorIs(t, err, message.ErrOutOfRange)
	}
	requireFilled(t, rq, 50, 100)
	require.NoError(t, ro.Close())
}
