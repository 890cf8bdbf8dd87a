package store_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// Small tests for invariants that no other test is about alone. The whole list
// stands in docs/testing.md.

// What a consumer of an OnDisk store has read is there after the power failed at
// that very moment, although its producer had asked for InCache only.
func TestI03ServedStays(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	served := 0
	for i, body := range numbered(1, 40) {
		d := []message.Durability{message.InCache, message.InCache, message.InCache, message.OnDisk}[i%4]
		m.clock.Advance(1)
		put(t, s, &message.Message{Topic: "orders", Body: []byte(body), Durability: d})
		if i%4 == 3 {
			require.NoError(t, s.Sync(ctx))
		}
		got := []message.Record{}
		if _, end, err := s.Bounds(orders); err == nil && end > 0 {
			got = read(t, s, orders, 0, nil)
		}
		require.GreaterOrEqual(t, len(got), served, "what was visible stays so")
		served = len(got)
		after := &machine{t, m.sim.PowerCut(crash.KeepNone, uint64(i)), nil, m.clock}
		after.root = after.sim.FS()
		s2 := after.open()
		kept := []message.Record{}
		if served > 0 {
			kept = read(t, s2, orders, 0, nil)
		}
		require.GreaterOrEqual(t, len(kept), served, "messages that were read are gone")
		for k := range got {
			require.Equal(t, got[k].Body(), kept[k].Body())
		}
		require.NoError(t, s2.Abandon())
	}
	require.Equal(t, 40, served)
}

// A sync of the log that fails, in each of the ways in which kernels let it fail,
// followed by each way to go on: no acknowledged message depends on the cache.
func TestI06FailedSync(t *testing.T) {
	for name, fault := range map[string]crash.SyncFault{"dropped": crash.SyncDropped, "reverted": crash.SyncReverted, "late": crash.SyncLate} {
		for _, end := range []string{"kill", "power cut", "kill, Open, power cut", "Close, power cut"} {
			for at := 1; at <= 6; at += 2 {
				t.Run(fmt.Sprint(name, ", ", end, ", ", at), func(t *testing.T) { failedSync(t, fault, end, at) })
			}
		}
	}
}

func failedSync(t *testing.T, fault crash.SyncFault, end string, at int) {
	m := newMachine(t)
	s := m.open()
	var acked []message.Receipt
	failed := false
	for i, body := range numbered(1, 8) {
		if i == at {
			m.sim.FailSync(firstSegment, fault)
		}
		r, err := s.Put(ctx, &message.Message{Topic: "orders", Body: []byte(body)})
		if err != nil {
			failed = true
			require.ErrorIs(t, err, store.ErrPoisoned)
			continue
		}
		// The late report comes with the next sync; only what that one covers is
		// known to be in danger, and the kernel has told nobody of the rest.
		require.False(t, failed, "an append behind a failed sync")
		acked = append(acked, r)
	}
	require.True(t, failed)
	require.Error(t, s.Stats().Poisoned)
	if fault != crash.SyncReverted {
		require.NotEmpty(t, read(t, s, orders, 0, nil), "reads go on")
	}
	drop := func(next *crash.Sim) {
		_ = s.Abandon() // it tells of the failure once more
		m.sim, m.root = next, next.FS()
	}
	cut := func() *crash.Sim { return m.sim.PowerCut(crash.KeepNone, 1) }
	switch end {
	case "kill":
		drop(m.sim.Kill())
	case "power cut":
		drop(cut())
	case "kill, Open, power cut":
		drop(m.sim.Kill())
		s = m.open()
		drop(cut())
	case "Close, power cut":
		require.Error(t, s.Close(), "a poisoned store is not closed cleanly")
		drop(cut())
	}
	s = m.open()
	require.False(t, s.Stats().Recovery.Clean)
	if fault == crash.SyncLate {
		// One acknowledgement was given on the kernel's word.
		acked = acked[:len(acked)-1]
	}
	got := read(t, s, orders, 0, nil)
	require.GreaterOrEqual(t, len(got), len(acked))
	for i, r := range acked {
		require.Equal(t, r.Offset, got[i].Offset())
	}
	checkOK(t, s)
}

// What Close has returned for survives a power cut; the next Open, and the power
// cut at each of its operations, change nothing in what is there.
func TestI11CloseAndOpen(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	fillOrders(t, s, message.InCache, numbered(1, 30)...)
	require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{orders: 7}))
	require.NoError(t, s.Close())
	closed := m.sim.PowerCut(crash.KeepNone, 1)
	same := func(sim *crash.Sim, clean bool) {
		t.Helper()
		after := &machine{t, sim, sim.FS(), m.clock}
		s := after.open()
		if clean {
			require.True(t, s.Stats().Recovery.Clean)
		}
		require.Zero(t, s.Stats().Recovery.Replayed)
		require.Empty(t, s.Stats().Recovery.Rebuilt)
		holds(t, s, numbered(1, 30)...)
		offset, ok, err := s.Committed(ctx, "g", orders)
		require.NoError(t, err)
		require.True(t, ok)
		require.EqualValues(t, 7, offset)
		require.NoError(t, s.Abandon())
	}
	same(closed.Kill(), true)
	var dead []*crash.Sim
	tp := &tap{sim: closed.Kill(), picks: map[int]bool{}}
	for op := range 400 {
		tp.picks[op] = op%2 == 0
	}
	tp.crash = func(c *crash.Sim) { dead = append(dead, c.PowerCut(crash.Random(0.5), uint64(len(dead))), c.Kill()) }
	e := env.Env{Open: func(string, bool) (fs.FS, error) { return tp.fs(), nil }, Clock: m.clock, Manual: true, PID: 7}
	s, err := store.Open("machine", store.WithEnvironment(e))
	require.NoError(t, err)
	ops := tp.done()
	require.NoError(t, s.Abandon())
	dead = dead[:min(len(dead), 2*ops)]
	require.Greater(t, len(dead), 10)
	for _, sim := range dead {
		same(sim, false)
	}
	t.Logf("%d operations in Open, %d images", ops, len(dead))
}

// A directory of the first version opens; one of a later version is refused, and
// not a byte of it changes.
func TestI17FormatIsFrozen(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	fillOrders(t, s, message.OnDisk, "a", "b")
	require.NoError(t, s.Close())
	text := string(m.read("ember/FORMAT"))
	require.Contains(t, text, "embermq 1\n")
	s = m.open()
	holds(t, s, "a", "b")
	require.NoError(t, s.Close())
	newer := withSum("embermq 2\n" + text[len("embermq 1\n"):len(text)-len("crc 01234567\n")])
	m.write("ember/FORMAT", []byte(newer))
	before := m.files()
	_, err := m.tryOpen()
	require.ErrorIs(t, err, store.ErrUnknownFormat)
	require.False(t, errors.Is(err, store.ErrCorrupt), "newer is not broken")
	require.Equal(t, before, m.files())
}

// withSum adds the last line of FORMAT.
func withSum(text string) string {
	return text + fmt.Sprintf("crc %08x\n", crc32.ChecksumIEEE([]byte(text)))
}
