package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// Options of Open. The zero value of a field takes the default.
type Options struct {
	// Slots and Entries of a file; default 65,536 and 262,144. RocketMQ has
	// 5,000,000 and 20,000,000. Entry 0 is never used. They cannot change while
	// there are files: other numbers make Saved false.
	Slots, Entries int64
	// FeedBytes bounds the memory of what is applied and not built; default 16
	// MiB. What is more is dropped and read from the log with Scan.
	FeedBytes int64
	// PendingBytes bounds the memory of entries that are built and may not be
	// written because the log is not synced, or cannot be because the disk is full;
	// default 32 MiB. Beyond it the builder waits. Not when ReadOnly.
	PendingBytes int64
	// MaxOpenFiles bounds the index files held open; default 64.
	MaxOpenFiles int
	// Synced returns the log position up to which records are durable. No entry
	// beyond it reaches a file. Required unless ReadOnly is set. It is called from
	// any goroutine and must not call back.
	Synced func() int64
	// Scan calls f for the log's records in [from, to), in order, and returns
	// where it ended. Nil: the feed is never dropped, and damage is not mended.
	Scan func(from, to int64, f func(r *message.Record) error) (end int64, err error)
	// Start returns the log's first position. With Scan it lets the index build
	// itself anew when it finds damage. May be nil.
	Start func() int64
	// Skip leaves a record out. It is called by the dispatcher and by the builder,
	// and should answer the same for the same record. May be nil.
	Skip func(r *message.Record) bool
	// NoUniqueID leaves UNIQ_KEY out; KEYS are always indexed.
	NoUniqueID bool
	// Location is the time zone of file names; default time.Local.
	Location *time.Location
	// Clock names files and bounds queries.
	Clock clock.Clock
	// Manual starts no goroutine: the caller runs Step. Wait and a save run it too.
	Manual bool
	// ReadOnly writes nothing at all. A live writer may work beside it.
	ReadOnly bool
	// Logger hears what no caller is told; silent by default.
	Logger *slog.Logger
}

const (
	defaultSlots     = 65_536
	defaultEntries   = 262_144
	defaultFeed      = 16 << 20
	defaultPending   = 32 << 20
	defaultOpenFiles = 64
	maxGeometry      = 1 << 28
)

