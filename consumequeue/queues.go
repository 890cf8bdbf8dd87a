package consumequeue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// Options of Open. The zero value of a field takes the default.
type Options struct {
	// FileSize is the length of a queue file, a multiple of 20; default 65,520.
	FileSize int64
	// TailBudget bounds the memory of all tails together; default 64 MiB. Above
	// it tails are written out early, above twice of it Pressure is true.
	TailBudget int64
	// MaxOpenFiles bounds the queue files held open; default 512.
	MaxOpenFiles int
	// Synced returns the log position up to which records are durable. No entry
	// beyond it ever reaches a file. Required unless ReadOnly is set. It is
	// called from any goroutine and must not call back.
	Synced func() int64
	// Skip leaves a record out in Apply: the store's dead topics. May be nil.
	Skip func(r *message.Record) bool
	// AtEnd makes Apply use AppendAtEnd for a record. May be nil.
	AtEnd func(r *message.Record) bool
	// TagCode overrides the entry's TagHash, for delay levels. May be nil.
	TagCode func(r *message.Record) int64
	// Rebuild reads the log once from its start up to what has been applied and
	// calls Restore or RestoreAtEnd of the damaged queues for their records, in
	// log order. It must stop when ctx ends. Nil leaves damaged queues damaged.
	Rebuild func(ctx context.Context, qs []*Queue) error
	// Sums keeps checksums of sealed files. Nil keeps none.
	Sums Sums
	// Clock times retries after errors.
	Clock clock.Clock
	// Manual starts no goroutine: the caller runs Step.
	Manual bool
	// ReadOnly writes nothing at all.
	ReadOnly bool
	// LiveWriter, with ReadOnly, says that another process has the queues open and
	// may remove files. Else a missing file is damage.
	LiveWriter bool
	// Logger hears what no caller is told; silent by default.
	Logger *slog.Logger
}

const (
	defaultFileSize   = 65_520
	defaultTailBudget = 64 << 20
	defaultOpenFiles  = 512
)

func (o *Options) defaults() error {
	if o.FileSize == 0 {
		o.FileSize = defaultFileSize
	}
	if o.TailBudget == 0 {
		o.TailBudget = defaultTailBudget
	}
	if o.MaxOpenFiles == 0 {
		o.MaxOpenFiles = defaultOpenFiles
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if o.FileSize < EntrySize || o.FileSize%EntrySize != 0 || o.FileSize > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("consumequeue: file size %d is not a multiple of %d in range", o.FileSize, EntrySize))
	}
	if o.TailBudget < 0 || o.MaxOpenFiles < 0 {
		errs = append(errs, errors.New("consumequeue: a limit is negative"))
	}
	if o.Synced == nil && !o.ReadOnly {
		errs = append(errs, errors.New("consumequeue: Synced is missing"))
	}
	return errors.Join(errs...)
}

// Queues is every queue of a store.
type Queues struct {
	o     Options
	fsys  fs.FS // the queue files
	state fs.FS // the file "queues"

	pool  chunkPool
	files files
	ready readyList

	mu     sync.RWMutex // guards the table
	table  map[message.Queue]*Queue
	list   []*Queue // every queue of table in the order of creation
	recent atomic.Pointer[Queue]

	// epoch counts freezes; pending is the one whose save is wanted, or 0.
	epoch   atomic.Uint64
	pending atomic.Uint64

	minPosition atomic.Int64 // of the last Expire

	saveMu   sync.Mutex // one save at a time
	noSyncFS bool       // guarded by saveMu: SyncFS failed once, files are synced one by one

	savedMu  sync.Mutex
	saved    message.Mark
	hasSaved bool
	reason   string // why nothing was restored

	flushMu sync.Mutex // one writer of queue files at a time
	scratch []byte     // guarded by flushMu
	dirty   []*Queue   // guarded by flushMu: have files that may not be durable

	round   roundState
	rebuild rebuildState
	ease    easing
	stats   counters

	errMu sync.Mutex
	err   error // the last background error, nil after the next success

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	closed atomic.Bool
}

// Open reads the saved image from the state folder with one sequential read and
// restores all queues in memory; it looks into no queue folder. A missing,
// corrupt or foreign image is no error: Saved tells, and Reset comes next.
func Open(queues, state fs.FS, o Options) (*Queues, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	s := &Queues{o: o, fsys: queues, state: state, table: map[message.Queue]*Queue{}}
	s.files.init(o.MaxOpenFiles)
	s.ready.wake = make(chan struct{}, 1)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.epoch.Store(1)
	if err := s.load(); err != nil {
		s.cancel()
		return nil, err
	}
	if !o.Manual && !o.ReadOnly {
		s.wg.Add(1)
		go s.run()
	}
	return s, nil
}

// Name is the view's name.
func (s *Queues) Name() string { return "consumequeue" }

// Saved returns the mark of the image that Open restored or that was saved
// last, or false when there is none to start a replay from.
func (s *Queues) Saved() (message.Mark, bool) {
	s.savedMu.Lock()
	defer s.savedMu.Unlock()
	return s.saved, s.hasSaved
}

// SavedReason says why Saved is false, for a report.
func (s *Queues) SavedReason() string {
	s.savedMu.Lock()
	defer s.savedMu.Unlock()
	return s.reason
}

