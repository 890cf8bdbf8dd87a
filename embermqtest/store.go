package embermqtest

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/store"
)

// Start is what the clock of a new store says.
var Start = time.Date(2030, time.January, 1, 12, 0, 0, 0, time.UTC)

// Clock stands still until Advance or Set moves it.
type Clock = clock.Manual

// Store is a store in memory, for one test.
type Store struct {
	*store.Store

	t       testing.TB
	disk    *crash.Sim
	clock   *Clock
	opts    []store.Option
	changes *changes
}

// New makes an empty store. Options are those of store.Open. When the test ends
// the store is closed and no goroutine may be left.
func New(t testing.TB, opts ...store.Option) *Store {
	t.Helper()
	before := goleak.IgnoreCurrent()
	s := &Store{t: t, disk: crash.New(1), clock: clock.NewManual(Start), opts: opts, changes: newChanges()}
	s.open()
	last := &s.Store
	t.Cleanup(func() {
		if err := (*last).Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
		goleak.VerifyNone(t, before)
	})
	s.changes.current = last
	return s
}

func (s *Store) open() {
	s.t.Helper()
	e := env.Env{
		Open:  func(string, bool) (fs.FS, error) { return s.disk.FS(), nil },
		Clock: s.clock,
		PID:   1,
	}
	opened, err := store.Open("memory", append(s.opts[:len(s.opts):len(s.opts)], store.WithEnvironment(e))...)
	if err != nil {
		s.t.Fatalf("open the store: %v", err)
	}
	s.Store = opened
}

// Clock is what the store's time comes from.
func (s *Store) Clock() *Clock { return s.clock }

// Advance moves the clock and fires what is due. Whoever waits for what follows
// uses Eventually.
func (s *Store) Advance(d time.Duration) {
	s.clock.Advance(d)
	s.changes.tell()
}

// Kill ends the process in the middle of what it does and opens its directory
// again. Everything that was acknowledged is there.
func (s *Store) Kill() *Store {
	s.t.Helper()
	return s.reopen(s.disk.Kill())
}

// PowerCut cuts the machine's power and opens the directory again. What was not on
// disk may be gone or there in part; the seed decides, so that a test can try many.
func (s *Store) PowerCut(seed uint64) *Store {
	s.t.Helper()
	return s.reopen(s.disk.PowerCut(crash.Random(0.5), seed))
}

// reopen lets the old store end on a disk that nobody looks at any more.
func (s *Store) reopen(disk *crash.Sim) *Store {
	s.t.Helper()
	_ = s.Store.Close()
	next := &Store{t: s.t, disk: disk, clock: s.clock, opts: s.opts, changes: s.changes}
	next.open()
	*s.changes.current = next.Store
	return next
}
