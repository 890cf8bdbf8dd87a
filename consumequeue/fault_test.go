package consumequeue

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

// Every operation of a scenario fails once, and then from some point on for
// ever until the disk is healed. Whatever happens, entries stay readable, the
// next save works, and a reopen finds all of it.
func TestEveryOperationFails(t *testing.T) {
	ops := []fs.Op{fs.OpOpen, fs.OpCreate, fs.OpRead, fs.OpWrite, fs.OpTruncate, fs.OpSync, fs.OpSyncDir, fs.OpSyncFS, fs.OpRename, fs.OpRemove, fs.OpMkdir, fs.OpList, fs.OpSize, fs.OpNextData, fs.OpClose}
	fired := map[fs.Op]int{}
	for _, op := range ops {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			for _, times := range []int{1, -1} {
				for after := 0; ; after += 1 + after/8 {
					n := faultScenario(t, fs.Fault{Ops: op, After: after, Times: times, Err: cause, Short: 7})
					if n == 0 {
						break
					}
					fired[op] += n
				}
			}
		}
	}
	for _, op := range ops {
		if op != fs.OpNextData { // the scenario reopens before it writes to an old file only when all is well
			require.Positive(t, fired[op], "operation %b never failed", op)
		}
	}
}

func faultScenario(t *testing.T, fault fs.Fault) (fired int) {
	t.Helper()
	name := fmt.Sprintf("%+v", fault)
	sim := memory(t)
	faulty := fs.NewFaulty(sim.FS())
	clk := clock.NewManual(time.UnixMilli(0))
	const queues = 20
	ends := [queues]int64{}
	var start int64
	o := Options{FileSize: 200, Manual: true, MaxOpenFiles: 3, Synced: allSynced, Clock: clk,
		Rebuild: func(_ context.Context, qs []*Queue) error {
			for _, q := range qs {
				_, end := q.Bounds()
				for i := start; i < end; i++ {
					q.Restore(i, nth(i))
				}
			}
			return nil
		}}
	open := func() (*Queues, error) { return Open(faulty.Sub("consumequeue"), faulty.Sub("ember"), o) }
	s, err := open()
	require.NoError(t, err)
	saved := false
	saveIt := func() bool { saved = s.Freeze(message.Mark{Offset: 1})() == nil || saved; return saved }
	add := func(n int64) {
		for i := range ends {
			fill(s.Queue(queueName(i)), ends[i], ends[i]+n)
			ends[i] += n
		}
	}
	readable := func() {
		for i := range ends {
			q := s.Queue(queueName(i))
			from, _ := q.Bounds()
			es := make([]Entry, ends[i]-from)
			n, err := q.Read(from, es)
			if err != nil {
				require.True(t, errors.Is(err, ErrDamaged) || errors.Is(err, fault.Err), "%s: %v", name, err)
			}
			for k, e := range es[:n] {
				require.Equal(t, nth(from+int64(k)), e, name)
			}
		}
	}

	add(12)
	faulty.Fail(fault)
	_ = s.Flush()
	readable()
	saveIt()
	add(15)
	_ = s.Flush()
	start = 11
	_ = s.Expire(1100)
	saveIt()
	readable()
	_ = s.Delete(queueName(0).Topic)
	for i := range 4 {
		s.Create(queueName(i), ends[i])
	}
	_ = s.Close()
	if s, err = open(); err != nil {
		require.ErrorIs(t, err, fault.Err, name)
		faulty.Heal()
		s, err = open()
		require.NoError(t, err, name)
	}
	faulty.Heal()
	fired = faulty.Fired()

	_, ok := s.Saved()
	require.True(t, ok || !saved, "%s: a save that succeeded is lost", name)
	if !ok {
		require.NoError(t, s.Reset(), name)
	}
	require.NoError(t, s.Delete(queueName(0).Topic), name) // as a replay repeats it
	for i := range 4 {
		s.Create(queueName(i), ends[i])
	}
	for i := 4; i < queues; i++ { // replay
		fill(s.Queue(queueName(i)), start, ends[i])
	}
	require.NoError(t, s.Expire(1100), name)
	add(5)
	clk.Advance(time.Hour)
	for s.Step() {
		clk.Advance(time.Hour)
	}
	require.NoError(t, s.Flush(), name)
	for i := range ends {
		q := s.Queue(queueName(i))
		require.NoError(t, q.Ready(context.Background()), name)
		if i < 4 {
			requireFilled(t, q, 27, ends[i])
			continue
		}
		requireFilled(t, q, start, ends[i])
	}
	require.NoError(t, s.Flush(), name)
	require.NoError(t, s.Freeze(message.Mark{Offset: 9})(), name)
	require.Empty(t, check(t, s, nil), name)
	require.NoError(t, s.Close(), name)
	require.Zero(t, faulty.Counts().OpenFiles, name)
	s, err = open()
	require.NoError(t, err)
	for i := 4; i < queues; i++ {
		requireFilled(t, s.Queue(queueName(i)), start, ends[i])
	}
	require.NoError(t, s.Close())
	return fired
}

// What somebody put behind the end of a file is gone after the first flush, so
// that RocketMQ does not take it for entries.
func TestFirstWriteClearsBehindTheEnd(t *testing.T) {
	sim := memory(t)
	s := open(t, sim, manual())
	fill(s.Queue(topic0), 0, 3)
	require.NoError(t, s.Flush())
	save(t, s, 1)
	require.NoError(t, s.Close())
	const name = "consumequeue/topic/0/00000000000000000000"
	writeAt(t, sim.FS(), name, []byte(encode(nth(7), nth(8))), 120)
	s = open(t, sim, manual())
	fill(s.Queue(topic0), 3, 4)
	require.NoError(t, s.Flush())
	b, err := fs.Read(sim.FS(), name)
	require.NoError(t, err)
	require.Equal(t, encode(nth(0), nth(1), nth(2), nth(3))+zeros(120), string(b))
}
