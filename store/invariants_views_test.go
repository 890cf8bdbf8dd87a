package store_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// Checks of single invariants on a simulated disk, small enough to be run against
// every planted bug: what is derived from the log, and what the log cannot give back.

// An entry that names the record of another offset leads nobody to it: the reader
// gets the right message, and the queue is dense.
func TestI04EntryOfAnother(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	fillOrders(t, s, message.OnDisk, numbered(1, 25)...)
	require.NoError(t, s.Queues().Flush())
	require.NoError(t, s.Checkpoint(ctx))
	m.kill(s)
	m.edit("consumequeue/orders/0/00000000000000000400", func(b []byte) {
		copy(b[20:], b[40:60]) // the entry of 21 is that of 22
	})
	s = m.open()
	for i, r := range read(t, s, orders, 20, nil) {
		require.EqualValues(t, 20+i, r.Offset())
	}
	holds(t, s, numbered(1, 25)...)
	checkOK(t, s)
	require.EqualValues(t, 1, s.Stats().QueuesRebuilt)
}

// Meta runs out of room in the middle of its work: it waits, reads go on, nothing
// breaks, and with room again it goes on by itself.
func TestI07MetaWaitsForRoom(t *testing.T) {
	l := newLab(t)
	r := put(t, l.s, &message.Message{Topic: "t", Body: []byte("x")})
	u := must(l.sim.FS().Usage())
	l.sim.SetCapacity(u.Total - u.Free - 4<<20) // more is missing than the ballast gives back
	done := make(chan error, 1)
	go func() {
		for i := range 300 {
			if err := l.s.CreateTopic(context.Background(), store.Topic{Name: fmt.Sprintf("%0100d", i)}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for l.s.Meta().Stats().Waiting == 0 {
		select {
		case err := <-done:
			t.Fatalf("it was to wait for room: %v", err)
		default:
			runtime.Gosched()
		}
	}
	require.NoError(t, l.s.Meta().Poison())
	require.Equal(t, "x", string(read(t, l.s, r.Queue, 0, nil)[0].Body()))
	l.sim.SetCapacity(1 << 40)
	for waiting := true; waiting; {
		select {
		case err := <-done:
			require.NoError(t, err)
			waiting = false
		default:
			l.clock.Advance(time.Second)
			runtime.Gosched()
		}
	}
	l.kill()
	require.Len(t, l.s.Topics(), 301)
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

// A committed offset stays what it is, through a kill and a reopen; when the log was
// made shorter and that was accepted, it goes back to the end and no further.
func TestI08OffsetAndEnd(t *testing.T) {
	m := shortened(t, false)
	s := m.open(store.WithAcceptLog())
	for range 2 {
		offset, ok, err := s.Committed(ctx, "billing", orders)
		require.NoError(t, err)
		require.True(t, ok)
		require.EqualValues(t, 3, offset)
		m.kill(s)
		s = m.open()
	}
	fillOrders(t, s, message.OnDisk, numbered(4, 6)...)
	offset, _, err := s.Committed(ctx, "billing", orders)
	require.NoError(t, err)
	require.EqualValues(t, 3, offset, "new messages are ahead of the group")
}

// Timers fire when they are due, not a millisecond before, and once, whatever
// happens to the process.
func TestI09OnceAndNotEarly(t *testing.T) {
	l := newLab(t)
	for i := range 5 {
		put(t, l.s, &message.Message{Topic: "t", Delay: time.Duration(i+1) * time.Minute, Body: binary.BigEndian.AppendUint32(nil, uint32(i))})
	}
	for i := range 5 {
		l.advance(time.Minute - time.Millisecond)
		if i > 0 || topicIsThere(l.s, "t") {
			require.Equal(t, i, l.count("t"))
		}
		l.advance(time.Millisecond)
		require.Equal(t, i+1, l.count("t"))
		l.kill()
		l.run()
		require.Equal(t, i+1, l.count("t"))
	}
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}

func topicIsThere(s *store.Store, topic string) bool {
	_, _, err := s.Bounds(message.Queue{Topic: topic})
	return err == nil
}

// A half message is seen by nobody before its verdict, and the first verdict is the
// answer to every later one.
func TestI10FirstVerdict(t *testing.T) {
	l := newLab(t)
	a, b := l.prepare("orders", "a"), l.prepare("orders", "b")
	require.Zero(t, l.count("orders"))
	require.Equal(t, message.Committed, l.commit(a))
	require.Equal(t, message.RolledBack, l.rollback(b))
	for range 2 {
		for _, again := range []func(message.HalfID) message.Decision{l.commit, l.rollback} {
			require.Equal(t, message.Committed, again(a))
			require.Equal(t, message.RolledBack, again(b))
		}
		require.Equal(t, 1, l.count("orders"))
		l.kill()
	}
	checkOK(t, l.s)
	require.NoError(t, l.s.Close())
}