func orDefault[T int | int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (o *Options) defaults() error {
	orDefault(&o.Slots, defaultSlots)
	orDefault(&o.Entries, defaultEntries)
	orDefault(&o.FeedBytes, defaultFeed)
	orDefault(&o.PendingBytes, defaultPending)
	orDefault(&o.MaxOpenFiles, defaultOpenFiles)
	if o.Location == nil {
		o.Location = time.Local
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if o.PendingBytes < 0 || o.FeedBytes < 0 || o.MaxOpenFiles < 0 {
		errs = append(errs, errors.New("index: a limit is negative"))
	}
	if o.Slots < 1 || o.Slots > maxGeometry {
		errs = append(errs, fmt.Errorf("index: %d slots are out of range", o.Slots))
	}
	if o.Entries < 2 || o.Entries > maxGeometry {
		errs = append(errs, fmt.Errorf("index: %d entries are out of range", o.Entries))
	}
	if o.Synced == nil && !o.ReadOnly {
		errs = append(errs, errors.New("index: Synced is missing"))
	}
	// Less than two pieces would never let the builder complete one.
	o.PendingBytes = max(o.PendingBytes, 2*EntrySize*min(pieceEntries, o.Entries))
	return errors.Join(errs...)
}

// Index is all index files of a store.
type Index struct {
	o     Options
	g     geometry
	fsys  fs.FS // the index files
	state fs.FS // the file "index"

	feed    feed
	handles handles
	files   atomic.Pointer[[]*file] // oldest first; never changed in place

	built  atomic.Int64 // everything below is in files, in memory at least
	loaded atomic.Bool  // the active file's slots are there
	steps  progress
	wake   chan struct{}

	saveMu sync.Mutex // one save, expiry or reset at a time
	last   *image     // guarded by saveMu: what the state folder has; nil for nothing

	roundMu sync.Mutex // the builder
	todo    *chunk     // guarded by roundMu: a chunk that met a full memory
	toload  *row       // guarded by roundMu: how the active file was saved
	scanned int64      // guarded by roundMu: where the last mark of a scan was

	buildMu sync.Mutex // guards the files' contents
	active  *file      // nil before the first key
	number  int64      // of the newest file ever named
	pending int64      // bytes of entries and slots that are only in memory
	points  []point    // what could be saved, oldest first

	savedMu  sync.Mutex
	saved    message.Mark
	hasSaved bool
	reason   string

	errMu  sync.Mutex
	err    error // the last failure to write, nil after the next success
	damage error // nil when the index is whole
	halts  int64 // how often the builder could not go on
	halt   error // why it could not, the last time

	stats counters

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	closed atomic.Bool
}

// Open reads the saved state and looks at the files it names; it reads none of
// them. Slots of the active file come back in the background. A missing, corrupt
// or foreign state is no error: Saved tells, and Reset comes next. Files that the
// state does not name are what a crash left, and are removed.
func Open(files, state fs.FS, o Options) (*Index, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	x := &Index{o: o, g: geometry{o.Slots, o.Entries}, fsys: files, state: state, wake: make(chan struct{}, 1)}
	x.handles.init(files, o.MaxOpenFiles, o.ReadOnly)
	x.files.Store(new([]*file))
	x.ctx, x.cancel = context.WithCancel(context.Background())
	if err := x.restore(); err != nil {
		x.cancel()
		return nil, err
	}
	if !o.Manual {
		x.wg.Add(1)
		go x.run()
	}
	return x, nil
}

// Name is the view's name.
func (x *Index) Name() string { return "index" }

// Path is the place of the index files, for messages.
func (x *Index) Path() string { return x.fsys.Path(".") }

// Saved returns the mark of the state that Open restored or that was saved last,
// or false when there is none to start a replay from. After a save it may lie
// below the mark that was frozen, when the builder was reading the log.
func (x *Index) Saved() (message.Mark, bool) {
	x.savedMu.Lock()
	defer x.savedMu.Unlock()
	return x.saved, x.hasSaved
}

// SavedReason says why Saved is false, for a report.
func (x *Index) SavedReason() string {
	x.savedMu.Lock()
	defer x.savedMu.Unlock()
	return x.reason
}

func (x *Index) setSaved(m message.Mark, ok bool, reason string) {
	x.savedMu.Lock()
	x.saved, x.hasSaved, x.reason = m, ok, reason
	x.savedMu.Unlock()
}

// Damaged returns what is wrong with the index, or nil. With Options.Scan and
// Start it ends by itself; otherwise Reset or Rebuild end it.
func (x *Index) Damaged() error {
	x.errMu.Lock()
	defer x.errMu.Unlock()
	return x.damage
}

// markDamaged stops the builder until the index is built anew.
func (x *Index) markDamaged(err error) {
	x.errMu.Lock()
	first := x.damage == nil
	if first {
		x.damage = err
	}
	x.errMu.Unlock()
	if first {
		x.o.Logger.Warn("index: damaged", "error", err)
		x.Kick()
		x.steps.broadcast()
	}
}

// Err returns why index files cannot be written now, or nil. Nothing is lost:
// the entries are in memory or in the log, and the builder tries again.
func (x *Index) Err() error {
	x.errMu.Lock()
	defer x.errMu.Unlock()
	return x.err
}

func (x *Index) note(err error) {
	x.errMu.Lock()
	x.err = err
	x.errMu.Unlock()
}

// halted notes that the builder cannot go on now and tells those who wait for it.
func (x *Index) halted(err error) {
	x.errMu.Lock()
	x.err, x.halt = err, err
	x.halts++
	x.errMu.Unlock()
	x.steps.broadcast()
}

// haltedSince returns how often the builder has halted and, if that is more than
// n, why.
func (x *Index) haltedSince(n int64) (int64, error) {
	x.errMu.Lock()
	defer x.errMu.Unlock()
	if x.halts > n {
		return x.halts, x.halt
	}
	return x.halts, nil
}

// setFiles replaces the list; the caller holds buildMu.
func (x *Index) setFiles(list []*file) { x.files.Store(&list) }

// Wait returns when everything below position that has been applied by now can
// be found, or with the error of ctx, of damage that nobody mends, or ErrClosed.
// When the builder tries and cannot go on, because the disk is full or fails, the
// error says why; the next call makes it try again. math.MaxInt64 stands for all
// of it. Wait does not wait for the log to sync unless PendingBytes are used up.
func (x *Index) Wait(ctx context.Context, position int64) error {
	x.feed.mu.Lock()
	target := min(position, x.feed.applied)
	x.feed.mu.Unlock()
	return x.await(ctx, func() bool { return x.loaded.Load() && x.built.Load() >= target })
}

// await runs or waits for the builder until done says so.
func (x *Index) await(ctx context.Context, done func() bool) error {
	before, _ := x.haltedSince(math.MaxInt64)
	for {
		c := x.steps.wait()
		if x.closed.Load() {
			return message.ErrClosed
		}
		damage := x.Damaged()
		if damage == nil && done() {
			return nil
		}
		if damage != nil && !x.mends() {
			return fmt.Errorf("index: %w", damage)
		}
		if _, why := x.haltedSince(before); why != nil {
			return fmt.Errorf("index: the builder cannot go on: %w", errors.Join(why, damage))
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if x.o.Manual {
			if !x.Step() && !done() {
				if _, why := x.haltedSince(before); why != nil {
					continue
				}
				return fmt.Errorf("index: the builder cannot go on: %w", message.ErrBusy)
			}
			continue
		}
		x.Kick()
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		case <-x.ctx.Done():
			return message.ErrClosed
		}
	}
}

// progress wakes those that wait for the builder.
type progress struct {
	mu sync.Mutex
	c  chan struct{}
}

func (p *progress) wait() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.c == nil {
		p.c = make(chan struct{})
	}
	return p.c
}

func (p *progress) broadcast() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.c != nil {
		close(p.c)
		p.c = nil
	}
}

