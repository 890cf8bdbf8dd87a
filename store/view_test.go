package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func TestViewReplay(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	fillOrders(t, s, message.OnDisk, "a", "b", "c")
	require.NoError(t, s.Checkpoint(ctx))
	fillOrders(t, s, message.OnDisk, "d", "e")
	m.kill(s)
	s = m.open()
	require.EqualValues(t, 2, s.Stats().Recovery.Replayed)
	require.Empty(t, s.Stats().Recovery.Rebuilt)
	holds(t, s, "a", "b", "c", "d", "e")
}

func TestViewAhead(t *testing.T) {
	m := shortened(t, true)
	s := m.open(store.WithAcceptLog())
	require.Contains(t, s.Stats().Recovery.Rebuilt, "consumequeue")
	require.Contains(t, s.Stats().Recovery.Rebuilt, "topics")
	holds(t, s, numbered(1, 3)...)
}

func TestViewOtherMark(t *testing.T) {
	m := otherLog(t, true)
	s := m.open(store.WithAcceptLog())
	require.Contains(t, s.Stats().Recovery.Rebuilt, "consumequeue")
	holds(t, s, "a", "z")
}

func TestViewMissing(t *testing.T) {
	for name, spoil := range map[string]func(m *machine){
		"missing": func(m *machine) { require.NoError(m.t, m.root.Remove("ember/queues")) },
		"empty":   func(m *machine) { m.write("ember/queues", nil) },
		"flipped": func(m *machine) { m.edit("ember/queues", func(b []byte) { b[len(b)/2] ^= 1 }) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			s := m.open()
			fillOrders(t, s, message.OnDisk, numbered(1, 25)...)
			require.NoError(t, s.Close())
			spoil(m)
			s = m.open()
			require.Equal(t, []string{"consumequeue"}, s.Stats().Recovery.Rebuilt)
			holds(t, s, numbered(1, 25)...)
		})
	}
}

func TestQueueFilesDamaged(t *testing.T) {
	const file = "consumequeue/orders/0/00000000000000000000"
	for name, spoil := range map[string]func(m *machine){
		"missing": func(m *machine) { require.NoError(m.t, m.root.Remove(file)) },
		"shorter": func(m *machine) { m.write(file, m.read(file)[:40]) },
		"other":   func(m *machine) { m.edit(file, func(b []byte) { copy(b[20:40], b[40:60]) }) },
		"zeros":   func(m *machine) { m.edit(file, func(b []byte) { clear(b) }) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			s := m.open()
			fillOrders(t, s, message.OnDisk, numbered(1, 25)...)
			require.NoError(t, s.Close())
			spoil(m)
			s = m.open()
			require.Empty(t, s.Stats().Recovery.Rebuilt, "it is found at first use")
			for at := int64(0); at < 25; {
				b, err := s.Read(ctx, orders, at, message.Limit{Count: 1000}, nil)
				require.NoError(t, err, "a reader waits for the rebuild")
				require.Greater(t, b.Next, at)
				at = b.Next
			}
			holds(t, s, numbered(1, 25)...)
		})
	}
}

func TestViewBehindStart(t *testing.T) {
	m := newMachine(t)
	s := m.open(store.WithRetention(time.Hour))
	fillOrders(t, s, message.OnDisk, numbered(1, 3)...)
	require.NoError(t, s.Checkpoint(ctx))
	old := m.read("ember/queues")
	fillOrders(t, s, message.OnDisk, numbered(4, 100)...)
	m.clock.Advance(2 * time.Hour)
	fillOrders(t, s, message.OnDisk, "young")
	require.NoError(t, s.Retain())
	require.Positive(t, s.Log().Start())
	start, end, err := s.Bounds(orders)
	require.NoError(t, err)
	require.Positive(t, start)
	require.NoError(t, s.Close())
	m.write("ember/queues", old)
	s = m.open()
	require.Equal(t, []string{"consumequeue"}, s.Stats().Recovery.Rebuilt)
	gotStart, gotEnd, err := s.Bounds(orders)
	require.NoError(t, err)
	require.Equal(t, [2]int64{start, end}, [2]int64{gotStart, gotEnd})
	checkOK(t, s)
}