func (s *Queues) setSaved(m message.Mark, ok bool, reason string) {
	s.savedMu.Lock()
	s.saved, s.hasSaved, s.reason = m, ok, reason
	s.savedMu.Unlock()
}

// Queue returns the handle of a queue and makes the queue when there is none.
// The handle stays good until the topic is deleted.
func (s *Queues) Queue(name message.Queue) *Queue {
	if q, ok := s.Lookup(name); ok {
		return q
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q, ok := s.table[name]; ok {
		return q
	}
	return s.addLocked(name)
}

// addLocked makes an empty queue. The topic's text is copied, because a record's
// aliases its bytes, and shared with the queue made before it when it can be.
func (s *Queues) addLocked(name message.Queue) *Queue {
	if n := len(s.list); n > 0 && s.list[n-1].name.Topic == name.Topic {
		name.Topic = s.list[n-1].name.Topic
	} else {
		name.Topic = strings.Clone(name.Topic)
	}
	q := &Queue{s: s, name: name, firstFile: -1, epoch: s.epoch.Load()}
	if !pathSafe(name.Topic) {
		q.flags |= flagNoFiles
	}
	s.table[name] = q
	s.list = append(s.list, q)
	return q
}

// Lookup returns the handle of a queue that exists.
func (s *Queues) Lookup(name message.Queue) (*Queue, bool) {
	if q := s.recent.Load(); q != nil && q.name == name {
		return q, true
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	q, ok := s.table[name]
	if ok {
		s.recent.Store(q) // under the lock: a Delete after it clears it again
	}
	return q, ok
}

// All returns the handles of all queues.
func (s *Queues) All() []*Queue {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return append([]*Queue(nil), s.list...)
}

// Create makes a queue that begins at offset at, for a topic that continues the
// offsets of a deleted one of its name. A queue without entries whose end is not
// beyond at is moved there; any other is returned as it is.
func (s *Queues) Create(name message.Queue, at int64) *Queue {
	q := s.Queue(name)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.emptyLocked() && at >= q.end && at <= maxOffset && q.flags&flagDead == 0 {
		q.touchLocked()
		q.start, q.end, q.fileEnd = at, at, at
	}
	return q
}

// Apply adds a record's entry to its queue. It touches memory only and cannot
// fail; the dispatcher calls it in log order. r.Home is the queue, or something
// that knows it (ConsumeQueue() *Queue), or nil, and then the queue is looked up
// and made. Records that do not belong into a queue are left out.
func (s *Queues) Apply(r *message.Record) {
	if !r.Dispatchable() || s.o.Skip != nil && s.o.Skip(r) {
		return
	}
	q := s.home(r)
	if s.o.AtEnd != nil && s.o.AtEnd(r) {
		q.AppendAtEnd(s.Entry(r))
		return
	}
	q.Append(r.Offset(), s.Entry(r))
}

// Entry is the entry that Apply makes of a record.
func (s *Queues) Entry(r *message.Record) Entry {
	e := Entry{Position: r.Position(), Size: int32(r.Size())}
	if s.o.TagCode != nil {
		e.TagHash = s.o.TagCode(r)
	} else {
		e.TagHash = message.TagHash(r.Tag())
	}
	return e
}

func (s *Queues) home(r *message.Record) *Queue {
	switch h := r.Home.(type) {
	case *Queue:
		return h
	case interface{ ConsumeQueue() *Queue }:
		if q := h.ConsumeQueue(); q != nil {
			return q
		}
	}
	return s.Queue(r.Queue())
}

// Path is the place of the queue files, for messages.
func (s *Queues) Path() string { return s.fsys.Path(".") }

// OldestInMemory is the lowest log position of an entry that is not in a queue
// file yet; false when all entries are.
func (s *Queues) OldestInMemory() (position int64, ok bool) {
	for _, q := range s.All() {
		q.mu.Lock()
		for at := q.fileEnd; at < q.end; at++ {
			var e [1]Entry
			if q.copyTailLocked(at, e[:]) == 0 {
				break
			}
			if e[0].Blank() {
				continue
			}
			if !ok || e[0].Position < position {
				position, ok = e[0].Position, true
			}
			break
		}
		q.mu.Unlock()
	}
	return position, ok
}

// Abandon closes the files and writes nothing: the next open has what was saved
// last. It may be called more than once.
func (s *Queues) Abandon() error {
	s.rebuild.mu.Lock()
	closed := s.closed.Swap(true)
	s.rebuild.mu.Unlock()
	if closed {
		return nil
	}
	s.cancel()
	s.wg.Wait()
	s.files.closeAll()
	return nil
}

// Close stops the flusher, writes all tails as far as the log is synced, syncs
// the queue files and closes them. It does not save: Flush, Freeze and save come
// before it. It may be called more than once.
func (s *Queues) Close() error {
	s.rebuild.mu.Lock()
	closed := s.closed.Swap(true)
	s.rebuild.mu.Unlock()
	if closed {
		return nil
	}
	s.cancel()
	s.wg.Wait()
	var err error
	if !s.o.ReadOnly {
		err = s.Flush()
		s.saveMu.Lock()
		err = errors.Join(err, s.syncFiles())
		s.saveMu.Unlock()
	}
	s.files.closeAll()
	return err
}