type counters struct {
	entries, rebuilds, saves, scans atomic.Int64
}

// Stats is a snapshot of counters.
type Stats struct {
	Files        int
	OpenFiles    int
	Entries      int64 // added since Open
	Applied      int64 // log position that the dispatcher has come to
	Built        int64 // log position up to which keys can be found
	FeedBytes    int64 // memory of what is applied and not built
	PendingBytes int64 // memory of what is built and not in files, without the active file's slots
	Drops        int64 // how often the feed overflowed
	Scans        int64 // how often the log was read instead
	Rebuilds     int64 // how often the index was built anew because of damage
	Saves        int64
	Loading      bool // the active file is still being read
	Err          error
}

// Stats returns the counters.
func (x *Index) Stats() Stats {
	s := Stats{
		Files: len(*x.files.Load()), OpenFiles: x.handles.count(), Entries: x.stats.entries.Load(),
		Built: x.built.Load(), Scans: x.stats.scans.Load(), Rebuilds: x.stats.rebuilds.Load(),
		Saves: x.stats.saves.Load(), Loading: !x.loaded.Load(), Err: x.Err(),
	}
	x.feed.mu.Lock()
	s.Applied, s.FeedBytes, s.Drops = x.feed.applied, x.feed.held, x.feed.drops
	x.feed.mu.Unlock()
	x.buildMu.Lock()
	s.PendingBytes = x.pending
	x.buildMu.Unlock()
	return s
}
