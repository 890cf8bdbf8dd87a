package store_test

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var faultStep = flag.Int("fault.step", 4, "TestEveryOperationFails fails every so many-th operation; 1 is all of them")

// life is what a short life of a store has promised.
type life struct {
	acked []message.Receipt
	texts map[message.Queue]map[int64]string
	gone  map[string]bool // topics whose deletion was asked for
	// deleted says that it was also acknowledged.
	deleted bool
	// offset is what was committed and then synced, and may be what was committed.
	offset, mayOffset int64
	start             int64 // retention may have dropped what lies below
	errs              []error
}

// live goes through everything that writes. It goes on after errors, as a host
// would, and notes them.
func (l *life) live(e env.Env) {
	l.texts, l.gone = map[message.Queue]map[int64]string{}, map[string]bool{}
	for round := range 2 {
		s, err := store.Open("faulty", store.WithEnvironment(e), store.WithSegmentSize(4<<10), store.WithMaxUnsynced(4<<10),
			store.WithQueueFileSize(200), store.WithTopicQueues(2), store.WithRetentionBytes(8<<10), store.WithForceExpiry())
		if err != nil {
			l.errs = append(l.errs, err)
			continue
		}
		note := func(err error) bool {
			if err != nil {
				l.errs = append(l.errs, err)
			}
			return err == nil
		}
		for i := range 14 {
			l.put(s, "orders", i%2, fmt.Sprintf("%d/%d", round, i))
			if round == 0 && i == 4 {
				l.put(s, "brief", 0, "x")
			}
			switch i {
			case 3, 9:
				note(s.Step(ctx))
				note(s.Checkpoint(ctx))
			case 5:
				note(s.CreateTopic(ctx, store.Topic{Name: fmt.Sprintf("topic-%d", round)}))
			case 6:
				q := message.Queue{Topic: "orders"}
				if _, end, err := s.Bounds(q); err == nil {
					l.mayOffset = max(l.mayOffset, end)
					if note(s.Commit(ctx, "readers", map[message.Queue]int64{q: end})) && note(s.Sync(ctx)) {
						l.offset = end
					}
				}
			case 7:
				if _, _, err := s.Bounds(message.Queue{Topic: "brief"}); err == nil {
					l.gone["brief"] = true
					l.deleted = note(s.DeleteTopic(ctx, "brief")) || l.deleted
				}
			case 11:
				note(s.Retain())
			}
			if len(l.errs) == 1 {
				note(l.look(s)) // right behind the failure
			}
		}
		l.start = max(l.start, s.Log().Start())
		note(l.look(s))
		note(s.Close())
	}
}

func (l *life) put(s *store.Store, topic string, id int, text string) {
	m := &message.Message{Topic: topic, QueueID: int32(id), Body: []byte(fmt.Sprintf("%-300s", text))}
	r, err := s.Put(ctx, m)
	if err != nil {
		l.errs = append(l.errs, err)
		return
	}
	l.acked = append(l.acked, r)
	if l.texts[r.Queue] == nil {
		l.texts[r.Queue] = map[int64]string{}
	}
	l.texts[r.Queue][r.Offset] = string(m.Body)
}

// errLost is a promise that was not kept.
var errLost = errors.New("acknowledged message lost")

// look reads everything that was acknowledged.
func (l *life) look(s *store.Store) error {
	for _, r := range l.acked {
		if r.Position < s.Log().Start() || l.gone[r.Queue.Topic] {
			continue
		}
		b, err := s.Read(ctx, r.Queue, r.Offset, message.Limit{Count: 1}, nil)
		if errors.Is(err, store.ErrOutOfRange) && r.Position < s.Log().Start()+8<<10 {
			continue // retention was about to drop it
		}
		if err != nil {
			return fmt.Errorf("%w: %s at %d (position %d, log from %d): %w", errLost, r.Queue, r.Offset, r.Position, s.Log().Start(), err)
		}
		if len(b.Records) != 1 || string(b.Records[0].Body()) != l.texts[r.Queue][r.Offset] {
			return fmt.Errorf("%w: %s at %d (position %d, log from %d)", errLost, r.Queue, r.Offset, r.Position, s.Log().Start())
		}
	}
	return nil
}

const changes = fs.OpCreate | fs.OpWrite | fs.OpTruncate | fs.OpPreallocate | fs.OpSyncData | fs.OpSync | fs.OpSyncDir | fs.OpSyncFS |
	fs.OpRename | fs.OpLink | fs.OpRemove | fs.OpMkdir

// anySync are the operations that make something durable.
const anySync = fs.OpSyncData | fs.OpSync | fs.OpSyncDir | fs.OpSyncFS