func TestTopicWithoutRecords(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "orders", WriteQueues: 3}))
	m.kill(s)
	m.sim = m.sim.PowerCut(0, 1)
	m.root = m.sim.FS()
	s = m.open()
	require.Len(t, s.Topics(), 1)
	require.Equal(t, 3, s.Topics()[0].WriteQueues)
	holds(t, s)
}

// meta changes the machine's key-value store by hand.
func (m *machine) meta(f func(db *kv.DB)) {
	m.t.Helper()
	db, err := kv.Open(m.root.Sub("ember/meta"), kv.Options{MustExist: true})
	require.NoError(m.t, err)
	f(db)
	require.NoError(m.t, db.Close())
}

func TestReplayUnknownTopic(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "orders", WriteQueues: 4}))
	put(t, s, &message.Message{Topic: "orders", QueueID: 2, Body: []byte("x")})
	fillOrders(t, s, message.OnDisk, "a")
	m.kill(s)
	m.meta(func(db *kv.DB) {
		var b kv.Batch
		b.Delete([]byte("p/topic/orders"))
		require.NoError(t, db.Apply(ctx, &b, true))
	})
	s = m.open()
	require.Equal(t, 3, s.Topics()[0].WriteQueues, "as many queues as the records need")
	holds(t, s, "a")
	require.Len(t, read(t, s, message.Queue{Topic: "orders", ID: 2}, 0, nil), 1)
}

func TestReplayDeletion(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	fillOrders(t, s, message.OnDisk, "a", "b")
	row, ok, err := s.Meta().Get([]byte("p/topic/orders"))
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, s.DeleteTopic(ctx, "orders"))
	m.kill(s)
	m.meta(func(db *kv.DB) { // as if the process had died right behind the record
		var b kv.Batch
		b.Set([]byte("p/topic/orders"), row)
		require.NoError(t, db.Apply(ctx, &b, true))
	})
	s = m.open()
	require.Empty(t, s.Topics())
	fillOrders(t, s, message.OnDisk, "c")
	start, _, err := s.Bounds(orders)
	require.NoError(t, err)
	require.EqualValues(t, 2, start)
	holds(t, s, "c")
}

// TestViewSubsets deletes derived state in every subset and demands the same
// queues, entry for entry and record for record.
func TestViewSubsets(t *testing.T) {
	build := newMachine(t)
	s := build.open(store.WithRetention(time.Hour))
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "quiet"}))
	put(t, s, &message.Message{Topic: "quiet", Body: []byte("all of it expires")})
	fillOrders(t, s, message.OnDisk, numbered(1, 90)...)
	require.NoError(t, s.Checkpoint(ctx))
	build.clock.Advance(2 * time.Hour)
	for i := range 60 {
		put(t, s, &message.Message{Topic: []string{"a", "b", "orders"}[i%3], QueueID: int32(i % 2), Tag: "t", Keys: []string{"k"}, Body: fmt.Appendf(nil, "%d", i)})
	}
	require.NoError(t, s.Retain())
	require.Positive(t, s.Log().Start())
	require.NoError(t, s.DeleteTopic(ctx, "a"))
	put(t, s, &message.Message{Topic: "a", Body: []byte("second life")})
	require.NoError(t, s.Close())

	at := func(subset int) (*machine, *store.Store) {
		sim := build.sim.Kill()
		m := &machine{t, sim, sim.FS(), build.clock}
		if subset&1 != 0 {
			require.NoError(t, removeTree(m.root, "consumequeue"))
		}
		if subset&2 != 0 {
			require.NoError(t, m.root.Remove("ember/queues"))
		}
		if subset&4 != 0 {
			m.meta(func(db *kv.DB) {
				var b kv.Batch
				b.DeleteRange([]byte("v/"), []byte("v0"))
				require.NoError(t, db.Apply(ctx, &b, true))
			})
		}
		if subset&8 != 0 {
			require.NoError(t, removeTree(m.root, "index"))
		}
		return m, m.open(store.WithRetention(time.Hour))
	}
	_, s = at(0)
	want := dumpQueues(t, s)
	require.Greater(t, len(want), 6)
	for subset := 1; subset < 16; subset++ {
		m, s := at(subset)
		require.Equal(t, want, dumpQueues(t, s), "subset %b", subset)
		checkOK(t, s)
		require.NoError(t, s.Close())
		s = m.open(store.WithRetention(time.Hour))
		require.True(t, s.Stats().Recovery.Clean)
		require.Equal(t, want, dumpQueues(t, s), "subset %b, reopened", subset)
	}
}

// dumpQueues is every queue's bounds, entries as their files hold them, and
// records.
func dumpQueues(t testing.TB, s *store.Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, q := range s.Queues().All() {
		require.NoError(t, q.Ready(ctx))
		start, end := q.Bounds()
		dump := fmt.Sprintf("%d..%d", start, end)
		for at := start; at < end; {
			var es [64]consumequeue.Entry
			n, err := q.Read(at, es[:])
			require.NoError(t, err)
			require.Positive(t, n)
			for _, e := range es[:n] {
				var b [consumequeue.EntrySize]byte
				e.Encode(b[:])
				r, err := s.Get(ctx, e.Position)
				require.NoError(t, err)
				dump += string(b[:]) + string(r.Bytes())
			}
			at += int64(n)
		}
		all[q.Name().String()] = dump
	}
	return all
}

// TestReplayRemovesFiles deletes a topic whose queues no saved image knows.
func TestReplayRemovesFiles(t *testing.T) {
	const file = "consumequeue/orders/0/00000000000000000000"
	m := newMachine(t)
	s := m.open()
	put(t, s, &message.Message{Topic: "other"})
	require.NoError(t, s.Checkpoint(ctx))
	fillOrders(t, s, message.OnDisk, numbered(1, 12)...)
	require.NoError(t, s.Queues().Flush())
	bytes := m.read(file)
	require.NoError(t, s.DeleteTopic(ctx, "orders"))
	m.kill(s)
	require.NoError(t, m.root.MkdirAll("consumequeue/orders/0")) // as if the process had died before it removed them
	m.write(file, bytes)
	s = m.open()
	checkOK(t, s)
	_, err := m.root.Stat("consumequeue/orders")
	require.Error(t, err)
}

// TestReplayDeletionThenCheckpoint dies at each operation of the checkpoint that
// follows the replay of a deletion. The next life of the topic continues the
// offsets whatever was saved of it.
func TestReplayDeletionThenCheckpoint(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	fillOrders(t, s, message.OnDisk, numbered(1, 3)...)
	require.NoError(t, s.Checkpoint(ctx))
	fillOrders(t, s, message.OnDisk, numbered(4, 6)...)
	row, _, err := s.Meta().Get([]byte("p/topic/orders"))
	require.NoError(t, err)
	require.NoError(t, s.DeleteTopic(ctx, "orders"))
	m.kill(s)
	m.meta(func(db *kv.DB) { // as if the process had died right behind the record
		var b kv.Batch
		b.Set([]byte("p/topic/orders"), row)
		require.NoError(t, db.Apply(ctx, &b, true))
	})
	tap := &tap{sim: m.sim}
	m.root = tap.fs()
	s = m.open()
	var dead []*crash.Sim
	tap.do(func() {
		tap.crash = func(c *crash.Sim) { dead = append(dead, c) }
		tap.picks = map[int]bool{}
		for op := range 200 {
			tap.picks[tap.ops+1+op] = false
		}
	})
	require.NoError(t, s.Checkpoint(ctx))
	tap.do(func() { tap.picks = nil })
	require.NoError(t, s.Close())
	require.Greater(t, len(dead), 8)
	for _, sim := range dead {
		for _, next := range []*crash.Sim{sim.Kill(), sim.PowerCut(crash.KeepNone, 1), sim.PowerCut(crash.KeepAll, 1)} {
			m := &machine{t, next, next.FS(), m.clock}
			s := m.open()
			require.Empty(t, s.Topics())
			r := put(t, s, &message.Message{Topic: "orders"})
			require.EqualValues(t, 6, r.Offset, next.Name())
			require.NoError(t, s.Close())
		}
	}
}