// fault is a way to fail: with what, for how long, and what a failed sync leaves.
type fault struct {
	name    string
	cause   error
	forEver bool
	sync    crash.SyncFault
}

var faults = []fault{
	{"EIO", syscall.EIO, false, crash.SyncDropped},
	{"ENOSPC", syscall.ENOSPC, false, 0},
	{"EIO, pages reverted", syscall.EIO, false, crash.SyncReverted},
	{"EIO for ever", syscall.EIO, true, 0},
	{"ENOSPC for ever", syscall.ENOSPC, true, 0},
	{"EROFS", syscall.EROFS, false, 0},
	{"EROFS for ever", syscall.EROFS, true, 0},
	{"EMFILE", syscall.EMFILE, false, 0},
	{"EDQUOT", syscall.EDQUOT, false, 0},
}

// TestEveryOperationFails lets each write, sync and change of a name below the
// store fail once, ours and Pebble's, as a dying disk does (a failed sync loses
// the pages) and as a full one. The process lives, errors are typed, what was
// acknowledged stays readable, and the next Open on a healthy disk has all of it,
// after a kill and after a power cut.
func TestEveryOperationFails(t *testing.T) {
	lives, syncs := 0, 0 // lives with a failure, and those in which a sync failed
	for i, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			total := 0
			step := *faultStep
			if i > 1 {
				step *= 8 // the first two are the usual ones
			}
			if *faultStep == 1 {
				step = 1
			}
			for n := 1; ; n += step {
				ops, what := oneFails(t, f, n)
				if ops < n {
					total = ops
					break
				}
				if lives++; what&anySync != 0 {
					syncs++
				}
			}
			t.Logf("%d operations, every %d. failed", total, step)
			require.Greater(t, total, 200)
		})
	}
	t.Logf("%d failures in %d ways, %d of them of a sync: about %d sites of a sync in each way", lives, len(faults), syncs, syncs/len(faults))
}

// oneFails lets operation n fail and returns how many there were, and which it was.
func oneFails(t *testing.T, way fault, n int) (ops int, what fs.Op) {
	cause := way.cause
	t.Helper()
	sim := crash.New(uint64(n))
	f := fs.NewFaulty(sim.FS())
	var mu sync.Mutex
	var failed string
	f.Before(func(op fs.Op, name string) error {
		if op&changes == 0 {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if ops++; ops < n || ops > n && !way.forEver {
			return nil
		}
		if way.forEver && cause == syscall.ENOSPC && strings.HasPrefix(name, "ember/meta/") {
			return nil // meta waits for room until the caller's context ends
		}
		if ops == n {
			what = op
		}
		failed = fmt.Sprintf("operation %d, %x of %s", n, op, name)
		if op&(fs.OpSync|fs.OpSyncData) != 0 && cause == syscall.EIO && !way.forEver {
			sim.FailSync(name, way.sync)
			return nil
		}
		return cause
	})
	e := env.Env{Open: func(string, bool) (fs.FS, error) { return f, nil }, Clock: clock.Real{}, Manual: true, PID: 7}
	var l life
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.live(e)
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%v: the store hangs", failed)
	}
	f.Before(nil)
	for _, err := range l.errs {
		// On a disk that takes no change any more too: queues are then rebuilt in memory.
		require.NotErrorIs(t, err, errLost, failed)
		typed := errors.Is(err, store.ErrPoisoned) || errors.Is(err, store.ErrDiskFull) || errors.Is(err, cause)
		require.True(t, typed, "%s: %v", failed, err)
	}
	for _, died := range []*crash.Sim{sim.Kill(), sim.PowerCut(crash.KeepNone, 1), sim.PowerCut(crash.Random(0.5), uint64(n))} {
		e.Open = func(string, bool) (fs.FS, error) { return died.FS(), nil }
		s, err := store.Open("faulty", store.WithEnvironment(e))
		require.NoError(t, err, failed)
		require.NoError(t, l.look(s), failed)
		for _, name := range s.Topics() {
			require.False(t, name.Name == "brief" && l.deleted, "%s: a deleted topic is back", failed)
		}
		offset, ok, err := s.Committed(ctx, "readers", message.Queue{Topic: "orders"})
		require.NoError(t, err)
		require.True(t, ok || l.offset == 0, failed)
		require.GreaterOrEqual(t, offset, l.offset, failed)
		require.LessOrEqual(t, offset, l.mayOffset, failed)
		put(t, s, &message.Message{Topic: "orders", Body: []byte("after")})
		for _, q := range s.Queues().All() {
			require.NoError(t, q.Ready(ctx))
		}
		checkOK(t, s)
		require.NoError(t, s.Close(), failed)
	}
	return ops, what
}
